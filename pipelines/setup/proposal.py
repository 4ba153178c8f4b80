"""What `nightrank init` proposes: from the tables of a folder to all that the configuration says, and why."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dataframely as dy
import numpy as np
import polars as pl

from features.calendar import date_of
from features.errors import ConfigError
from features.tables.schemas import Events, Items
from pipelines.setup.catalogue import Catalogue, dependent_columns, read_catalogue
from pipelines.setup.convert import amounts, converted_events, converted_items, described_items, returns_in
from pipelines.setup.events import EventTypes, constant_type, graded_stars, graded_types, single_type
from pipelines.setup.files import CONVERTED, Table
from pipelines.setup.formats import unfolded
from pipelines.setup.profile import columns_of, plain_ids, read_times
from pipelines.setup.roles import Log, Pick, choose_log, choose_users
from pipelines.setup.timeline import Fitted, fitted_timeline

__all__ = ["Proposal", "TableProposal", "propose"]

_EASY_SHARE = 0.04  # of rows set aside, what the configuration's default allows without a word
_INSIDE = 0.9  # of the successes, those that must follow from a shown list before lists are the requests
_RETURN = "return"
_FOREIGN = 0.3  # of the letters, the share of other scripts above which the default encoder cannot read them
_SCHEMA_ITEMS = ("category", "price", "available_from", "available_until")
_FIRST, _LAST = datetime(1971, 1, 1, tzinfo=UTC), datetime(2300, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TableProposal:
    """A table of the configuration.

    Attributes:
        source: The table it comes from.
        path: Where it is written, if it is; else None.
        columns: By our names: the column, and why.
        constants: By our names: the value of all rows, and why.
        times: What numbers of its times count, if they are numbers.
        notes: What was done with it, in words.
        written: Its rows, if it is written anew.
    """

    source: Table
    path: str | None
    columns: Mapping[str, tuple[str, str]]
    constants: Mapping[str, tuple[str, str]]
    times: str | None
    notes: Sequence[str]
    written: pl.DataFrame | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """All that is proposed.

    Attributes:
        items: The catalogue.
        catalogue: What its columns are.
        events: The log.
        users: The table of users, if there is one.
        types: Event types and their gains.
        timeline: The windows.
        requests: Keys of `requests` and `candidates`, by dotted path, and why; empty for the defaults.
        set_aside: Share of the log's rows that break its contract.
        max_share: `data.quarantine.max_share`, where the default is too small.
        unused: Tables that are not used.
        doubts: What could be meant otherwise.
    """

    items: TableProposal
    catalogue: Catalogue
    events: TableProposal
    users: TableProposal | None
    types: EventTypes
    timeline: Fitted
    requests: Mapping[str, tuple[str, str]]
    set_aside: float
    max_share: float | None
    unused: Sequence[str]
    doubts: Sequence[str]


def propose(tables: Sequence[Table], *, events: Table | None = None, items: Table | None = None) -> Proposal:
    """Say what the tables of a folder are, and how to learn from them.

    Args:
        tables: The tables.
        events: The one that is the log, where somebody named it.
        items: The one that is the catalogue, where somebody named it.

    Raises:
        ConfigError: Two tables could be the log.
        ContractError: There is no log, no time, no catalogue, no text, or too short a log.
    """
    named = [table for table in (events, items) if table is not None and table not in tables]
    opened = dict(zip([*tables, *named], unfolded([*tables, *named]), strict=True))
    log = choose_log(
        list(opened.values()),
        events=None if events is None else opened[events],
        items=None if items is None else opened[items],
    )
    reading = _read_log(log)
    if log.catalogue is None:
        catalogue, item_table, timeline, set_aside = _joint(log, reading)
    else:
        key = Pick(log.catalogue.key, f"tells the {log.catalogue.table.n_rows:,} rows apart")
        catalogue = read_catalogue(log.catalogue.table.columns, key.column, name=log.catalogue.table.name)
        item_table = _items(log.catalogue.table, key, catalogue)
        catalogue_ids = plain_ids(log.catalogue.table.read([key.column])[key.column]).unique()
        good = reading.good(catalogue_ids)
        timeline, set_aside = _timeline(reading, good), 1 - good.height / max(reading.frame.height, 1)
    users = choose_users(log, list(opened.values()))
    used = {log.table, item_table.source, *([users[0]] if users else [])}
    return Proposal(
        items=item_table,
        catalogue=catalogue,
        events=reading.table,
        users=None if users is None else _users(*users),
        types=reading.types,
        timeline=timeline,
        requests=reading.requests,
        set_aside=set_aside,
        max_share=math.ceil(115 * set_aside + 1) / 100 if set_aside > _EASY_SHARE else None,
        unused=sorted(table.name for table in opened.values() if table not in used),
        doubts=[*log.doubts, *catalogue.doubts, *reading.doubts, *_foreign(catalogue)],
    )


@dataclass(frozen=True, slots=True)
class _Reading:
    """A log read whole, as far as the proposal needs it.

    Attributes:
        table: How the configuration names it.
        frame: user, item (text), at (UTC), kind, perhaps request.
        types: Event types and gains.
        requests: See `Proposal`.
        doubts: What could be meant otherwise.
    """

    table: TableProposal
    frame: pl.DataFrame
    types: EventTypes
    requests: Mapping[str, tuple[str, str]]
    doubts: Sequence[str]

    def good(self, item_ids: pl.Series) -> pl.DataFrame:
        """The rows that keep the contract."""
        return self.frame.filter(
            pl.col("user").is_not_null()
            & pl.col("at").is_between(_FIRST, _LAST)
            & pl.col("item").is_in(item_ids.implode())
        )


def _read_log(log: Log) -> _Reading:
    picks, table = log.picks, log.table
    time = table.columns[picks["timestamp"].column].times
    assert time is not None
    event = picks["event"] if "event" in picks else picks.get("rating")
    is_sale = _is_sale(log)
    constant = constant_type([table.name, *table.columns], is_sale=is_sale)
    sales = event is None and constant == "purchase" and returns_in(table)
    reasons = [*table.converted, *_reasons(log, sales=sales)]
    if reasons or log.catalogue is None:
        frame, dropped = converted_events(
            log,
            None if event is None else event.column,
            constant=constant,
            sales=sales or (log.catalogue is None and is_sale),
            goods_alone=log.catalogue is None,
        )
        written: pl.DataFrame | None = frame
        plain = frame.select(
            user="user_id", item="item_id", at="timestamp", kind="event", **_request(frame, "request_id")
        )
    else:
        written, dropped = None, []
        plain = _plain(log, event, constant)
    counts = {str(kind): int(count) for kind, count in plain["kind"].drop_nulls().value_counts(sort=True).rows()}
    types = _types(counts, picks, event)
    requests = _lists(plain, types, has_query="query" in picks)
    proposal = _events_table(log, event, constant, written, [*reasons, *dropped])
    doubts = [f"{table.name}: {doubt}" for doubt in types.doubts]
    if time.turned is not None:
        doubts.append(
            f"{table.name}: {picks['timestamp'].column!r} could be read with day and month the other way round; "
            f"{'month' if time.form and time.form.startswith('%m') else 'day'} first is taken"
        )
    return _Reading(proposal, plain, types, requests, doubts)


def _is_sale(log: Log) -> bool:
    quantity, price, order = amounts(log.table)
    return any(name is not None for name in (quantity, price, order)) or "value" in log.picks


def _reasons(log: Log, *, sales: bool) -> list[str]:
    """Why a log cannot be read as it is."""
    table, time = log.table, log.table.columns[log.picks["timestamp"].column].times
    assert time is not None
    reasons = [] if time.direct else [f"its times are written in the form {time.form}, and become times"]
    if sales:
        reasons.append("rows of a quantity below zero, and orders numbered C..., become events of type return")
    return reasons + _clashing(Events, table, {ours: pick.column for ours, pick in log.picks.items()})


def _clashing(schema: type[dy.Schema], table: Table, columns: Mapping[str, str]) -> list[str]:
    """That columns of a table have a name of the schema, and are not what it is read from; empty for none."""
    names = [name for name in schema.column_names() if name in table.columns and columns.get(name) != name]
    return [f"its column {', '.join(map(repr, names))} is something else than that name means here"] if names else []


def _request(frame: pl.DataFrame, name: str | None) -> dict[str, str]:
    return {"request": name} if name is not None and name in frame.columns else {}


def _plain(log: Log, event: Pick | None, constant: str) -> pl.DataFrame:
    """The whole log: user, item, at, kind, perhaps request and query."""
    picks = log.picks
    wanted = {
        ours: picks[ours].column for ours in ("user_id", "item_id", "timestamp", "request_id", "query") if ours in picks
    }
    if event is not None:
        wanted["event"] = event.column
    rows = log.table.read(list(dict.fromkeys(wanted.values())))
    time = log.table.columns[picks["timestamp"].column].times
    assert time is not None
    user = rows[wanted["user_id"]]
    frame = pl.DataFrame(
        {
            "user": user.set(user == "", None) if user.dtype == pl.String else user,
            "item": plain_ids(rows[wanted["item_id"]]),
            "at": read_times(rows[wanted["timestamp"]], time),
            "kind": rows[wanted["event"]].cast(pl.String)
            if event is not None
            else pl.repeat(constant, rows.height, eager=True),
        }
    )
    more = {
        ours: rows[wanted[theirs]]
        for ours, theirs in (("request", "request_id"), ("query", "query"))
        if theirs in wanted
    }
    return frame.with_columns(**more)


def _types(counts: Mapping[str, int], picks: Mapping[str, Pick], event: Pick | None) -> EventTypes:
    if event is None and len(counts) == 1:
        return single_type(*next(iter(counts.items())))
    if event is not None and "event" not in picks:
        return graded_stars(counts)
    return graded_types(counts, column=event.column if event is not None else "")


def _lists(frame: pl.DataFrame, types: EventTypes, *, has_query: bool) -> dict[str, tuple[str, str]]:
    """Whether the lists that were shown are the requests, and how they are ranked."""
    shown_kinds = [kind for kind, why in types.why.items() if "shown" in why]
    if "request" not in frame.columns or not shown_kinds:
        return {}
    shown = frame.filter(pl.col("kind").is_in(shown_kinds)).drop_nulls("request")
    wins = frame.filter(pl.col("kind").is_in(list(types.gains)), pl.col("at") >= shown["at"].min())
    inside = wins["request"].is_in(shown["request"].unique().implode()).fill_null(value=False).mean()
    owners = shown.group_by("request").agg(pl.col("user").n_unique())
    if shown.is_empty() or float(inside or 0) < _INSIDE or float((owners["user"] == 1).mean() or 0) < _INSIDE:  # type: ignore[arg-type]
        return {}
    share = f"{float(inside or 0):.0%} of the successes follow from a list that was shown"  # type: ignore[arg-type]
    keys = {"requests.source": ("logged", f"{share}: each list is a request")}
    if has_query:
        keys["requests.mode"] = ("online", "lists have queries, which are known when the request is made")
        keys["candidates.source"] = ("logged", "what was shown is ranked anew")
    return keys


def _events_table(
    log: Log, event: Pick | None, constant: str, written: pl.DataFrame | None, notes: Sequence[str]
) -> TableProposal:
    columns = {ours: (pick.column, pick.why) for ours, pick in log.picks.items() if ours not in {"rating", "labelled"}}
    constants: dict[str, tuple[str, str]] = {}
    if event is not None:
        columns["event"] = (event.column, event.why)
        if "event" not in log.picks:
            columns["event"] = (event.column, "each rating is a type of its own, graded below")
            columns.setdefault("value", (event.column, "the rating as a number"))
    elif written is None:
        constants["event"] = (constant, "no column says what happened")
    time = log.table.columns[log.picks["timestamp"].column].times
    assert time is not None
    if written is not None:
        columns = {
            name: (name, columns.get(name, ("", "of the rows as they are written"))[1]) for name in written.columns
        }
        if "value" not in written.columns:
            columns.pop("value", None)
    return TableProposal(
        source=log.table,
        path=None if written is None else f"{CONVERTED}/events.parquet",
        columns=columns,
        constants=constants,
        times=None if written is not None else time.unit,
        notes=notes,
        written=written,
    )


def _items(table: Table, key: Pick, catalogue: Catalogue) -> TableProposal:
    columns = {"item_id": (key.column, key.why), **catalogue.columns}
    theirs = {ours: column for ours, (column, _) in columns.items()}
    reasons = [*table.converted, *_clashing(Items, table, theirs)]
    if not reasons:
        return TableProposal(table, None, columns, {}, None, ())
    frame = converted_items(table, theirs, [field.column for field in catalogue.texts])
    renamed = {ours: (ours, why) for ours, (_, why) in columns.items()}
    return TableProposal(table, f"{CONVERTED}/items.parquet", renamed, {}, None, reasons, frame)


def _joint(log: Log, reading: _Reading) -> tuple[Catalogue, TableProposal, Fitted, float]:
    """The catalogue of a log that tells of its items itself."""
    written = reading.table.written
    assert written is not None
    names = dependent_columns(log.table, log.picks["item_id"].column)
    timeline = _timeline(reading, reading.good(written["item_id"].unique()))
    test = timeline.last_day + 1 - timeline.keys["test_days"]
    until = datetime.combine(date_of(test), datetime.min.time(), UTC)
    frame = described_items(log, names, written, until=until, returned=_RETURN)
    catalogue = read_catalogue(columns_of(frame), "item_id", name=log.table.name)
    sold = reading.good(frame["item_id"])
    columns = {"item_id": ("item_id", f"from {log.picks['item_id'].column}"), **catalogue.columns}
    note = f"its rows tell what the items are ({', '.join(names)}): a row an item, with the value that most rows have"
    source = TableProposal(log.table, f"{CONVERTED}/items.parquet", columns, {}, None, [note], frame)
    return catalogue, source, timeline, 1 - sold.height / max(reading.frame.height, 1)


def _timeline(reading: _Reading, good: pl.DataFrame) -> Fitted:
    """The timeline of the rows that keep the contract."""
    if good.is_empty():
        raise ConfigError(
            "init: no row of the log has a user, a time, and an item of the catalogue. Name other tables."
        )
    days = pl.col("at").dt.date().cast(pl.Int32).alias("day")
    dated = good.with_columns(days)
    per_day = dated.group_by("day").len().sort("day")
    if reading.requests:
        shown = [kind for kind, why in reading.types.why.items() if "shown" in why]
        lists = dated.filter(pl.col("kind").is_in(shown)).drop_nulls("request")
        request_days = lists.group_by("request").agg(pl.col("day").min())
    else:
        request_days = dated.filter(pl.col("kind").is_in(list(reading.types.gains))).select("user", "day").unique()
    counts = dict(request_days.group_by("day").len().rows())
    event_days, event_counts = (per_day[name].to_numpy().astype(np.int64) for name in ("day", "len"))
    return fitted_timeline(event_days, event_counts, counts)


def _users(table: Table, pick: Pick) -> TableProposal:
    return TableProposal(table, None, {"user_id": (pick.column, pick.why)}, {}, None, ())


def _foreign(catalogue: Catalogue) -> list[str]:
    if catalogue.other_script <= _FOREIGN:
        return []
    share = f"{catalogue.other_script:.0%} of the letters in the texts are not Latin"
    return [f"{share}, and the default encoder reads English: name a multilingual one under encoder.model"]
