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
from features.tables.frames import PAIR, CandidateRows, LabelRows, Requests, Truth, ValuedTruth

__all__ = [
    "NUMBERED",
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

NUMBERED = pl.int_range(pl.len()).cast(Requests.request.dtype).alias(Requests.request.name)
"""Expression: rows as requests, numbered from 0 in their order."""

SLICES = ("all", "repeat", "new-to-user", "cold item")
"""All items; those the user had engaged with before the as-of; the others; those nobody had before the window.

A slice keeps its items only, among the true ones and in every list alike, and the requests that then have a true one.
"""

VALUE_LABEL = ValuedTruth.value_label.name
"""Column of positives: the label, raised by the value of the event."""

_AT_ONCE = 4_000_000  # events that are grouped at a time


class RequestSource(Protocol):
    """Where requests and their positives come from."""

    def between(self, first_day: int, end_day: int) -> pl.DataFrame:
        """The requests of the batch days ``first_day <= day < end_day``: `Requests`, or `LoggedLists`."""

    def truth(self, requests: pl.DataFrame) -> pl.DataFrame:
        """The positives of requests that `between` made: `Truth`, or `ValuedTruth`."""


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
        `features.tables.frames.Requests`.
    """
    none = LabelRows.create_empty().select("user", "label_day")
    active_days = [part.unique() for part in log.label_events.by_part(first_day, end_day, *none.columns)]
    return _numbered(pl.concat([none, *active_days]).unique().rename({"label_day": "as_of_day"}))


def requests_tonight(users: pl.Series, as_of_day: int) -> pl.DataFrame:
    """One request for each user code, as of one day: `Requests`."""
    day = pl.lit(as_of_day, Requests.as_of_day.dtype)
    return _numbered(pl.DataFrame({"user": users}).with_columns(as_of_day=day))


def _numbered(requests: pl.DataFrame) -> pl.DataFrame:
    return requests.sort("as_of_day", "user").with_columns(NUMBERED).select(Requests.column_names())


def truth_of(requests: pl.DataFrame, log: EventLog, labels: LabelsConfig) -> pl.DataFrame:
    """The positives of each request: the highest gain of each item the user engaged with in the horizon.

    Args:
        requests: As `requests_between` makes them.
        log: The whole log, with the events that labels are made of.
        labels: Gains' horizon.

    Returns:
        `features.tables.frames.Truth`; with `labels.value_gain` `ValuedTruth`.
    """
    by_day = requests.select(Requests.column_names()).sort("as_of_day")
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
        graded_parts.append(pl.concat(some).group_by(CandidateRows.column_names()).agg(**graded(labels)))
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
    """Positives (`CandidateRows` with what `graded` makes) as `truth_of` returns them."""
    user, item = (truth[name].cast(pl.Int64).to_numpy() for name in ("user", "item"))
    first = log.interactions.first_days(user, item)
    # NOTE: a log that ends (`EventLog.until`) has no cell yet of what came in after its end.
    is_new = (first == NEVER) | (first >= truth["as_of_day"].to_numpy())
    frame = ValuedTruth if VALUE_LABEL in truth.columns else Truth
    positives = truth.with_columns(is_new=pl.Series(is_new, dtype=frame.is_new.dtype))
    return positives.select(frame.column_names()).sort(PAIR)
