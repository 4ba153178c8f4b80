"""A night reads today's files only, and knows the same as one that reads everything."""

import json
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from same_inputs import BY_DAY, assert_all_the_same, assert_same, assert_same_features

from features.config import CandidatesConfig, FeaturesConfig
from features.errors import ContractError, NightrankError
from features.log.event_log import day_of
from features.log.inventory import FeatureInventory
from features.signals.family import Plan
from pipelines.base.config import load_config
from pipelines.inputs.check import read_inputs
from pipelines.inputs.read import read_events, read_for, read_night
from pipelines.registry.registry import Registry
from pipelines.registry.versions import load_version, plan_of_version
from pipelines.verbs.score import score

START = datetime(2024, 3, 25, tzinfo=UTC)  # the clocks change within the week
N_DAYS = 9


def day_of_events(day, *, seed=0, count=60):
    rng = np.random.default_rng([seed, day])
    seconds = np.sort(rng.integers(0, 86_400, count))
    return pl.DataFrame(
        {
            "event_id": [f"e{day:03}{n:05}" for n in range(count)],
            "user_id": [f"u{n}" for n in rng.integers(0, 12, count)],
            "item_id": [f"i{n}" for n in rng.integers(0, 22, count)],  # i20 and i21 are not in the catalogue
            "event": rng.choice(["impression", "click", "purchase"], count),
            "timestamp": [START + timedelta(days=day, seconds=int(second)) for second in seconds],
            "value": pl.Series(rng.choice([0.0, 1.5, 2.25], count)).replace(0.0, None),
        },
        schema_overrides={"timestamp": pl.Datetime("us", "UTC")},
    )


@dataclass
class Shop:
    folder: Path
    capfd: object

    def write(self, day, frame=None, name=None):
        frame = day_of_events(day) if frame is None else frame
        path = self.folder / "events" / f"{name or f'{day:03}'}.parquet"
        path.parent.mkdir(exist_ok=True)
        frame.write_parquet(path)
        return path

    def catalogue(self, count, *more):
        ids = [*(f"i{n}" for n in range(count)), *more]
        items = pl.DataFrame({"item_id": ids, "title": ["a thing"] * len(ids)})
        items.write_parquet(self.folder / "items.parquet")

    def configure(self, **keys):
        told = {
            "data": {
                "items": {"path": "items.parquet"},
                "events": {"path": "events"},
                "users": {"path": "users.parquet"},
                "quarantine": {"max_share": 0.5},
            },
            "features": {"attributes": {"users": ["age"]}},
            "calendar": {"timezone": "Europe/London"},
            **keys,
        }
        (self.folder / "nightrank.yaml").write_text(yaml.safe_dump(told))

    @property
    def config(self):
        return load_config(self.folder / "nightrank.yaml")

    @property
    def entries(self):
        """What the state knows, but for the sum of its cells."""
        body = json.loads(self.manifest.read_text())["body"]
        return {name: value for name, value in body.items() if name != "snapshot"}

    @property
    def manifest(self):
        return self.folder / "out" / "state" / "manifest.json"

    def night(self, **allowed):
        """What a night knows, after holding it against a full reading; and what it says of its state."""
        self.capfd.readouterr()
        found = read_night(self.config, **allowed)
        told = [json.loads(line) for line in self.capfd.readouterr().err.splitlines()]
        (said,) = [line for line in told if line["event"] == "state"]
        full = read_inputs(self.config, **allowed)
        assert_same(found, full)
        assert_same_features(found, full)
        state = self.entries
        assert_all_the_same(read_events(self.config, **allowed), full)
        assert self.entries == state  # a training leaves the night's state as it is
        return found, said


@pytest.fixture
def shop(tmp_path, capfd):
    made = Shop(tmp_path, capfd)
    made.catalogue(20)
    pl.DataFrame({"user_id": ["u3", "never"], "age": [30.0, None]}).write_parquet(tmp_path / "users.parquet")
    made.configure()
    for day in range(N_DAYS - 1):
        made.write(day)
    return made


