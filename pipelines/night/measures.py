"""What is measured of a night: its inputs as of the cut-off, and the lists that it made.

Measures are kept in the attempt's folder (`measures.json`), so that later nights are compared with them and nothing is
read again.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from features.candidates.union import blocked_items, off_sale
from features.log.asof import NEVER
from features.log.event_log import EventLog
from features.tables.text import item_texts
from pipelines.base.config import Config
from pipelines.night.text_measures import TextMeasures, measure_texts

__all__ = [
    "DAYS",
    "NO_LISTS",
    "InputMeasures",
    "ListMeasures",
    "Measures",
    "measure_inputs",
    "measure_lists",
]

DAYS = 42
"""Latest days whose events are counted one by one: six weeks, five of them before the eve's weekday."""
_DECILES = 10


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class InputMeasures(_Kept):
    """What a night knew.

    Attributes:
        events: Events before the cut-off.
        by_day: Events of each event type on each of the latest `DAYS` days before the cut-off, the eve last.
        users: Users that are ranked.
        strangers: Those of them without any event.
        items: Items of the catalogue.
        on_sale: Those of them that may be shown on the day.
        with_text: Those of the catalogue that have a text.
        texts: What texts of the catalogue look like; None for a night of before that was measured.
    """

    events: int
    by_day: dict[str, tuple[int, ...]]
    users: int
    strangers: int
    items: int
    on_sale: int
    with_text: int
    texts: TextMeasures | None = None


class ListMeasures(_Kept):
    """What a night made.

    Attributes:
        lists: Users with a list.
        rows: Rows of all lists.
        full: Lists of `night.top` items, or of the whole catalogue where that is smaller.
        wrong: Rows that are wrong in themselves: an item twice, a rank that is missing, a score that is not finite.
        equal: Lists of two items or more whose scores are all the same.
        shown: Distinct items.
        new_rows: Rows of items that nobody had before.
        deciles: Inner deciles of the scores.
        categories: Share of the rows by category; items without one under "".
        fallback: Lists that are the fallback list because a deadline passed.
    """

    lists: int
    rows: int
    full: int
    wrong: int
    equal: int
    shown: int
    new_rows: int
    deciles: tuple[float, ...]
    categories: dict[str, float]
    fallback: int = 0


NO_LISTS = ListMeasures(lists=0, rows=0, full=0, wrong=0, equal=0, shown=0, new_rows=0, deciles=(), categories={})
"""Of a night whose inputs are audited before it makes lists."""


class Measures(_Kept):
    """A night: its day and version, a hash of the configured rules, what it knew and what it made."""

    day: str
    version: str
    rules: str
    inputs: InputMeasures
    lists: ListMeasures


def measure_inputs(log: EventLog, users: pl.Series, day: int, config: Config) -> InputMeasures:
    """Measure what is known before a day.

    Args:
        log: The log, ended at the day.
        users: (U,) codes of the users that are ranked.
        day: The batch day.
        config: Names the text fields and what is blocked.
    """
    texts = item_texts(log.items, config.data.items.text)
    return InputMeasures(
        events=sum(log.event_counts.values()),
        by_day=_by_day(log, day),
        users=len(users),
        strangers=len(users) - int(users.is_in(log.active_users.implode()).sum()),
        items=log.items.height,
        on_sale=_on_sale(log, day, config),
        with_text=int((texts.str.len_bytes() > 0).sum()),
        texts=measure_texts(texts),
    )


def _by_day(log: EventLog, day: int) -> dict[str, tuple[int, ...]]:
    """Events by type on each of the latest days; every type of the log is named."""
    first, kinds = day - DAYS, log.cells.kinds
    counts = np.zeros(len(kinds) * DAYS, np.int64)
    for part in log.cells.between(first, day - 1).parts():
        at = part.kind_codes * DAYS + part.days - first
        counts += np.bincount(at, part.counts, len(counts)).astype(np.int64)  # exact below 2**53
    named = zip(kinds, counts.reshape(len(kinds), DAYS).tolist(), strict=True)
    return {kind: tuple(of_days) for kind, of_days in sorted(named)}


def _on_sale(log: EventLog, day: int, config: Config) -> int:
    """Items that candidates may be of on a day."""
    shut = off_sale(log.items, log.calendar.as_of(day)).to_numpy()
    return int((~shut & ~blocked_items(log.items["item_id"], config.candidates.blocked)).sum())


def measure_lists(parts: Iterable[pl.DataFrame], log: EventLog, day: int, *, top: int) -> ListMeasures:
    """Measure the lists of a night, a shard at a time.

    Args:
        parts: user_id, rank, item_id and score of each shard; one at least, and read once.
        log: The log, ended at the night's day: its catalogue, and who had what.
        day: The batch day.
        top: Items that a list should have.
    """
    length = min(top, log.items.height)
    lists, counts, scores = [], [], []
    for part in parts:
        lists.append(_lists_of(part, length))
        counts.append(part.group_by("item_id").len())
        scores.append(part["score"].to_numpy())
    shown = _shown(pl.concat(counts), log, day)
    every = np.concatenate(scores)
    finite = every[np.isfinite(every)]
    deciles = np.quantile(finite, np.arange(1, _DECILES) / _DECILES) if len(finite) else np.zeros(0)
    rows = int(shown["len"].sum())
    categories = shown.group_by("category").agg(pl.col("len").sum()).sort("category")
    return ListMeasures(
        lists=sum(each.lists for each in lists),
        rows=rows,
        full=sum(each.full for each in lists),
        wrong=sum(each.wrong for each in lists),
        equal=sum(each.equal for each in lists),
        shown=shown.height,
        new_rows=int(shown.filter(~pl.col("had"))["len"].sum()),
        deciles=tuple(float(value) for value in deciles),
        categories={name: n / rows for name, n in categories.rows()} if rows else {},
    )


@dataclass(frozen=True, slots=True)
class _Lists:
    lists: int
    full: int
    wrong: int
    equal: int


def _lists_of(part: pl.DataFrame, length: int) -> _Lists:
    """Counts over the lists of a shard; a list lies in one shard."""
    lists = part.group_by("user_id").agg(
        n=pl.len(),
        items=pl.col("item_id").n_unique(),
        ranks=pl.col("rank").n_unique(),
        last=pl.col("rank").max(),
        scores=pl.col("score").n_unique(),
        infinite=(~pl.col("score").is_finite()).fill_null(value=True).sum(),
    )
    repeated = int((lists["n"] - lists["items"]).sum())
    gaps = int(((lists["ranks"] != lists["n"]) | (lists["last"] != lists["n"])).sum())
    wrong = repeated + gaps + int(lists["infinite"].sum())
    equal = ((lists["n"] > 1) & (lists["scores"] == 1)).sum()
    return _Lists(lists.height, int((lists["n"] >= length).sum()), wrong, int(equal))


def _shown(counts: pl.DataFrame, log: EventLog, day: int) -> pl.DataFrame:
    """item_id, len (its rows), had (whether anybody had it before) and category of each item that is shown."""
    codes = np.arange(log.items.height)
    had = log.item_index.days_since_first(codes, np.full(len(codes), day)) != NEVER
    category = pl.col("category").cast(pl.String).fill_null("") if "category" in log.items.columns else pl.lit("")
    catalogue = log.items.select("item_id", category.alias("category")).with_columns(had=pl.Series(had))
    rows = counts.group_by("item_id").agg(pl.col("len").sum())
    return rows.join(catalogue, on="item_id", how="left", maintain_order="left")
