"""Shared by the tests: a small random event log, and the check that nothing looks past its as-of."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # before any native import: OpenMP must not spin beside others

import hashlib
import json
import shutil
import signal
import string
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from features.assemble import Assembler, Portion
from features.candidates import GRID
from features.config import AttributesConfig, CalendarConfig, CandidatesConfig, FeaturesConfig
from features.families.base import Plan
from features.families.supply import Supply
from features.offers import coded_offers
from features.requests import requests_between, requests_tonight
from features.timeline import Calendar, EventLog, date_of, day_of
from ranker.baselines import popularity

START = datetime(2024, 3, 20, tzinfo=UTC)  # Europe and America change their clocks within the first weeks
GAINS = {"click": 1, "cart": 2, "purchase": 3}
KINDS = ("impression", "click", "cart", "purchase")
TEXT = ("title", "note")
FEATURES = FeaturesConfig(
    attributes=AttributesConfig(items=("brand", "size"), users=("age", "country")),
    vectors=("picture",),
    sentiment="mood",
)
"""Every input that a family can read."""
CONTEXT = ("device", "depth")
"""Columns of events that tell of a request."""


@dataclass(frozen=True)
class Tables:
    """Tables that keep their contracts, and the calendar to read them by."""

    events: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    calendar: Calendar
    text_vectors: np.ndarray
    plan: Plan | None = None
    offers: pl.DataFrame | None = None

    def log(self) -> EventLog:
        log = EventLog.build(
            events=self.events,
            items=self.items,
            users=self.users,
            calendar=self.calendar,
            gains=GAINS,
            keep=("query", "text", "mood", *CONTEXT),
        )
        return log if self.offers is None else log.with_tables(offers=coded_offers(self.offers, log))

    @property
    def first_day(self) -> int:
        return day_of(START.date())

    def asked(self, *days: int, after: int = 0) -> pl.DataFrame:
        """A request of every user on each of some days after the log's first, numbered from `after`."""
        users = pl.int_range(self.users.height, dtype=pl.UInt32, eager=True)
        requests = pl.concat([requests_tonight(users, self.first_day + day) for day in days])
        return requests.with_columns(request=pl.int_range(after, after + pl.len(), dtype=pl.UInt32))