def test_the_first_night_folds_all_and_the_next_one_only_what_is_new(shop):
    _, said = shop.night()
    assert said["folded"] == N_DAYS - 1
    assert said["rebuilt_because"] == "there is none yet"
    shop.write(N_DAYS - 1)
    _, said = shop.night()
    assert (said["folded"], said["files"], said["files_new"], said["files_late"]) == (1, N_DAYS, 1, 0)
    _, said = shop.night()
    assert said["folded"] == 0


@pytest.mark.slow
def test_days_far_from_all_others_are_left_out_of_a_night_as_of_a_training(shop):
    """A clock that stands 40 days ahead, and one at 1975; a later night that folds nothing knows it still."""
    odd = day_of_events(N_DAYS - 1).with_columns(
        pl.when(pl.col("event_id").str.ends_with("7"))
        .then(pl.col("timestamp").dt.offset_by("40d"))
        .when(pl.col("event_id").str.ends_with("00009"))
        .then(pl.lit(datetime(1975, 1, 1, tzinfo=UTC)))
        .otherwise("timestamp")
        .alias("timestamp")
    )
    shop.write(N_DAYS - 1, odd.filter(pl.int_range(pl.len()) < 30))
    for _ in range(2):
        found, _ = shop.night()
        assert 1 < found.log.far.events <= 4
        assert found.log.far == read_inputs(shop.config).log.far
        assert found.log.latest_day == day_of(START.date()) + N_DAYS - 1


def test_a_night_reads_no_file_that_it_knows(shop, monkeypatch):
    shop.night()
    newest = shop.write(N_DAYS - 1)
    read = []
    opened = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or opened(path))
    read_night(shop.config)
    assert [path for path in read if path.parent.name == "events"] == [newest]


def test_a_night_without_news_writes_nothing(shop, snapshot):
    shop.night()
    before = snapshot(shop.folder / "out" / "state")
    shop.night()
    assert snapshot(shop.folder / "out" / "state") == before


@pytest.mark.slow
def test_night_by_night_keeps_the_cells_of_one_folding_of_all(shop):
    shop.night()
    for day in range(N_DAYS - 1, N_DAYS + 3):
        shop.write(day)
        one, _ = shop.night()
    for path in (shop.folder / "out" / "state").iterdir():
        path.unlink()
    other, said = shop.night()
    assert said["folded"] == N_DAYS + 3
    assert one.log.cells.cells.tobytes() == other.log.cells.cells.tobytes()
    assert one.log.cells.counts.tobytes() == other.log.cells.counts.tobytes()
    assert one.log.cells.kinds == other.log.cells.kinds


@pytest.mark.slow
def test_the_sum_of_known_cells_takes_up_new_users_items_and_event_types(shop):
    shop.night()
    for day in range(N_DAYS - 1, N_DAYS + 5):
        frame = day_of_events(day, seed=2)
        new = frame.head(9).with_columns(
            event_id="new" + pl.col("event_id"),
            user_id=pl.format("u{}", pl.int_range(pl.len()) * 7 + day),  # some sort before the others
            item_id=pl.lit(f"h{day}"),
            event=pl.lit(f"kind-{day}"),
        )
        shop.write(day, pl.concat([frame, new]))
        shop.catalogue(20, *(f"h{known}" for known in range(day + 1)))
        _, said = shop.night()
        assert said["folded"] == 1
    assert read_night(shop.config).log.cells.kinds[3:] == tuple(f"kind-{day}" for day in range(N_DAYS - 1, N_DAYS + 5))


def test_a_night_reads_the_sum_instead_of_what_it_was_made_of(shop, monkeypatch):
    shop.night()
    entries = json.loads(shop.manifest.read_text())["body"]["entries"]
    cells = {entry["cells"] for entry in entries.values()}
    shop.write(N_DAYS - 1)
    read = []
    opened = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path.stem) or opened(path))
    read_night(shop.config)
    assert len(cells) == N_DAYS - 1
    assert not cells & set(read)


