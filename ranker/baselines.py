"""Baselines: the systems that a ranker must beat, each as of the day of the request."""

# R requests
from collections.abc import Callable

import polars as pl

from features.candidates.union import histories
from features.config import CandidatesConfig
from features.log.event_log import EventLog
from features.signals.cache import AsOfCache
from features.signals.co_visitation import CoVisitation
from features.signals.generator import recent_items
from features.signals.popularity import popular_items
from features.signals.similarity import reached
from features.signals.top_k import top_k
from features.tables.frames import PAIR, Scored

__all__ = ["BASELINES", "item_knn", "personal_frequency", "popularity", "popularity_recent"]

DEPTH = 300
"""Items a baseline lists, deep enough that a slice of the list is still full."""

_RECENT_DAYS = 14


def popularity(log: EventLog, requests: pl.DataFrame) -> pl.DataFrame:
    """Items by all engagements before the as-of. Returns `Scored`."""
    return _popular(log, requests, window_days=None)


def popularity_recent(log: EventLog, requests: pl.DataFrame) -> pl.DataFrame:
    """Items by engagements of the last 14 days. Returns `Scored`."""
    return _popular(log, requests, window_days=_RECENT_DAYS)


def personal_frequency(log: EventLog, requests: pl.DataFrame) -> pl.DataFrame:
    """The user's own items by days with an engagement, then the most popular of 14 days, which also break ties.

    Returns:
        `Scored`.
    """
    own = histories(log, requests, CandidatesConfig()).select(*PAIR, "as_of_day", "days")
    days = requests["as_of_day"]
    popular = popular_items(log, days, most=log.items.height, window_days=_RECENT_DAYS).drop("rank")
    others = requests.join(popular.filter(pl.int_range(pl.len()).over("as_of_day") < DEPTH), on="as_of_day")
    columns = [*own.columns, "score"]
    both = pl.concat(
        [
            own.join(popular, on=["as_of_day", "item"], how="left").select(columns),
            others.join(own, on=PAIR, how="anti").with_columns(days=pl.lit(0, pl.Int64)).select(columns),
        ]
    )
    most = popular.group_by("as_of_day").agg(most=pl.col("score").max())
    both = both.join(most, on="as_of_day", how="left")
    # NOTE: a day outweighs any popularity, so that popularity only breaks ties and fills up.
    score = pl.col("days") + pl.col("score").fill_null(0) / (pl.col("most").fill_null(0) + 1)
    return top_k(both.select(*PAIR, score=score), DEPTH).drop("rank")


def item_knn(log: EventLog, requests: pl.DataFrame) -> pl.DataFrame:
    """Items by similarity to the history, weighted by its recency; co-occurrence recomputed every week.

    Returns:
        `Scored`.
    """
    config = CandidatesConfig()
    recent = recent_items(histories(log, requests, config), config.history_items)
    return reached(AsOfCache(log), CoVisitation.of(config), recent, DEPTH, outside=False).drop("rank")


BASELINES: dict[str, Callable[[EventLog, pl.DataFrame], pl.DataFrame]] = {
    "popularity": popularity,
    "popularity, 14 days": popularity_recent,
    "personal frequency": personal_frequency,
    "ItemKNN": item_knn,
}
"""By the name a report prints."""


def _popular(log: EventLog, requests: pl.DataFrame, *, window_days: int | None) -> pl.DataFrame:
    best = popular_items(log, requests["as_of_day"], most=DEPTH, window_days=window_days)
    return Scored.cast(requests.join(best, on="as_of_day"))
