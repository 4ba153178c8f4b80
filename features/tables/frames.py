"""The frames that functions pass to each other, one class each: the columns in their order, their dtypes and meaning.

`features.tables.schemas` holds the tables that come in and go out, under the user's own ids. Here are the frames in
between, under codes. In all of them:

- `user` and `item` are codes: positions in the log's sorted ids.
- `request` numbers the requests of one frame of requests, from 0 in its order.
- Days are Int32, days since 1970-01-01 in the zone of the calendar. `as_of_day` is the batch day that a request is
  ranked for, `day` the one whose batches first see an event after it, `label_day` the one that it makes labels for.
- A column holds no null unless its class says so.

What makes such a frame takes it from the class: `Class.of(column=..., ...)`, `Class.create_empty()`,
`Class.column_names()`. Further columns, where a class names any, stand behind those that are listed.
"""

from typing import Any, Final

import dataframely as dy
import polars as pl

__all__ = [
    "PAIR",
    "CandidateRows",
    "Cells",
    "CodedOffers",
    "CodedSupplied",
    "DailyCounts",
    "DaySpans",
    "EventRows",
    "Frame",
    "HistoryItems",
    "LabelRows",
    "LoggedLists",
    "Pairs",
    "PopularItems",
    "Ranked",
    "RawRows",
    "Recall",
    "Requests",
    "RowLabels",
    "Scored",
    "SetAside",
    "ShownRows",
    "Truth",
    "UserItemDays",
    "ValuedTruth",
]


class Frame(dy.Schema):
    """A frame of fixed columns."""

    @classmethod
    def dtypes(cls) -> dict[str, pl.DataType]:
        """Dtype of each column, in order."""
        return {name: column.dtype for name, column in cls.columns().items()}

    @classmethod
    def of(cls, **columns: Any) -> pl.DataFrame:  # noqa: ANN401 - whatever `pl.Series` takes
        """A frame of these columns, in the order and the dtypes of the class, whatever order they are given in.

        Raises:
            KeyError: A column is missing, or the class has none of that name.

        >>> Pairs.of(item=[5, 3], request=[0, 0]).columns
        ['request', 'item']
        """
        dtypes = cls.dtypes()
        if strange := columns.keys() ^ dtypes.keys():
            raise KeyError(f"{cls.__name__} has the columns {', '.join(dtypes)}: see {', '.join(sorted(strange))}")
        fixed = {name: None if dtype == pl.Null else dtype for name, dtype in dtypes.items()}  # of `dy.Any` any
        return pl.DataFrame({name: pl.Series(columns[name], dtype=dtype) for name, dtype in fixed.items()})


class SetAside(Frame):
    """Rows of an input table that break its contract; in the quarantine their own columns stand behind these."""

    row = dy.UInt32()
    """Its number in the table, from 0."""
    rules = dy.String()
    """Names of the rules that it breaks, commas between them."""


class UserItemDays(Frame):
    """Days on which users had to do with items."""

    user = dy.UInt32()
    item = dy.UInt32()
    day = dy.Int32()


class DailyCounts(UserItemDays):
    """Events that count by user, item and day."""

    n = dy.Int64(min=1)


class Cells(UserItemDays):
    """Events by user, item, day and type."""

    kind = dy.Any()
    """Enum of the log's event types."""
    n = dy.Int64(min=1)


class EventRows(Frame):
    """Single events, as families read them."""

    user = dy.UInt32()
    item = dy.UInt32()
    gain = dy.Int32(min=0)
    """Of the event's type; 0 for context, which makes no label."""
    kind = dy.String()
    """Event type."""
    day = dy.Int32()


class RawRows(EventRows):
    """Single events that hold something further: then the columns that the log keeps of them, null where empty."""

    label_day = dy.Int32()
    timestamp = dy.Datetime(time_unit="us", time_zone="UTC")


class LabelRows(Frame):
    """Single events with a gain; where requests are logged, then their `request_id`, null for none."""

    user = dy.UInt32()
    item = dy.UInt32()
    gain = dy.Int32(min=1)
    day = dy.Int32()
    label_day = dy.Int32()
    timestamp = dy.Datetime(time_unit="us", time_zone="UTC")
    value = dy.Float64(nullable=True)
    """Price, rating, seconds, ...: as the log has it."""


class DaySpans(Frame):
    """First and last instant of the events of each pair of days."""

    day = dy.Int32()
    label_day = dy.Int32()
    first = dy.Datetime(time_unit="us", time_zone="UTC")
    last = dy.Datetime(time_unit="us", time_zone="UTC")


