"""Verb `demo`: the main job on a real grocery log, from raw tables to two published nights, and one that is blocked."""

import resource
import time
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.text import Text

from features.candidates.union import histories
from features.errors import BlockedError
from features.log.event_log import EventLog, day_of
from features.requests.engaged import requests_tonight
from features.tables.text import item_texts
from pipelines.base import report
from pipelines.base.config import Config, load_config
from pipelines.inputs.check import Inputs, refuse_unknown, summary, text_fields
from pipelines.inputs.read import read_events
from pipelines.registry.register import register
from pipelines.registry.registry import CHALLENGER, CHAMPION, Registry
from pipelines.registry.tracking import Tracking
from pipelines.registry.versions import load_version
from pipelines.stores.publish import published
from pipelines.stores.storage import write_parquet
from pipelines.training.train import train
from pipelines.verbs.datasets import Dataset, load_dataset
from pipelines.verbs.demo_story import COLUMNS, NewItem, story, users_with_news
from pipelines.verbs.project import write_dataset, write_day
from pipelines.verbs.promote import promote
from pipelines.verbs.score import Night, score

__all__ = ["run_demo"]

_SETTINGS = {
    "timeline": {"test_days": 28, "valid_days": 14, "ranker_days": 56},
    "candidates": {"max_per_request": 240},
    "features": {"attributes": {"items": ["product_type", "manufacturer_id"]}},
    "encoder": {"max_requests": 2000, "max_tokens": 32, "head_steps": 150, "steps": 15},
    "ranker": {"max_requests": 3000},
    "night": {"reasons": 3},
    "max_memory_gb": 3,
}
"""Settings of the demo that differ from the defaults, so that it ends within minutes."""
_SHOWN_USERS = 3
_SHOWN_ITEMS = 3