def grid_vectors(count: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Random unit vectors on the grid of text vectors; about one in eight has no text and is zero."""
    vectors = rng.normal(size=(count, width)) + 0.5
    vectors *= rng.random((count, 1)) > 1 / 8
    norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return np.round(vectors / norms * GRID).astype(np.int16)


def random_tables(
    seed: int,
    *,
    n_users: int = 7,
    n_items: int = 12,
    n_days: int = 40,
    n_events: int = 250,
    calendar: CalendarConfig | None = None,
) -> Tables:
    """A log with repeated rows, with several events at one instant, and with events exactly at cut-offs."""
    rng = np.random.default_rng(seed)
    clock = Calendar(calendar or CalendarConfig())
    user_ids = np.array([f"u{n:02}" for n in rng.permutation(n_users)])
    item_ids = np.array([f"i{n:02}" for n in rng.permutation(n_items)])
    days = day_of(START.date()) + rng.integers(0, n_days, n_events)
    hours = rng.choice([0, 0, 3, 3, 9, 17, 23], n_events)
    stamps = [clock.as_of(int(day)) + timedelta(hours=int(hour)) for day, hour in zip(days, hours, strict=True)]
    events = pl.DataFrame(
        {
            "user_id": rng.choice(user_ids[: max(n_users - 1, 1)], n_events),  # the last user has no event
            "item_id": rng.choice(item_ids[: max(n_items - 2, 1)], n_events),
            "event": rng.choice(KINDS, n_events),
            "timestamp": stamps,
            "value": pl.Series(rng.choice([0.0, 1.5, 2.0], n_events)).replace(0.0, None),
        },
        schema_overrides={"timestamp": pl.Datetime("us", "UTC")},
    )
    events[0, "event"] = "click"  # there is a past on the first day
    events[0, "timestamp"] = clock.as_of(day_of(START.date())) - timedelta(hours=1)
    twice = events.sample(n_events // 10, seed=seed)
    opens = [START + timedelta(days=int(day)) if day > 0 else None for day in rng.integers(-20, 20, n_items)]
    shuts = [START + timedelta(days=int(day)) if day < 40 else None for day in rng.integers(25, 60, n_items)]
    items = pl.DataFrame(
        {"item_id": item_ids, "available_from": opens, "available_until": shuts},
        schema_overrides=dict.fromkeys(("available_from", "available_until"), pl.Datetime("us", "UTC")),
    )
    tables = Tables(
        events=pl.concat([events, twice]),
        items=items,
        users=pl.DataFrame({"user_id": user_ids}),
        calendar=clock,
        text_vectors=grid_vectors(n_items, 6, rng),
    )
    return _enriched(tables, np.random.default_rng([seed, 1]))


def _enriched(tables: Tables, rng: np.random.Generator) -> Tables:
    """With all that any feature reads: prices, attributes, texts, comments, queries, vectors; some of it missing."""

    def some(values: list[Any], count: int, share: float = 0.8) -> list[Any]:
        picked = rng.integers(len(values), size=count)
        return [values[n] if there else None for n, there in zip(picked, rng.random(count) < share, strict=True)]

    def phrase(most: int) -> str:
        return " ".join(rng.choice(["Red", "blue", "mug", "Lamp-7", "kettle", "big", "Чай"], rng.integers(most + 1)))

    n_items, n_events, n_users = tables.items.height, tables.events.height, tables.users.height
    items = tables.items.with_columns(
        category=pl.Series(some(["toys", "food", "shoes"], n_items), dtype=pl.String),
        price=pl.Series(some([0.0, 0.5, 2.0, 3.25, 9.99], n_items), dtype=pl.Float64),
        brand=pl.Series(some(["acme", "Zed"], n_items), dtype=pl.String),
        size=pl.Series(some([1.0, 2.5], n_items), dtype=pl.Float64),
        title=pl.Series([phrase(4) for _ in range(n_items)], dtype=pl.String),
        note=pl.Series(some(["red mug", "Blue  kettle", "", "gift"], n_items), dtype=pl.String),
        picture=pl.Series(
            some([[1.0, 0.0], [0.0, 0.0], [3.0, 4.0], [-1.0, 1.0], [2.0, 1.0]], n_items), dtype=pl.List(pl.Float64)
        ),
    )
    sent_back = (pl.col("event") == "impression") & pl.Series(rng.random(n_events) < 0.2)
    events = tables.events.with_columns(
        event=pl.when(sent_back).then(pl.lit("return")).otherwise("event"),
        query=pl.Series(some(["red mug", "lamp", "ЧАЙ tea"], n_events, 0.2), dtype=pl.String),
        text=pl.Series(some(["good", "so-so, really"], n_events, 0.3), dtype=pl.String),
        mood=pl.Series(some([-1.0, 0.5, 0.25], n_events, 0.6), dtype=pl.Float64),
    )
    users = tables.users.with_columns(
        age=pl.Series(some([20.0, 33.0], n_users), dtype=pl.Float64),
        country=pl.Series(some(["de", "fr"], n_users), dtype=pl.String),
    )
    events = events.with_columns(
        device=pl.Series(some(["phone", "desk"], n_events), dtype=pl.String),
        depth=pl.Series(some([1.0, 2.5], n_events), dtype=pl.Float64),
    )
    rich = replace(tables, items=items, events=events, users=users, offers=_offers(items["item_id"], rng))
    supply = Supply.of(rich.log(), FEATURES, text=TEXT, context=CONTEXT)
    return replace(rich, plan=Plan(FEATURES, supply))


def _offers(item_ids: pl.Series, rng: np.random.Generator, count: int = 25) -> pl.DataFrame:
    """Offers of two kinds that begin within the log's days or before, some of them side by side."""
    first = day_of(START.date()) + rng.integers(-10, 45, count)
    return pl.DataFrame(
        {
            "item_id": rng.choice(item_ids.to_numpy(), count),
            "offer": rng.choice(["leaflet", "Front page"], count),
            "first_day": [date_of(int(day)) for day in first],
            "last_day": [date_of(int(day + more)) for day, more in zip(first, rng.integers(0, 20, count), strict=True)],
            "reach": pl.Series(rng.choice([0.25, 0.5, 1.0], count)).replace(1.0, None),
        }
    ).unique(maintain_order=True)


def assembler_of(tables: Tables, config: CandidatesConfig | None = None) -> Assembler:
    return Assembler(tables.log(), config or CandidatesConfig(segment="country"), tables.text_vectors, tables.plan)


def differences(one: Portion, other: Portion) -> set[str]:
    """Names of the columns whose bytes differ, `candidates` if other items are ranked."""
    found = {f"history {name}" for name in _differing(one.history, other.history)}
    if _differing(one.rows.select("request", "item"), other.rows.select("request", "item")):
        found.add("candidates")
        one, other = (
            replace(
                left,
                rows=left.rows.join(right.rows, on=["request", "item"], how="semi", maintain_order="left"),
            )
            for left, right in ((one, other), (other, one))
        )
    return found | _differing(one.rows, other.rows)


def _differing(one: pl.DataFrame, other: pl.DataFrame) -> set[str]:
    assert one.schema == other.schema
    if one.height != other.height:
        return set(one.columns)
    return {
        name
        for name in one.columns
        if one[name].null_count() + other[name].null_count()
        or one[name].to_numpy().tobytes() != other[name].to_numpy().tobytes()
    }


def other_futures(tables: Tables, as_of: datetime, rng: np.random.Generator) -> Iterator[Tables]:
    """The same past, with what happened at or after `as_of` scrambled, deleted, and added to."""
    past = tables.events.filter(pl.col("timestamp") < as_of)
    future = tables.events.filter(pl.col("timestamp") >= as_of)
    yield replace(tables, events=pl.concat([past, _scrambled(future, as_of, rng)]))
    yield replace(tables, events=past)
    yield replace(tables, events=pl.concat([past, future.filter(pl.Series(rng.random(future.height) < 1 / 2))]))
    added = _scrambled(tables.events, as_of, rng)
    yield replace(tables, events=pl.concat([added, future, past]))
    if tables.offers is not None:
        yield replace(tables, offers=_other_offers(tables, as_of, rng))


def _other_offers(tables: Tables, as_of: datetime, rng: np.random.Generator) -> pl.DataFrame:
    """What begins on the day of the batch or before is known, but not how long it will go on; the rest is another."""
    day = date_of(int(tables.calendar.days(pl.Series([as_of], dtype=pl.Datetime("us", "UTC")))[0]))
    begun = pl.col("first_day") <= day
    longer = pl.when(pl.col("last_day") >= day).then(pl.col("last_day") + timedelta(days=int(rng.integers(9))))
    known = tables.offers.filter(begun).with_columns(last_day=longer.otherwise("last_day"))
    later = tables.offers.filter(~begun)
    return pl.concat(
        [known, later.with_columns(later["item_id"].shuffle(int(rng.integers(1000))), offer=pl.lit("leaflet"))]
    ).unique(maintain_order=True)


def _scrambled(events: pl.DataFrame, as_of: datetime, rng: np.random.Generator) -> pl.DataFrame:
    """The same users, items and types in other combinations, a third of them at the very instant `as_of`."""
    hours = rng.choice([0, 1, 40], events.height)
    others = [name for name in events.columns if name not in {"timestamp", "value"}]
    moved = [as_of + timedelta(hours=int(hour)) for hour in hours]
    return events.select(
        *(events[name].gather(rng.permutation(events.height)) for name in others),
        pl.Series("timestamp", moved, pl.Datetime("us", "UTC")),
        "value",
    ).select(events.columns)


def moved_by_future(
    tables: Tables,
    as_of_day: int,
    seed: int = 0,
    *,
    make: Callable[[Tables], Assembler] = assembler_of,
) -> set[str]:
    """The leak check: names all that changes, for any user as of a day, with what happens at or after it.

    The past of a day is fixed, its future is not: a name in the answer is a column that saw the future.
    """
    users = pl.int_range(tables.users.height, dtype=pl.UInt32, eager=True)
    requests = requests_tonight(users, as_of_day)
    before = list(make(tables).portions(requests, size=4))
    found: set[str] = set()
    rng = np.random.default_rng(seed)
    for other in other_futures(tables, tables.calendar.as_of(as_of_day), rng):
        after = make(other).portions(requests, size=4)
        for one, two in zip(before, after, strict=True):
            found |= differences(one, two)
    return found


@pytest.fixture(scope="session")
def shop():
    """`random_tables`: a small shop's tables from a seed."""
    return random_tables


@pytest.fixture(scope="session")
def leak_check():
    """`moved_by_future`: what sees past its as-of."""
    return moved_by_future


@pytest.fixture(scope="session")
def futures():
    """`other_futures`: the same past with other futures."""
    return other_futures


@pytest.fixture(scope="session")
def portion_differences():
    """`differences` of two portions, bit by bit."""
    return differences


def random_encoder(
    folder: Path,
    texts: list[str],
    *,
    heads: int,
    positions: int,
    spread: float,
    seed: int,
    kind: str = "bert",
    **changes: Any,
) -> Path:
    """Write an encoder of three layers, 32 wide, with random weights, and a tokenizer that knows the words of texts.

    Args:
        folder: Where to.
        texts: What the tokenizer is trained on: other letters are unknown to it.
        heads: Attention heads.
        positions: Longest input in tokens.
        spread: Standard deviation of the weights: the larger, the more texts differ.
        seed: Of the weights.
        kind: `model_type` of the config.
        changes: Further keys of the config.
    """
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # NOTE: no trainer: among equal counts it takes others in each process.
    cut = (tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text)) for text in texts)
    counts = Counter(word for words in cut for word, _ in words)
    letters = sorted({letter for word in counts for letter in word})
    names = [*special.values(), *letters, *(f"##{letter}" for letter in letters)]
    names += sorted((word for word in counts if len(word) > 1), key=lambda word: (-counts[word], word))[:200]
    tokenizer.model = models.WordPiece({name: place for place, name in enumerate(names)}, unk_token="[UNK]")
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    sizes = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": heads,
        "intermediate_size": 64,
        "max_position_embeddings": positions,
        "initializer_range": spread,
        "pad_token_id": 0,
    }
    config = AutoConfig.for_model(kind, **(sizes | changes))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        AutoModel.from_config(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=positions, **special).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def encoder_folder():
    """`random_encoder`: writes a small encoder."""
    return random_encoder


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory):
    """Folder of a `random_encoder` whose tokenizer knows English letters only."""
    letters = string.ascii_lowercase + string.digits + string.punctuation
    words = "red blue green mug kettle coffee lamp stroller paint brush perfume poles charger made with for and gift"
    texts = [words, *(f"{one}{two}" for one in letters for two in letters)]
    return random_encoder(tmp_path_factory.mktemp("tiny-encoder"), texts, heads=2, positions=128, spread=0.02, seed=0)


