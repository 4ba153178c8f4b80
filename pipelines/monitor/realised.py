"""The NDCG that a published night turned out to have, from what its users did afterwards."""

from dataclasses import asdict, dataclass
from datetime import date
from math import isnan
from typing import Any, Literal

import numpy as np
import polars as pl

from features.calendar import Calendar, batch_day
from features.candidates.recall import seen_items
from features.log.event_log import EventLog
from pipelines.base.config import Config
from pipelines.training.request_source import request_source
from ranker.compare import clustered_interval
from ranker.metrics import per_request

__all__ = [
    "ALL",
    "BIASED",
    "FALLBACK",
    "NEW_ITEMS",
    "Realised",
    "SliceNdcg",
    "is_closed",
    "outcomes",
    "realised",
    "summarised",
]

BIASED = (
    "biased by exposure: people choose from what they were shown. Compare a system with itself over time, not with "
    "another one that was not live."
)
ALL, FALLBACK, NEW_ITEMS = "all", "fallback users", "new items"


@dataclass(frozen=True, slots=True)
class SliceNdcg:
    """The mean NDCG over the requests of a slice, with the limits of its interval (None over a single user)."""

    mean: float
    low: float | None
    high: float | None
    requests: int
    users: int


@dataclass(frozen=True, slots=True)
class Realised:
    """What became of a published night.

    Attributes:
        day: The night's day.
        version: The version that ranked it.
        state: `closed`: all labels are in; `open`: they are not yet; `nobody acted`: there are none to judge by.
        slices: NDCG by slice, where the state is `closed`: `ALL` users who acted; of them `FALLBACK`, who had no list
            of their own; and `NEW_ITEMS`, where lists and labels keep only items that nobody had before the night.
    """

    day: date
    version: str
    state: Literal["closed", "open", "nobody acted"]
    slices: dict[str, SliceNdcg]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "day": str(self.day)}


def is_closed(day: date, calendar: Calendar, config: Config, *, end_day: int) -> bool:
    """Whether the labels of a day's requests have closed and come in when `end_day` opens."""
    return batch_day(day) + config.labels.horizon_days - 1 + calendar.lag_days < end_day


def realised(
    day: date, version: str, lists: pl.DataFrame, fallback: pl.DataFrame, log: EventLog, config: Config, *, end_day: int
) -> Realised:
    """Judge a published night by the labels that evaluation would take.

    Args:
        day: The night's day.
        version: The version that ranked it.
        lists: user_id, rank, item_id of the users' lists; those of users who did not act may be left out.
        fallback: rank, item_id of the list for users without one.
        log: The log, with the events that labels are made of.
        config: Labels, requests, cut-offs, resamples and seed.
        end_day: The batch day on which this is asked: labels must have closed and come in when it opens.
    """
    if not is_closed(day, log.calendar, config, end_day=end_day):
        return Realised(day, version, "open", {})
    return summarised(day, version, outcomes(day, lists, fallback, log, config), config)


def summarised(day: date, version: str, judged: pl.DataFrame, config: Config) -> Realised:
    """The means of a night whose labels have closed, over what `outcomes` made of it."""
    if judged.is_empty():
        return Realised(day, version, "nobody acted", {})
    kept = {
        ALL: judged.select("user", "ndcg"),
        FALLBACK: judged.filter("is_fallback").select("user", "ndcg"),
        NEW_ITEMS: judged.filter(pl.col("ndcg_new").is_not_null()).select("user", ndcg="ndcg_new"),
    }
    return Realised(day, version, "closed", {name: _mean(rows, config) for name, rows in kept.items() if rows.height})


def outcomes(day: date, lists: pl.DataFrame, fallback: pl.DataFrame, log: EventLog, config: Config) -> pl.DataFrame:
    """The NDCG of each request of a night's day, at the last of `evaluation.cutoffs`.

    The published ranks count, not the scores: ties were broken when the lists were shown.

    Args:
        day: The night's day, whose labels have closed.
        lists: As `realised` takes them.
        fallback: As `realised` takes it.
        log: The log, with the events that labels are made of.
        config: Labels, requests and cut-offs.

    Returns:
        request, user (its code), user_id, is_fallback, ndcg, and ndcg_new: the same over new items alone, null where
        no label is of one. By request.
    """
    batch = batch_day(day)
    source = request_source(log, config)
    requests = source.between(batch, batch + 1)
    truth = source.truth(requests)
    named = requests.select("request", "user", user_id=log.user_ids.gather(requests["user"]))
    named = named.with_columns(is_fallback=~pl.col("user_id").is_in(lists["user_id"].unique().implode()))
    shown = _shown(named, lists, fallback)
    labels = truth.select("request", "label", item_id=log.items["item_id"].gather(truth["item"]))
    had = log.items.filter(pl.col("item").is_in(seen_items(log, batch).implode()))["item_id"]
    is_new = ~pl.col("item_id").is_in(had.implode())
    k = config.evaluation.cutoffs[-1]
    every = _ndcg(shown, labels, k, "ndcg")
    new = _ndcg(shown.filter(is_new), labels.filter(is_new), k, "ndcg_new")
    joined = named.join(every, on="request").join(new, on="request", how="left", maintain_order="left")
    return joined.sort("request")


def _shown(requests: pl.DataFrame, lists: pl.DataFrame, fallback: pl.DataFrame) -> pl.DataFrame:
    """request, item_id and rank of what each request's user was shown."""
    own = requests.join(lists.select("user_id", "rank", "item_id"), on="user_id")
    others = requests.filter("is_fallback").join(fallback.select("rank", "item_id"), how="cross")
    return pl.concat([rows.select("request", "item_id", "rank") for rows in (own, others)])


def _ndcg(shown: pl.DataFrame, labels: pl.DataFrame, k: int, name: str) -> pl.DataFrame:
    """request, and its NDCG@k under a name."""
    rankings = shown.select("item_id", request_id="request", score=-pl.col("rank").cast(pl.Float64))
    metrics = per_request(rankings, labels.rename({"request": "request_id"}), cutoffs=[k])
    return metrics.select(pl.col(f"ndcg@{k}").alias(name), request="request_id")


def _mean(rows: pl.DataFrame, config: Config) -> SliceNdcg:
    interval = clustered_interval(
        np.asarray(rows["ndcg"]), rows["user"], resamples=config.evaluation.resamples, seed=config.seed
    )
    low, high = (None if isnan(limit) else limit for limit in (interval.low, interval.high))
    return SliceNdcg(interval.mean, low, high, interval.n_requests, interval.n_clusters)