class CodedSupplied(Frame):
    """Supplied candidates, coded."""

    user = dy.UInt32()
    item = dy.UInt32()
    day = dy.Int32(nullable=True)
    """The batch day that the row was made for; null counts for all."""
    score = dy.Float64()
    """Larger is better."""


class CodedOffers(Frame):
    """Offers of items of the catalogue, coded."""

    item = dy.UInt32()
    offer = dy.String()
    first_day = dy.Int32()
    last_day = dy.Int32()
    """Included; far in the future for an offer until further notice."""
    reach = dy.Float64(min_exclusive=0.0, max=1.0)
    """Share of shops, or of people, that it reaches."""


class Requests(Frame):
    """Ranking questions, by (as_of_day, user)."""

    request = dy.UInt32(primary_key=True)
    user = dy.UInt32()
    as_of_day = dy.Int32()


class LoggedLists(Requests):
    """Requests that the log shows: lists that users were shown; the context columns stand before `shown`."""

    request_id = dy.Any()
    requested_at = dy.Datetime(time_unit="us", time_zone="UTC")
    """Of the first event that shows it."""
    query = dy.String(nullable=True)
    shown = dy.List(dy.UInt32())
    """Codes of the items, ascending."""
    positions = dy.List(dy.Int32(nullable=True))
    """Best position of each, 1 on top; null where unknown."""


class Pairs(Frame):
    """Items of requests: what candidates, histories, truth and scores are joined on."""

    request = dy.UInt32(primary_key=True)
    item = dy.UInt32(primary_key=True)


PAIR: Final = tuple(Pairs.column_names())
"""The names of `Pairs`."""


class HistoryItems(Pairs):
    """What the user of a request had engaged with before the as-of day; of each request the most recent item first."""

    as_of_day = dy.Int32()
    count = dy.Int64(min=1)
    """Events that count."""
    last_day = dy.Int32()
    gain = dy.Int32(min=1)
    """The highest."""
    event_type = dy.UInt16()
    """Code of the type of that gain, 0 for one without a code."""
    weight = dy.Int64(min=0)
    """Sum of decayed events, fixed-point."""
    first_day = dy.Int32()
    days = dy.Int64(min=1)
    """With an event that counts."""


class Scored(Pairs):
    """Items of requests with a score; what a system's list lacks counts as missed."""

    score = dy.Float64()
    """Larger is better."""


class Ranked(Scored):
    """What a generator proposes, and any list that is cut."""

    rank = dy.Int32(min=1)
    """Within the request, 1 is best; ties by item code."""


class PopularItems(Frame):
    """The items with most engagements before each day."""

    as_of_day = dy.Int32()
    item = dy.UInt32()
    score = dy.Int64(min=1)
    """Engagements."""
    rank = dy.Int32(min=1)


class Truth(Pairs):
    """Positives of requests, retrieved or not, by (request, item)."""

    label = dy.Int32(min=1, max=30)
    """The highest gain within the horizon."""
    is_new = dy.Bool()
    """Whether the user had not engaged with the item before the request's as-of."""


class ValuedTruth(Truth):
    """Positives with `labels.value_gain`."""

    value_label = dy.Int32(min=1, max=30)
    """The label, raised by the value of the event."""


class CandidateRows(Frame):
    """Candidates of requests, by (request, item): what names a row, then its features (Float32, NaN undefined)."""

    request = dy.UInt32(primary_key=True)
    user = dy.UInt32()
    item = dy.UInt32(primary_key=True)
    as_of_day = dy.Int32()


class ShownRows(CandidateRows):
    """Candidates of logged requests, likewise."""

    position = dy.Int32(nullable=True)
    """Where the log showed the item, 1 on top; null where unknown. For evaluation, never a feature."""


class RowLabels(Frame):
    """What a labelled row has behind its features and interest."""

    label = dy.Int32(min=0, max=30)
    """0 for no positive; by value where the truth has that."""
    encoder_digest = dy.String()
    """Of the encoder that scored the row."""
    encoder_day = dy.Int32()
    """Its cut-off: it saw what lies before this day."""


class Recall(Frame):
    """Recall of generators by slice and cut-off."""

    source = dy.String()
    slice = dy.String()
    k = dy.Int64(min=1)
    recall = dy.Float64(nullable=True)
    """Null where no request has a positive of the slice."""
    requests = dy.Int64(min=0)
    """That have one."""