@dataclass(frozen=True)
class Project:
    """A user's folder with `nightrank.yaml`, and what was made of it; never write into a shared one, `copy` it."""

    folder: Path
    dataset: Any
    inputs: Any = None
    trained: Any = None
    registered: Any = None

    @property
    def path(self) -> Path:
        return self.folder / "nightrank.yaml"

    @property
    def config(self) -> Any:
        from pipelines.config import load_config

        return load_config(self.path)

    @property
    def day(self) -> date:
        """The day after the log's last: tonight."""
        return NIGHT

    def copy(self, to: Path) -> "Project":
        return replace(self, folder=Path(shutil.copytree(self.folder, to)))

    def change(self, **keys: Any) -> None:
        """Change top-level keys of the configuration; mappings are merged."""
        head, _, _ = self.path.read_text(encoding="utf-8").partition("\n")
        told = yaml.safe_load(self.path.read_text(encoding="utf-8"))
        for key, value in keys.items():
            told[key] = {**told.get(key, {}), **value} if isinstance(value, dict) else value
        self.path.write_text(f"{head}\n{yaml.safe_dump(told, sort_keys=False)}", encoding="utf-8")


NIGHT = date(2024, 2, 25)
"""The simulated shop's projects know what lies before this day; there are three more days to be delivered."""


