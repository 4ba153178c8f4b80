from datetime import time
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from features.errors import ConfigError
from features.frozen import FrozenConfig, Owner
from pipelines.base.config import ClickConfig, Config, load_config
from pipelines.base.removed import REMOVED

DATA = {"items": {"path": "items.parquet"}, "events": {"path": "log/*.csv"}}


@pytest.fixture
def load(tmp_path):
    """Load a configuration from its keys beside `data`, and overrides."""

    def write_and_load(*overrides, **keys):
        path = tmp_path / "night.yaml"
        path.write_text(yaml.safe_dump({"data": DATA} | keys), encoding="utf-8")
        return load_config(path, overrides)

    return write_and_load


def refusal(load, *overrides, **keys):
    with pytest.raises(ConfigError) as caught:
        load(*overrides, **keys)
    return str(caught.value).splitlines()


def test_two_paths_are_enough(load):
    config = load()
    assert config.data.items.text_fields == ("title",)
    assert config.labels.gains == {"click": 1, "cart": 2, "purchase": 3}
    assert config.data.users is None


@pytest.mark.parametrize(
    ("keys", "path", "nearest"),
    [
        ({"rankers": {}}, "rankers", "ranker"),
        ({"ranker": {"num_leafs": 3}}, "ranker.num_leafs", "num_leaves"),
        ({"calendar": {"time_zone": "UTC"}}, "calendar.time_zone", "timezone"),
        ({"data": DATA | {"users": {"path": "u.csv", "colums": {}}}}, "data.users.colums", "columns"),
        ({"data": {**DATA, "items": {"path": "i.csv", "texts": []}}}, "data.items.texts", "text"),
        ({"encoder": {"train": {"lats": 3}}}, "encoder.train.lats", "last"),
        ({"encoder": {"train_layers": 3}}, "encoder.train_layers", "train"),
    ],
)
def test_an_unknown_key_names_its_path_and_the_nearest(load, keys, path, nearest):
    assert refusal(load, **keys) == [f"{path}: unknown key. Did you mean {nearest!r}?"]


@pytest.mark.parametrize("train", ["full", "lora", {"last": 3}, {"lora": {"r": 4, "layers_to_transform": [4, 5]}}])
def test_text_fields_and_what_is_trained_are_kept_as_they_were_written(load, train):
    text = ["title", {"field": "description", "max_words": 20}, {"field": "note", "max_words": 9, "max_chars": 50}]
    told = {"data": DATA | {"items": {"path": "items.parquet", "text": text}}, "encoder": {"train": train}}
    config = load(**told)
    kept = yaml.safe_load(yaml.safe_dump(config.portable()))
    assert kept["data"]["items"]["text"] == text
    assert kept["encoder"]["train"] == ({"lora": {}} if train == "lora" else train)
    again = Config.model_validate(kept)
    assert (again.data.items.text, again.encoder) == (config.data.items.text, config.encoder)
    assert config.data.items.text_fields == ("title", "description", "note")


def test_an_unknown_key_of_a_text_field_is_named(load):
    faults = refusal(load, data=DATA | {"items": {"path": "i.csv", "text": ["a", {"field": "b", "max_word": 3}]}})
    assert "data.items.text.1.max_word: unknown key. Did you mean 'max_words'?" in faults


def test_one_key_of_what_is_trained_can_be_set(load):
    assert load("encoder.train=full").encoder.train.full
    assert load("encoder.train.last=4").encoder.train.last == 4
    assert load("encoder.train.lora.r=4", encoder={"train": {"lora": {}}}).encoder.train.lora == {"r": 4}
    (fault,) = refusal(load, "encoder.train=most")
    assert fault == (
        "encoder.train: Write one of: full, lora, {last: LAYERS}, {lora: {r: 16, ...}}, {peft: {peft_type: ..., ...}}"
    )


@pytest.mark.parametrize("limit", [{"max_words": 0}, {"max_chars": -1}, {"field": ""}])
def test_a_text_field_is_not_cut_to_nothing(load, limit):
    items = {"path": "i.csv", "text": [{"field": "title"} | limit]}
    fault, *_ = refusal(load, data=DATA | {"items": items})
    assert fault.startswith(f"data.items.text.0.{next(iter(limit))}: ")