def run_demo(folder: Path) -> dict[str, Any]:
    """Check, train, evaluate, promote, score; then a second night with the next day's events, and one that is blocked.

    Args:
        folder: Where data and results go.

    Returns:
        The facts that the demo reports.

    Raises:
        ConfigError: The extra `demo` is not installed, or the folder holds something already.
    """
    start = time.monotonic()
    whole = load_dataset("complete-journey", full=False)
    whole = replace(whole, config=whole.config | _SETTINGS)
    second_day = _last_full_day(whole)
    path = write_dataset(_with_catalogue_before(whole, second_day), folder, until=second_day, partitioned=True)
    config = load_config(path)
    _step("1  check: hold the tables against their contracts")
    inputs = read_events(config)
    fields = text_fields(inputs, config)
    data = summary(inputs, fields)
    report.show(*report.check_table(data))
    refuse_unknown(fields, config)
    _step("2  train: fine-tune the encoder block by block, then the rankers; register the version")
    with Tracking(config).run() as run:
        registered = register(train(inputs.log, config, run.series), inputs, config, run)
    facts = registered.evaluation.as_json()
    _step("3  load the registered version back: the hash of every file, and its golden rows scored again")
    name, bundle = load_version(Registry(config), registered.version.number)
    report.show(f"{name}: the registry gives the bundle {bundle.digest[:16]} back, and it scores as it did.")
    _step("4  promote: every gate, then the alias")
    version, gates = promote(inputs.log, config, Registry(config), CHALLENGER, judged=registered.evaluation)
    del registered, bundle  # the training's rows, fits and vectors
    for gate in gates:
        report.show(f"passed: {gate.name}: {gate.words}")
    _step(f"5  score: the night that opens {second_day}")
    nights = [_night(inputs, config, second_day)]
    before = _published_lists(config)
    _step(f"6  score again, a day later: the events of {second_day} have come in")
    write_parquet(whole.items, folder / "items.parquet")
    write_day(whole, folder, second_day)
    texts_before = set(item_texts(inputs.log.items, config.data.items.text))
    inputs = read_events(config)
    new = set(item_texts(inputs.log.items, config.data.items.text)) - texts_before
    nights.append(_night(inputs, config, second_day + timedelta(days=1)))
    moved = _moved_lists(inputs.log, second_day, before, _published_lists(config))
    _step("7  score with a catalogue that lost half of its items on the way")
    blocked = _blocked_night(whole, config, folder, second_day + timedelta(days=1))
    report.show(blocked)
    summary_facts = {
        "version": version.name,
        "nights": nights,
        "second_night": {**moved, "new_texts": len(new)},
        "seconds": round(time.monotonic() - start, 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    acted, changed = moved["users_who_acted"], moved["of_them_with_another_list"]
    _step("What came out: every comparison")
    report.show(*report.systems_table(facts, k=config.evaluation.cutoffs[-1]))
    _step("In short")
    report.show(
        *story(
            data=data,
            evaluation=facts,
            users=_new_items(inputs, config),
            second_night=f"{acted} users acted on {second_day}, {changed} of them have another list; {len(new)} texts "
            f"were new, {nights[1]['texts_encoded']} were encoded.",
            blocked_night=blocked,
            folder=str(folder),
            cost=f"Took {summary_facts['seconds']:.0f} s, at most {summary_facts['peak_gib']} GiB.",
        ),
        width=COLUMNS,
    )
    report.result({**summary_facts, **facts})
    return summary_facts


def _step(name: str) -> None:
    report.show("", Text(name, style="bold cyan"))


def _last_full_day(dataset: Dataset) -> date:
    """The log's last day but one: the last has only its first hours."""
    last = dataset.events["timestamp"].max()
    assert isinstance(last, datetime)  # a data set has events
    return last.date() - timedelta(days=1)


def _with_catalogue_before(dataset: Dataset, day: date) -> Dataset:
    """The data set with the catalogue as of a day: products sold before it."""
    sold = dataset.events.filter(pl.col("timestamp").dt.date() < day)["item_id"].unique()
    return replace(dataset, items=dataset.items.filter(pl.col("item_id").is_in(sold.implode())))


def _night(inputs: Inputs, config: Config, when: date) -> Night:
    name, bundle = load_version(Registry(config), CHAMPION)
    night = score(inputs, config, when=when, version=name, bundle=bundle)
    shown = ("date", "version", "users", "rows", "texts_encoded", "live")
    report.show("  ".join(f"{key}: {night[key]}" for key in shown))
    return night


def _blocked_night(whole: Dataset, config: Config, folder: Path, when: date) -> str:
    """What the audits say of a night whose catalogue, by a fault upstream, has half of its items no longer on sale."""
    first = pl.int_range(pl.len()) < pl.len() // 2
    gone = pl.when(first).then(pl.lit(whole.span[0])).alias("available_until")
    write_parquet(whole.items.with_columns(gone), folder / "items.parquet")
    try:
        _night(read_events(config), config, when)
    except BlockedError as error:
        return str(error)
    finally:
        write_parquet(whole.items, folder / "items.parquet")
    raise AssertionError("a night with half of the catalogue went live")


def _published_lists(config: Config) -> pl.DataFrame:
    """user_id and the published list of each."""
    live = published(Path(config.output) / "rankings")
    assert live is not None  # a night was just published
    rows = live.rankings().sort("user_id", "rank")
    return rows.group_by("user_id", maintain_order=True).agg("item_id")


def _moved_lists(log: EventLog, day: date, before: pl.DataFrame, after: pl.DataFrame) -> dict[str, int]:
    """How many of the users who acted on a day have another list after it."""
    acted = np.unique(log.cells.between(day_of(day), day_of(day)).users)
    ids = log.user_ids.gather(acted).implode()
    both = after.filter(pl.col("user_id").is_in(ids)).join(before, on="user_id", how="left", suffix="_before")
    changed = both.filter(pl.col("item_id").ne_missing(pl.col("item_id_before")))
    return {"users_who_acted": len(acted), "of_them_with_another_list": changed.height}


def _new_items(inputs: Inputs, config: Config) -> list[NewItem]:
    """Users whose published list shows something that is new to them, with what they had lately."""
    log = inputs.log
    live = published(Path(config.output) / "rankings")
    assert live is not None  # a night was just published
    pairs = log.interactions.frame
    had = pl.DataFrame(
        {"user_id": log.user_ids.gather(pairs["user"]), "item_id": log.items["item_id"].gather(pairs["item"])}
    )
    texts = dict(zip(log.items["item_id"], item_texts(log.items, config.data.items.text), strict=True))
    codes = {user_id: code for code, user_id in enumerate(log.user_ids)}
    news = []
    for user_id, rank, item_id, reasons in users_with_news(live.rankings(), had, most=_SHOWN_USERS).rows():
        request = requests_tonight(pl.Series([codes[user_id]], dtype=pl.UInt32), log.last_day + 1)
        lately = log.items["item_id"].gather(histories(log, request, config.candidates)["item"].head(_SHOWN_ITEMS))
        news.append(NewItem(user_id, tuple(texts[item] for item in lately), rank, texts[item_id], tuple(reasons)))
    return news