@pytest.fixture(scope="session")
def shop_project(tmp_path_factory, tiny_encoder):
    """The simulated shop, small, as its owner would bring it; nothing trained yet."""
    from features.simulate import ShopConfig
    from pipelines.datasets import simulated
    from pipelines.project import write_dataset

    shop = ShopConfig(users=60, items=120, days=58, requests_per_user_per_day=0.6, list_length=8)
    project = Project(tmp_path_factory.mktemp("shop") / "project", simulated(shop))
    write_dataset(project.dataset, project.folder, until=NIGHT, partitioned=True)
    project.change(
        encoder={
            "model": str(tiny_encoder),
            "max_tokens": 16,
            "train": {"last": 1},
            "precision": "fp32",
            "steps": 2,
            "head_steps": 10,
            "requests_per_batch": 16,
        },
        ranker={
            "max_trees": 20,
            "min_child_samples": 20,
            "num_leaves": 7,
            "network": {"hidden": [8], "epochs": 1},
        },
        candidates={"popular": 30, "co_visited": 20, "text_neighbours": 20},
        evaluation={"resamples": 200},
        promotion={"min_lift_over_baseline": -1.0, "max_loss_to_champion": 1.0},
        night={"top": 10, "shard_users": 20},
    )
    return project


@pytest.fixture(scope="session")
def trained_project(tmp_path_factory, shop_project):
    """The shop with one version: trained, registered, champion."""
    from pipelines.check import read_inputs
    from pipelines.promote import promote
    from pipelines.register import register
    from pipelines.registry import CHALLENGER, Registry
    from pipelines.tracking import Tracking
    from pipelines.train import train

    project = shop_project.copy(tmp_path_factory.mktemp("trained") / "project")
    config = project.config
    inputs = read_inputs(config)
    with Tracking(config).run() as run:
        trained = train(inputs.log, config, run.series)
        registered = register(trained, inputs, config, run)
    promote(inputs.log, config, Registry(config), CHALLENGER)
    return replace(project, inputs=inputs, trained=trained, registered=registered)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def facts(self) -> dict[str, Any]:
        """The one line of JSON on stdout."""
        (line,) = self.out.splitlines()
        facts = json.loads(line)
        assert isinstance(facts, dict)
        return facts


