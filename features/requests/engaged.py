"""Requests, the unit of ranking and of NDCG, and their positives: the items that users then engaged with.

A request is a user's day: it is ranked when the batch day opens, for every user who engaged on it, from events
strictly before its as-of. Its positives are the user's engagements of the
`labels.horizon_days` days from then on. At night the same table is made for all users of tonight, without
positives. Where the log says what was shown, `features.requests.logged` takes requests from there.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl

from features.config import LabelsConfig
from features.log.asof import NEVER
from features.log.event_log import EventLog

__all__ = [
    "LISTS",
    "SLICES",
    "VALUE_LABEL",
    "EngagedDays",
    "RequestSource",
    "graded",
    "requests_between",
    "requests_tonight",
    "truth_of",
    "with_newness",
]

LISTS = ("shown", "positions")
"""Columns of logged requests that hold a list each: the items that were shown, by code, and where."""

SLICES = ("all", "repeat", "new-to-user", "cold item")
"""All items; those the user had engaged with before the as-of; the others; those nobody had before the window.

A slice keeps its items only, among the true ones and in every list alike, and the requests that then have a true one.
"""

VALUE_LABEL = "value_label"
"""Column of positives: the label, raised by the value of the event."""

_AT_ONCE = 4_000_000  # events that are grouped at a time


class RequestSource(Protocol):
    """Where requests and their positives come from."""

    def between(self, first_day: int, end_day: int) -> pl.DataFrame:
        """The requests of the batch days ``first_day <= day < end_day``; see `requests_between` for the columns."""

    def truth(self, requests: pl.DataFrame) -> pl.DataFrame:
        """The positives of requests that `between` made; see `truth_of` for the columns."""


@dataclass(frozen=True, slots=True)
class EngagedDays:
    """Each user's day with an engagement is a request."""

    log: EventLog
    labels: LabelsConfig

    def between(self, first_day: int, end_day: int) -> pl.DataFrame:
        """See `requests_between`."""
        return requests_between(self.log, first_day, end_day)

    def truth(self, requests: pl.DataFrame) -> pl.DataFrame:
        """See `truth_of`."""
        return truth_of(requests, self.log, self.labels)


def requests_between(log: EventLog, first_day: int, end_day: int) -> pl.DataFrame:
    """Requests of all users who engaged on the days ``first_day <= day < end_day``.

    Returns:
        Sorted by (as_of_day, user): request (UInt32, 0..n-1), user, as_of_day (Int32).
    """
    none = pl.DataFrame(schema={"user": pl.UInt32, "label_day": pl.Int32})
    active_days = [part.unique() for part in log.label_events.by_part(first_day, end_day, "user", "label_day")]
    return _numbered(pl.concat([none, *active_days]).unique().rename({"label_day": "as_of_day"}))


def requests_tonight(users: pl.Series, as_of_day: int) -> pl.DataFrame:
    """One request for each user code, as of one day. Same columns as `requests_between`."""
    return _numbered(pl.DataFrame({"user": users}).with_columns(as_of_day=pl.lit(as_of_day, pl.Int32)))


def _numbered(requests: pl.DataFrame) -> pl.DataFrame:
    ordered = requests.sort("as_of_day", "user")
    return ordered.select(pl.int_range(pl.len(), dtype=pl.UInt32).alias("request"), "user", "as_of_day")


def truth_of(requests: pl.DataFrame, log: EventLog, labels: LabelsConfig) -> pl.DataFrame:
    """The positives of each request: the highest gain of each item the user engaged with in the horizon.

    Args:
        requests: As `requests_between` makes them.
        log: The whole log, with the events that labels are made of.
        labels: Gains' horizon.

    Returns:
        Sorted by (request, item): request, item, label (Int32, 1-30), is_new (the user had not engaged with
        the item before the request's as-of); with `labels.value_gain` then `VALUE_LABEL` (Int32, 1-30).
    """
    by_day = requests.select("request", "user", "as_of_day").sort("as_of_day")
    days, horizon = by_day["as_of_day"], labels.horizon_days
    first, last = (0, 0) if by_day.is_empty() else (int(days[0]), int(days[-1]))
    label_day, opens = pl.col("label_day"), pl.col("as_of_day")
    columns = ("user", "item", "gain", "label_day", *(() if labels.value_gain is None else ("value",)))
    followed = [
        _requests_near(by_day, part["label_day"], horizon)
        .join(part, on="user")
        .filter(label_day.is_between(opens, opens + horizon, closed="left"))
        .drop("label_day")
        for part in log.label_events.by_part(first, last + horizon, *columns)
        if part.height
    ]
    none = by_day.clear().join(log.label_events.between(0, 0).select(columns), on="user").drop("label_day")
    return with_newness(_graded_by_item([none, *followed], labels), log)


def _graded_by_item(followed: list[pl.DataFrame], labels: LabelsConfig) -> pl.DataFrame:
    """`graded` for each request and item, of engagements that followed, one row an event; some users at a time."""
    shares = sum(rows.height for rows in followed) // _AT_ONCE + 1
    graded_parts = []
    for share in range(shares):
        some = [rows.filter(pl.col("user") % shares == share) for rows in followed] if shares > 1 else followed
        graded_parts.append(pl.concat(some).group_by("request", "user", "item", "as_of_day").agg(**graded(labels)))
    return pl.concat(graded_parts)


def _requests_near(requests: pl.DataFrame, label_day: pl.Series, horizon_days: int) -> pl.DataFrame:
    """Those of some requests (by day) whose horizon meets the label days of some events."""
    days = requests["as_of_day"].to_numpy()
    edges = label_day.to_numpy().min() - horizon_days + 1, label_day.to_numpy().max() + 1
    start, end = np.searchsorted(days, edges)
    return requests[int(start) : int(end)]


def graded(labels: LabelsConfig) -> dict[str, pl.Expr]:
    """The label of the engagements with an item, from gain and value; with `labels.value_gain` `VALUE_LABEL` beside it.

    A value v raises a gain by ``min(floor(log2(1 + v / unit)), most)``, so that 2^gain grows as the value does, up to a
    bound: what revenue-weighted NDCG counts, in the whole labels that LambdaMART takes. Null, NaN and what is below the
    unit raise nothing.
    """
    raised = labels.value_gain
    gain = pl.col("gain")
    if raised is None:
        return {"label": gain.max()}
    value = pl.col("value").cast(pl.Float64).fill_nan(None)
    steps = [(value >= raised.unit * (2**step - 1)).fill_null(value=False) for step in range(1, raised.most + 1)]
    return {"label": gain.max(), VALUE_LABEL: (gain + pl.sum_horizontal(steps).cast(pl.Int32)).max()}


def with_newness(truth: pl.DataFrame, log: EventLog) -> pl.DataFrame:
    """Positives (request, user, item, as_of_day, and what `graded` makes) as `truth_of` returns them."""
    user, item = (truth[name].cast(pl.Int64).to_numpy() for name in ("user", "item"))
    first = log.interactions.first_days(user, item)
    # NOTE: a log that ends (`EventLog.until`) has no cell yet of what came in after its end.
    is_new = (first == NEVER) | (first >= truth["as_of_day"].to_numpy())
    return (
        truth.with_columns(is_new=pl.Series(is_new, dtype=pl.Boolean))
        .select("request", "item", "label", "is_new", *(name for name in (VALUE_LABEL,) if name in truth.columns))
        .sort("request", "item")
    )