def test_an_unknown_key_near_nothing_lists_the_known_ones(load):
    (fault,) = refusal(load, labels={"zzz": 1})
    assert fault == "labels.zzz: unknown key. Its keys are gains, horizon_days, value_gain."


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"requests": {"mode": "online"}}, "requests.mode: online needs requests.source: logged"),
        ({"candidates": {"source": "logged"}}, "candidates.source: logged needs requests.source: logged"),
        ({"requests": {"context": ["position", "page"]}}, "requests.context: position cannot be context"),
    ],
)
def test_what_only_logged_requests_have_needs_them(load, keys, says):
    (fault,) = refusal(load, **keys)
    assert says in fault
    together = {"requests": {"source": "logged", "mode": "online"}, "candidates": {"source": "logged"}}
    assert load(**together).requests.log_columns == ("request_id", "position")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("ranker", "position_debias", True), ("ranker", "position_debias", False), ("features", "max_memory_gb", 4)],
)
def test_a_removed_key_is_refused_with_what_to_do(load, section, key, value):
    (fault,) = refusal(load, **{section: {key: value}})
    assert fault == f"{section}.{key}: there is no such key any more. {REMOVED[f'{section}.{key}'].remedy}"
    assert "Delete the key" in fault


@pytest.mark.parametrize("backend", ["openvino", "auto"])
def test_a_removed_value_is_refused_with_what_to_do(load, backend):
    (fault,) = refusal(load, encoder={"backend": backend})
    assert fault.startswith(f"encoder.backend: {backend} is no value of it any more. ")
    assert "Write torch" in fault
    (unknown,) = refusal(load, encoder={"backend": "abacus"})
    assert "Input should be 'torch' or 'cuda'" in unknown


@pytest.mark.parametrize("path", sorted(REMOVED))
def test_no_removed_key_has_come_back(path):
    model = Config
    for part in path.split(".")[:-1]:
        model = model.model_fields[part].annotation
    assert path.rsplit(".", 1)[-1] not in model.model_fields


def test_all_faults_are_named_at_once(load):
    faults = refusal(
        load, seed=-1, ranker={"learning_rate": 0, "trees": 5}, evaluation={"cutoffs": [5, 0]}, calender={}
    )
    assert any(fault.startswith("seed: ") for fault in faults)
    assert any(fault.startswith("ranker.learning_rate: ") for fault in faults)
    assert any(fault.startswith("ranker.trees: unknown key") for fault in faults)
    assert any(fault.startswith("evaluation.cutoffs.1: ") for fault in faults)
    assert any(fault.startswith("calender: unknown key. Did you mean 'calendar'?") for fault in faults)


def test_a_table_that_is_needed_is_named(load):
    (fault,) = refusal(load, data={"items": {"path": "i.csv"}})
    assert fault == "data.events: the key is missing. `nightrank help config data.events` says what it takes."


def test_labels_must_close_before_the_test_opens(load):
    assert load("labels.horizon_days=14").labels.horizon_days == 14
    (fault,) = refusal(load, "labels.horizon_days=15")
    assert "labels.horizon_days (15) is longer than timeline.valid_days (14)" in fault
    assert load("labels.horizon_days=15", "timeline.valid_days=15").timeline.valid_days == 15


@pytest.mark.parametrize("gains", [{"click": 0}, {"click": 31}, {"click": -1}, {}])
def test_gains_lie_between_1_and_30(load, gains):
    (fault,) = refusal(load, labels={"gains": gains})
    assert fault.startswith("labels.gains: ")


@pytest.mark.parametrize("key", ["calendar.timezone", "data.timezone"])
def test_time_zones_are_known(load, key):
    (fault,) = refusal(load, f"{key}=Mars/Olympus")
    assert fault.startswith(f"{key}: 'Mars/Olympus' is no IANA time zone")
    assert load(f"{key}=Europe/Berlin").resolved()[key.split(".")[0]]["timezone"] == "Europe/Berlin"


@pytest.mark.parametrize("written", ["13:30", "3", "13:30:00", "'13:30Z'", "'03:00+02:00'"])
def test_a_cut_off_that_yaml_reads_as_a_number_or_that_has_a_zone_is_refused(load, written):
    (fault,) = refusal(load, f"calendar.cutoff={written}")
    assert fault.startswith("calendar.cutoff: write it as a local time in quotes, such as '13:30'")


@pytest.mark.parametrize(
    ("written", "meant"), [("'13:30'", time(13, 30)), ("03:00", time(3)), ('"23:59:30"', time(23, 59, 30))]
)
def test_a_cut_off_is_a_local_time(load, written, meant):
    assert load(f"calendar.cutoff={written}").calendar.cutoff == meant


def test_overrides_reach_any_depth_and_are_yaml(load):
    config = load(
        "seed=7",
        "data.items.text=[title, description]",
        "data.events.columns={user_id: customer}",
        "labels.gains.click=2",
        "tracking.uri=null",
        "data.events.path=a=b.csv",
        labels={"gains": {"click": 1, "share": 4}},
        calendar=None,
    )
    assert config.seed == 7
    assert config.data.items.text_fields == ("title", "description")
    assert config.data.events.columns == {"user_id": "customer"}
    assert config.labels.gains == {"click": 2, "share": 4}
    assert Path(config.data.events.path).name == "a=b.csv"


