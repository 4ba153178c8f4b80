"""Recall of each candidate generator, and of all of them together.

``recall@K`` of a request is the share of its positives among exactly the K best candidates (fewer where there are
fewer), and the figure of a slice is the mean over the requests that have a positive in it.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from features.candidates.cut import sources_of
from features.log.asof import Ints
from features.log.event_log import EventLog
from features.requests.engaged import SLICES
from features.signals.top_k import top_k
from features.tables.frames import PAIR, Recall, Scored

__all__ = ["CUTOFFS", "TOGETHER", "recall_by_source", "seen_items"]

CUTOFFS = (10, 20, 50, 100, 200, 500, 1000)
"""The K: up to the largest quota that a generator may have."""

TOGETHER = "together"
"""The row of what all generators propose, in the order of the cut."""


def seen_items(log: EventLog, before_day: int) -> pl.Series:
    """Codes of the items that somebody engaged with before a day."""
    return log.items.filter(pl.Series(_engagements_before(log, before_day) > 0))["item"]


def _engagements_before(log: EventLog, day: int) -> Ints:
    """(items,) engagements of each item before a day."""
    items = np.arange(log.items.height)
    return log.item_index.total(items, np.full_like(items, day))


def recall_by_source(
    requests: pl.DataFrame,
    history: pl.DataFrame,
    proposed: pl.DataFrame,
    truth: pl.DataFrame,
    cutoffs: Sequence[int] = CUTOFFS,
    *,
    seen: pl.Series | None = None,
) -> pl.DataFrame:
    """Recall of each generator and of all together, by slice.

    Args:
        requests: `Requests`; those without a positive do not count.
        history: `HistoryItems` of these requests; an item in it is a repeat.
        proposed: `Scored`, by which all together are ordered, and each source's `_rank`.
        truth: `Truth`: every positive, proposed or not.
        cutoffs: The K.
        seen: `seen_items` before the requests' first day; None leaves the slice of cold items empty.

    Returns:
        `features.tables.frames.Recall`. Sources in the order of the columns of `proposed`, then `together`.
    """
    positives = truth.join(requests.select("request"), on="request", how="semi").select(PAIR)
    engaged = history.select(*PAIR, repeat=pl.lit(value=True))
    cold = pl.lit(value=False) if seen is None else ~pl.col("item").is_in(seen.implode())
    positives = positives.join(engaged, on=PAIR, how="left").with_columns(
        pl.col("repeat").fill_null(value=False), cold=cold
    )
    sources = sources_of(proposed)
    best = top_k(proposed.select(Scored.column_names()), max(cutoffs))
    ranks = {source: proposed.select(*PAIR, rank=f"{source}_rank").drop_nulls() for source in sources}
    ranks[TOGETHER] = best.select(*PAIR, "rank")
    parts = []
    for source, listed in ranks.items():
        ranked = positives.join(listed, on=PAIR, how="left")
        parts += [row for name in SLICES for row in _of_slice(ranked, source, name, cutoffs)]
    return pl.DataFrame(parts, schema=Recall.dtypes(), orient="row")


_MEMBERS = {
    "all": pl.lit(value=True),
    "repeat": pl.col("repeat"),
    "new-to-user": ~pl.col("repeat"),
    "cold item": pl.col("cold"),
}


def _of_slice(
    ranked: pl.DataFrame, source: str, name: str, cutoffs: Sequence[int]
) -> list[tuple[str, str, int, float | None, int]]:
    """A row for each cutoff."""
    hits = {str(k): (pl.col("rank") <= k).fill_null(value=False).mean() for k in cutoffs}
    shares = ranked.filter(_MEMBERS[name]).group_by("request").agg(**hits).sort("request")
    means = shares.select(pl.col(hits.keys()).mean()).row(0)
    return [(source, name, k, mean, shares.height) for k, mean in zip(cutoffs, means, strict=True)]