def test_a_sum_that_is_damaged_is_made_again_from_the_cells(shop):
    shop.night()
    for name in json.loads(shop.manifest.read_text())["body"]["snapshot"].values():
        path = shop.manifest.parent / f"{name}.parquet"
        if isinstance(name, str) and path.exists():
            path.write_bytes(b"")
    assert shop.night()[1]["folded"] == 0
    shop.write(N_DAYS - 1)
    assert shop.night()[1]["folded"] == 1


def test_what_nobody_names_any_more_is_removed_after_a_day(shop):
    shop.night()
    folder = shop.manifest.parent
    (folder / "0.parquet").write_bytes(b"old")
    (folder / "1.parquet").write_bytes(b"new")
    os.utime(folder / "0.parquet", (0, 0))
    shop.write(N_DAYS - 1)
    shop.night()
    assert not (folder / "0.parquet").exists()
    assert (folder / "1.parquet").exists()


def test_fault_16_a_late_event_counts_on_its_day_and_is_told(shop):
    shop.night()
    late = day_of_events(1, seed=5, count=7).with_columns(event_id="late" + pl.col("event_id"))
    shop.write(N_DAYS - 1, pl.concat([late, day_of_events(N_DAYS - 1)]))
    _, said = shop.night()
    assert (said["folded"], said["files_late"]) == (1, 1)


@pytest.mark.parametrize("kept_time", [False, True])
def test_a_file_that_changed_is_folded_again(shop, kept_time):
    shop.night()
    path = shop.folder / "events" / "003.parquet"
    before = path.stat()
    shop.write(3, day_of_events(3, seed=1))
    if kept_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    _, said = shop.night()
    assert (said["folded"], said["files_changed"]) == (1, 1)


def test_a_file_that_was_only_touched_is_not_folded(shop):
    shop.night()
    os.utime(shop.folder / "events" / "003.parquet")
    assert shop.night()[1]["folded"] == 0


def test_a_file_that_went_takes_its_events_along(shop):
    shop.night()
    (shop.folder / "events" / "000.parquet").unlink()
    _, said = shop.night()
    assert (said["folded"], said["files_gone"]) == (0, 1)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_damaged_or_missing_is_made_again(shop, seed):
    shop.night()
    rng = np.random.default_rng(seed)
    for path in rng.choice(sorted(shop.manifest.parent.glob("*.parquet")), 6, replace=False):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2]) if rng.random() < 0.5 else path.unlink()
    shop.write(N_DAYS - 1)
    _, said = shop.night()
    assert said["folded"] > 1
    assert shop.night()[1]["folded"] == 0


def test_rows_set_aside_that_are_lost_are_found_again(shop):
    shop.night()
    told = json.loads(shop.manifest.read_text())["body"]["entries"]["003.parquet"]
    (shop.manifest.parent / f"{told['aside']}.parquet").unlink()
    _, said = shop.night()
    assert (said["folded"], said["files_damaged"]) == (1, 1)
    assert shop.night()[1]["folded"] == 0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"body": {}, "sha256": ""}'])
def test_a_damaged_manifest_is_told_and_everything_folded(shop, content):
    shop.night()
    shop.manifest.write_text(content)
    assert shop.night()[1]["rebuilt_because"] == "its manifest is damaged or of another version"


def test_a_manifest_that_someone_edited_is_not_believed(shop):
    shop.night()
    told = json.loads(shop.manifest.read_text())
    told["body"]["entries"]["000.parquet"]["rows"] += 1
    shop.manifest.write_text(json.dumps(told))
    assert "damaged" in shop.night()[1]["rebuilt_because"]


def test_another_calendar_folds_everything(shop):
    shop.night()
    shop.configure(calendar={"timezone": "Asia/Tokyo"})
    assert "calendar changed" in shop.night()[1]["rebuilt_because"]