def test_an_override_fills_a_section_that_is_empty_or_absent(load):
    assert load("night.top=3").night.top == 3
    assert load("night.top=3", night=None).night.top == 3
    assert load("night=").night.top == load(night=None).night.top == load().night.top


def test_the_last_override_wins(load):
    assert load("seed=1", "seed=2").seed == 2


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("seed", "--set seed: there is no value. Write it as key.path=value."),
        ("seed.value=3", "--set seed.value: 'seed' has a value and no keys below it. Set 'seed' itself."),
        (
            "data.events.path.x=3",
            "--set data.events.path.x: 'path' has a value and no keys below it. Set 'path' itself.",
        ),
        (
            "seed=[1",
            (
                "--set seed: the value is not readable as YAML: expected ',' or ']', but got '<stream end>' (line 1, "
                "column 3). Put text in quotes."
            ),
        ),
        ("sed=3", "sed: unknown key. Did you mean 'seed'?"),
    ],
)
def test_a_bad_override_is_told(load, override, fault):
    assert refusal(load, override, seed=0) == [fault]


def test_relative_paths_are_meant_from_the_configuration_file(load, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    users = {"path": str(tmp_path / "elsewhere" / "users.csv")}
    config = load(data=DATA | {"users": users})
    assert config.data.items.path == str(tmp_path / "items.parquet")
    assert config.data.events.path == str(tmp_path / "log" / "*.csv")
    assert config.data.users.path == users["path"]
    assert config.output == str(tmp_path / "out")


def test_a_home_folder_is_expanded(load, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load("output=~/nights").output == str(tmp_path / "home" / "nights")


def test_a_relative_configuration_file_anchors_paths_too(load, tmp_path, monkeypatch):
    load()
    monkeypatch.chdir(tmp_path)
    assert load_config(Path("night.yaml")).output == str(tmp_path / "out")


def test_nothing_can_be_set_afterwards(load):
    config = load()
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 1
    with pytest.raises(ValidationError, match="frozen"):
        config.data.events.path = "x"


def test_the_resolved_configuration_is_complete_and_reads_back(load, tmp_path):
    config = load("calendar.cutoff='03:30'", "seed=5")
    resolved = config.resolved()
    assert resolved["calendar"] == {"timezone": "UTC", "cutoff": "03:30:00", "ingestion_lag_hours": 0.0}
    assert Config.model_validate(resolved) == config
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(resolved), encoding="utf-8")
    assert load_config(again) == config


def test_every_key_has_a_line_of_documentation_or_is_a_section():
    def undocumented(model, path=""):
        for name, field in model.model_fields.items():
            inner = field.annotation
            if hasattr(inner, "model_fields"):
                yield from undocumented(inner, f"{path}{name}.")
            elif not field.description:
                yield path + name

    assert list(undocumented(Config)) == []


def sections(model):
    """A configuration and all that stands in it, lists and optional sections too."""
    yield model
    for field in model.model_fields.values():
        for kind in (field.annotation, *flattened(getattr(field.annotation, "__args__", ()))):
            if isinstance(kind, type) and issubclass(kind, FrozenConfig):
                yield from sections(kind)


def flattened(kinds):
    for kind in kinds:
        yield kind
        yield from flattened(getattr(kind, "__args__", ()))


@pytest.mark.parametrize("whole", [Config, ClickConfig])
def test_every_key_says_last_and_once_whose_it_is(whole):
    words = [owner.value for owner in Owner]
    seen = list(sections(whole))
    assert len(seen) > 5
    for section in seen:
        for name, field in section.model_fields.items():
            if field.description is not None:
                told = [word for word in words if word in field.description]
                assert len(told) == 1, (section, name)
                assert field.description.endswith(f". {told[0]}"), (section, name)
                assert field.description.count(told[0]) == 1, (section, name)


@pytest.mark.parametrize(
    ("key", "word"),
    [
        ("candidates.blocked", "Tonight's."),
        ("candidates.already_bought", "Tonight's."),
        ("candidates.supplied", "Tonight's."),
        ("candidates.popular", "The version's."),
        ("candidates.max_per_request", "The version's."),
        ("calendar.timezone", "The version's."),
        ("data.items.text", "The version's."),
        ("data.items.columns", "Tonight's."),
        ("night.top", "Tonight's."),
        ("output", "Tonight's."),
        ("encoder.max_tokens", "The version's."),
        ("encoder.steps", "The training's."),
        ("timeline.test_days", "The training's."),
        ("promotion.min_lift_over_baseline", "The evaluation's."),
    ],
)
def test_what_is_tonights_and_what_is_the_versions(key, word):
    model, (*path, last) = Config, key.split(".")
    for part in path:
        model = model.model_fields[part].annotation
    assert model.model_fields[last].description.endswith(word)


AS_WRITTEN = "[00123, 0x1F, 1_000, 12:30, 1.50, 2024-01-01, no, on, i1, 'it''s', 7, -0]"
IDS = ("00123", "0x1F", "1_000", "12:30", "1.50", "2024-01-01", "no", "on", "i1", "it's", "7", "-0")


def test_blocked_ids_are_text_as_they_are_written_in_the_file_and_in_overrides(load, tmp_path):
    path = tmp_path / "written.yaml"
    whole = (
        f"data: {{items: {{path: i.csv}}, events: {{path: e.csv}}}}\ncandidates: {{blocked: {AS_WRITTEN}}}\nseed: 010"
    )
    path.write_text(whole, encoding="utf-8")
    config = load_config(path)
    assert config.candidates.blocked == IDS
    assert config.seed == 8  # YAML's octal, as ever
    assert load(f"candidates.blocked={AS_WRITTEN}").candidates.blocked == IDS
    assert load(f"candidates={{blocked: {AS_WRITTEN}, popular: 010}}").candidates == config.candidates.model_copy(
        update={"popular": 8}
    )
    path.write_text(yaml.safe_dump(config.resolved()), encoding="utf-8")
    assert load_config(path).candidates.blocked == IDS
    merged = f"candidates: {{<<: {{blocked: {AS_WRITTEN}}}, popular: 010}}"
    path.write_text(whole.partition("candidates")[0] + merged, encoding="utf-8")
    assert load_config(path).candidates.blocked == IDS


def test_a_blocked_id_that_is_none_or_a_list_that_is_none_names_the_key(load):
    assert all(line.startswith("candidates.blocked.1.") for line in refusal(load, "candidates.blocked=[i1, ~]"))
    assert refusal(load, "candidates.blocked=i1") == ["candidates.blocked: it is no list. Write [ONE, OTHER]."]


@pytest.mark.parametrize("content", [b"", b"- a list", b"text", b"data: [1", b"\xff\xfe\x00"])
def test_what_is_no_configuration_is_refused(tmp_path, content):
    path = tmp_path / "night.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"night\.yaml"):
        load_config(path)


def test_a_configuration_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no configuration file '.*absent\.yaml'"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="not readable"):
        load_config(tmp_path)


def test_constants_are_text_as_csv_cells_are(load):
    config = load("data.events.constants={event: purchase, day: 2024-05-01, price: 3}")
    assert config.data.events.constants == {"event": "purchase", "day": "2024-05-01", "price": "3"}
    config = load("data.events.constants={event: no, shop: 00123, position: 1_0}", "data.items.constants.category=on")
    assert config.data.events.constants == {"event": "no", "shop": "00123", "position": "1_0"}
    assert config.data.items.constants == {"category": "on"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"data: {}\nseed: 1\nseed: 2\n", "the key 'seed' stands on line 2 and again on line 3"),
        (b"seed: 2024-13-45\n", "a value cannot be read"),
        (b"seed:\n\t1\n", "line 2, column 1"),
        (b"# caf\xe9\n", "is not UTF-8 (line 1)"),
    ],
)
def test_a_file_that_is_no_configuration_names_the_line_and_what_is_wrong(tmp_path, text, says):
    (tmp_path / "nightrank.yaml").write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "nightrank.yaml")
    assert says in str(caught.value)


def test_a_path_that_no_file_system_has_is_refused(load):
    for path in ("a\0b", "\ud800"):
        assert "is no path" in refusal(load, output=path)[0]


def test_the_unit_of_times_is_for_tables_that_have_times(load):
    (told,) = refusal(load, "data.offers={path: offers.csv, times: ms}")
    assert "data.offers.times: the table has no times" in told


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (
            "ranker.num_leaves=1",
            "ranker.num_leaves: Input should be greater than or equal to 2. `nightrank help config ",
        ),
        ("evaluation.cutoffs=[5, 0]", "evaluation.cutoffs.1: Input should be greater than 0. `nightrank help config "),
        ("labels.gains={click: many}", "labels.gains.click: Input should be a valid integer, "),
    ],
)
def test_a_value_out_of_range_names_the_command_that_explains_the_key(load, override, says):
    (fault,) = refusal(load, override)
    assert fault.startswith(says)
    key = override.partition("=")[0]
    assert fault.endswith(f"`nightrank help config {key}` says what it takes.")