@pytest.fixture
def command(capfd, monkeypatch):
    """Run the command line in this process: ``command(project, "check", "--allow-empty")``."""
    from pipelines import cli

    def run(project: Project | None, *arguments: str) -> Ended:
        config = () if project is None else ("--config", str(project.path))
        monkeypatch.setattr(sys, "argv", ["nightrank", *arguments, *config])
        capfd.readouterr()
        before = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as ended:
                cli.main()
        finally:
            signal.signal(signal.SIGTERM, before)
        told = capfd.readouterr()
        return Ended(int(ended.value.code or 0), told.out, told.err)

    return run


@pytest.fixture(scope="session")
def popularity_by_ids():
    """The baseline's lists as another system would bring them: user_id, item_id, score, day."""

    def lists(log: EventLog, first_day: int, end_day: int) -> pl.DataFrame:
        requests = requests_between(log, first_day, end_day)
        days = {day: date_of(day) for day in requests["as_of_day"].unique()}
        return (
            popularity(log, requests)
            .join(requests, on="request", maintain_order="left")
            .join(log.items.select("item", "item_id"), on="item", maintain_order="left")
            .join(log.user_ids.to_frame("user_id").with_row_index("user"), on="user", maintain_order="left")
            .select("user_id", "item_id", "score", day=pl.col("as_of_day").replace_strict(days, return_dtype=pl.Date))
        )

    return lists


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """sha256 and time of every file below a folder."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="session")
def snapshot():
    """`contents`: to see that nothing was touched."""
    return contents