def test_other_gains_and_quarantine_shares_fold_nothing(shop):
    shop.night()
    shop.configure(labels={"gains": {"purchase": 5}})
    assert shop.night()[1]["folded"] == 0


@pytest.mark.slow
def test_items_may_come_and_go(shop):
    shop.night()
    shop.catalogue(22)
    assert shop.night()[1]["folded"] == 0  # their events were kept aside, and counted all the while
    shop.catalogue(19)
    assert shop.night()[1]["files_of_items_no_longer_there"] == N_DAYS - 1
    shop.catalogue(21)
    assert shop.night()[1]["folded"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("names", ["ordered", "random", "absent"])
def test_an_event_that_stands_in_two_files_is_found(shop, names):
    rng = np.random.default_rng(0)

    def named(frame):
        if names == "absent":
            return frame.drop("event_id")
        given = [f"e{n:016x}" for n in rng.integers(0, 2**62, frame.height)]
        return frame if names == "ordered" else frame.with_columns(event_id=pl.Series(given))

    days = [named(day_of_events(day)) for day in range(N_DAYS + 1)]
    for day in range(N_DAYS - 1):
        shop.write(day, days[day])
    shop.night()
    shop.write(N_DAYS - 1, pl.concat([days[2].head(3), days[N_DAYS - 1]]))
    found, said = shop.night()
    assert said["rebuilt_because"] == "3 events stand in two files"
    assert found.tables["events"].n_duplicates == 3
    assert shop.night()[1]["folded"] == 0
    shop.write(N_DAYS, days[N_DAYS])
    assert shop.night()[1]["folded"] == 1
    shop.write(2, days[2].tail(50))  # the first file of the pair changes: its twins are alone now
    found, said = shop.night()
    assert "one of the log's files changed" in said["rebuilt_because"]
    assert found.tables["events"].n_duplicates == 0


def test_rows_that_disagree_about_an_event_are_set_aside_in_both_files(shop):
    shop.night()
    other = day_of_events(2).head(1).with_columns(timestamp=pl.lit(START + timedelta(days=N_DAYS - 1)))
    shop.write(N_DAYS - 1, pl.concat([other, day_of_events(N_DAYS - 1)], how="diagonal_relaxed"))
    found, said = shop.night()
    assert said["rebuilt_because"] == "1 events stand in two files"
    assert dict(found.tables["events"].rules.select("rules", "rows").rows())["event_id_unique"] == 2


@pytest.mark.parametrize(
    "other",
    [
        lambda frame: frame.drop("value"),
        lambda frame: frame.with_columns(device=pl.lit("phone")),
    ],
)
def test_files_that_differ_in_columns_are_judged_together(shop, other):
    shop.night()
    shop.write(N_DAYS - 1, other(day_of_events(N_DAYS - 1)))
    assert shop.night()[1]["rebuilt_because"] == "its files differ in their columns"
    shop.write(N_DAYS, day_of_events(N_DAYS))
    assert shop.night()[1]["rebuilt_because"] == "its files differ in their columns"


@pytest.mark.slow
@pytest.mark.parametrize("changed", ["user_id", "item_id"])
def test_fault_47_ids_that_become_integers_or_text_are_the_same_ids(shop, changed):
    """`shop.night` holds each night against a reading of everything."""

    def as_numbers(frame):
        return frame.with_columns(pl.col("user_id", "item_id").str.extract(r"(\d+)").cast(pl.Int64))

    for name, key in (("items", "item_id"), ("users", "user_id")):
        table = pl.read_parquet(shop.folder / f"{name}.parquet")
        number = pl.col(key).str.extract(r"(\d+)").cast(pl.Int64)
        table.with_columns(number).write_parquet(shop.folder / f"{name}.parquet")
    for day in range(N_DAYS - 1):
        shop.write(day, as_numbers(day_of_events(day)))
    first, _ = shop.night()
    assert first.log.user_ids.dtype == first.log.items.schema["item_id"] == pl.Int64
    shop.write(N_DAYS - 1, as_numbers(day_of_events(N_DAYS - 1)).with_columns(pl.col(changed).cast(pl.String)))
    second, said = shop.night()
    assert said["rebuilt_because"] == "an id is text that was an integer, or the other way round"
    found = {"user_id": second.log.user_ids.dtype, "item_id": second.log.items.schema["item_id"]}
    assert found == {"user_id": pl.Int64, "item_id": pl.Int64} | {changed: pl.String}
    shop.write(N_DAYS, as_numbers(day_of_events(N_DAYS)).with_columns(pl.col(changed).cast(pl.Float64)))
    third, _ = shop.night()
    assert third.log.user_ids.len() == second.log.user_ids.len()


def test_fault_47_one_number_written_twice_in_two_files_is_refused_as_by_a_full_reading(shop):
    shop.write(0, day_of_events(0).with_columns(user_id=pl.lit("7")))
    shop.write(
        1,
        day_of_events(1).with_columns(
            user_id=pl.when(pl.int_range(pl.len()) > 29).then("user_id").otherwise(pl.lit("7.0"))
        ),
    )
    for read in (read_night, read_inputs):
        with pytest.raises(ContractError, match=r"1 ids in column 'user_id' end in `\.0`"):
            read(shop.config)


def test_rows_that_break_the_contract_keep_their_numbers(shop):
    bad = day_of_events(4).with_columns(
        user_id=pl.when(pl.int_range(pl.len()) % 7 == 0).then(None).otherwise("user_id")
    )
    shop.write(4, bad)
    shop.night()
    shop.write(N_DAYS - 1)
    shop.write(0, day_of_events(0, seed=3, count=30))  # rows after it move up
    found, _ = shop.night()
    assert "user_id_present" in found.tables["events"].rules["rules"]


def test_too_many_bad_rows_stop_the_night(shop):
    shop.night()
    shop.configure(
        data={**yaml.safe_load((shop.folder / "nightrank.yaml").read_text())["data"], "quarantine": {"max_share": 0.01}}
    )
    with pytest.raises(ContractError, match="item_not_in_items"):
        read_night(shop.config)


def test_a_file_without_rows_is_refused_unless_allowed(shop):
    shop.night()
    shop.write(N_DAYS - 1, day_of_events(0).head(0))
    for _ in range(2):  # also once it is known
        with pytest.raises(ContractError, match="1 of 9 files have no rows"):
            read_night(shop.config)
        shop.night(allow_empty=True)


def test_faults_are_those_of_a_full_reading(shop):
    def fault(read):
        with pytest.raises(NightrankError) as raised:
            read(shop.config)
        return type(raised.value), str(raised.value)

    shop.night()
    shop.configure(labels={"gains": {"dance": 1}})
    assert fault(read_night) == fault(read_inputs)
    shop.configure()
    pl.DataFrame({"user_id": [3]}).write_parquet(shop.folder / "users.parquet")
    assert fault(read_night) == fault(read_inputs)
    pl.DataFrame({"item_id": [3], "title": ["a"]}).write_parquet(shop.folder / "items.parquet")
    assert fault(read_night) == fault(read_inputs)
    (shop.folder / "events" / "007.parquet").write_bytes(b"PAR1")
    assert fault(read_night) == fault(read_inputs)


def test_nothing_of_the_data_is_told(shop):
    shop.night()
    shop.write(N_DAYS - 1, pl.concat([day_of_events(2).head(3), day_of_events(N_DAYS - 1)]))
    shop.capfd.readouterr()
    read_night(shop.config)
    told = shop.capfd.readouterr().err
    assert "stand in two files" in told
    assert "u1" not in told
    assert "e00" not in told


def inventory(*inputs):
    return FeatureInventory(kinds=("click",), counted=(), inputs=inputs, text=("title",), vocabularies={})


@pytest.mark.parametrize(
    ("features", "by_query", "inputs", "needs"),
    [
        ({}, 40, ("items.price", "users.age", "events.value"), []),
        ({}, 0, ("events.text",), ["text"]),
        ({}, 0, ("events.query",), ["query", "timestamp"]),
        ({"families": ("pair", "user")}, 0, ("events.query", "events.text"), []),
        ({"families": ("pair", "user")}, 40, ("events.query", "events.text"), ["query", "timestamp"]),
        ({"sentiment": "mood"}, 40, (), ["mood"]),
    ],
)
def test_only_a_version_that_needs_single_events_reads_everything(shop, features, by_query, inputs, needs):
    plan = Plan(FeaturesConfig(**features), inventory(*inputs))
    shop.capfd.readouterr()
    found = read_for(plan, shop.config, candidates=CandidatesConfig(by_query=by_query))
    told = {line["event"]: line for line in map(json.loads, shop.capfd.readouterr().err.splitlines())}
    assert found.log.labels is None
    assert told.get("every file is read", {}).get("columns", []) == needs
    assert ("read_again" in told["state"]) == bool(needs)
    assert told["state"]["folded"] == told["state"]["files"] == N_DAYS - 1


def test_a_sentiment_that_todays_configuration_reads_is_held_against_its_contract(shop):
    shop.configure(features={"sentiment": "mood"})
    for day in range(N_DAYS):
        shop.write(day, day_of_events(day).with_columns(mood=pl.lit(0.5)))
    found = read_for(Plan(FeaturesConfig(), inventory()), shop.config)
    assert found.log.events["mood"].to_list() == [0.5] * found.log.events.height
    assert found.log.events.height == sum(found.log.event_counts.values())
    assert_all_the_same(read_events(shop.config), read_inputs(shop.config))


class EveryColumn:
    """A ranker that a difference in any column of any row moves."""

    features = ("user_events_all",)  # whose statistics a night keeps

    def predict(self, rows):
        numbers = rows.drop("request", "user", "item", "as_of_day").to_numpy().astype(np.float64)
        return np.nan_to_num(numbers, nan=-1.0) @ np.sqrt(np.arange(1, numbers.shape[1] + 1))


@pytest.mark.slow
def test_rankings_are_the_same_with_the_state_and_without_it(trained_project, tmp_path):
    project = trained_project.copy(tmp_path / "project")
    config = project.config
    name, bundle = load_version(Registry(config), "champion")
    families = {**bundle.config["features"], "families": list(BY_DAY.families)}
    candidates = {**bundle.config["candidates"], "by_query": 0}
    kept = {**bundle.config, "features": families, "candidates": candidates}
    bundle = replace(bundle, ranker=EveryColumn(), config=kept)
    plan = plan_of_version(config, bundle)
    lists = []
    by_state = partial(read_for, plan, candidates=CandidatesConfig(by_query=0))
    for read in (read_inputs, by_state, by_state):
        inputs = read(config)
        assert (inputs.log.labels is None) == (read is not read_inputs)
        night = score(inputs, config, when=project.day, version=name, bundle=bundle)
        assert night["shards_written"] == night["shards"]
        folder = Path(night["attempt"])
        lists.append({path.name: path.read_bytes() for path in folder.glob("*.parquet")})
        folder.rename(tmp_path / f"attempt-{len(lists)}")
    assert lists[0]
    assert lists[0] == lists[1] == lists[2]


def test_the_command_reads_everything_for_a_version_that_ranks_by_queries(trained_project, tmp_path, command):
    project = trained_project.copy(tmp_path / "project")
    ended = command(project, "score", "--date", str(project.day))
    assert ended.code == 0, ended.err
    (said,) = [json.loads(line) for line in ended.err.splitlines() if line.startswith('{"event": "every file')]
    assert said["columns"] == ["query", "timestamp"]
