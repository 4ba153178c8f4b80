"""Scores of other systems: files of ids and scores, judged on the same requests as ours."""

from collections.abc import Collection, Mapping, Sequence
from datetime import time
from pathlib import Path

import polars as pl

from features.errors import ConfigError, ContractError
from features.log.event_log import EventLog, date_of
from features.tables.frames import PAIR, Scored
from pipelines.base.config import TableConfig
from pipelines.base.progress import say
from pipelines.inputs.tables import read_raw
from pipelines.training.labelled import Labelled

__all__ = ["External", "coded_scores", "read_as", "read_scores", "unfit_reason"]

_DAY = r"^(\d{4}[-/]\d\d[-/]\d\d)(?:[T ]00:00(?::00(?:\.0+)?)?(?:Z|[+-]00:?00)?)?$"  # also as its midnight
_FORMS = {
    pl.Date(): "date like 2024-12-31 (or its midnight)",
    pl.Float64(): "number",
    pl.Int64(): "whole number of 64 bits, as the log's",
    pl.String(): "text or whole number",
}

External = Mapping[str, pl.DataFrame]
"""By the name of a system: user_id and day, or request_id; item_id, score."""


def read_scores(entries: Sequence[str]) -> dict[str, pl.DataFrame]:
    """Read files of scores.

    Args:
        entries: `NAME=PATH` of each, or a path, whose stem is the name; a file, a glob or a folder, Parquet or CSV.

    Raises:
        ConfigError: No file there, or a name that is empty or occurs twice.
        ContractError: A score of a CSV is no number, or a day no date.
        IntegrityError: A file is truncated or empty.
    """
    scores: dict[str, pl.DataFrame] = {}
    for entry in entries:
        name, path = _name_and_path(entry)
        if not name.strip() or not name.isprintable() or not path or name in scores:
            raise ConfigError(
                f"--scores {entry!r}: {name!r} is no name of its own. Write NAME=PATH, each name once and without "
                "control characters."
            )
        try:
            scores[name] = read_raw(TableConfig(path=path), name=name, allow_empty=True).frame
        except ConfigError as error:
            raise ConfigError(f"--scores {entry!r}: no .parquet, .csv or .tsv file at {path!r}.") from error
        say("read scores", system=name, rows=scores[name].height)
    return scores


def _name_and_path(entry: str) -> tuple[str, str]:
    """Split NAME=PATH; an existing path that contains `=` is a path, named by its stem."""
    before, separator, after = entry.partition("=")
    if separator and not Path(entry).exists():
        return before, after
    return Path(entry).name.partition(".")[0], entry


def coded_scores(
    external: External, labelled: Labelled, log: EventLog, *, taken: Collection[str] = ()
) -> dict[str, pl.DataFrame]:
    """Check the lists of other systems and translate their ids into codes.

    A list may be as short as its system makes it, and what it lacks counts as missed; but each request must have one,
    and where the candidates are logged lists, each shown item a score. Rows of requests of the window that were not
    drawn are left out, and counted.

    Args:
        external: The systems' scores; other columns are ignored. Engaged days are named by user_id and day (the batch
            day, a date, also as text or as its midnight), logged requests by request_id. Ids are read as the log has
            them: from text, integers, categories and whole numbers of any type.
        labelled: The window's requests, and the candidates where these are logged lists.
        log: Whose ids are meant.
        taken: Names that none of them may have.

    Returns:
        `Scored`, for each name.

    Raises:
        ConfigError: An external system is called as another one.
        ContractError: Naming all faults of all files, with counts: columns missing, ids or scores missing, of another
            type, or unknown, NaN or infinite scores, rows that repeat a pair, requests without a list.
    """
    if clash := sorted({*taken} & {*external}):
        raise ConfigError(f"scores: {', '.join(clash)} is taken by a system of ours. Choose another name.")
    coded, faults = {}, []
    requests = _named_requests(labelled.requests, log)
    left_out = None if labelled.left_out is None else _named_requests(labelled.left_out, log)
    for name, frame in external.items():
        rows, wrong = _typed(frame, requests, log)
        if not wrong and left_out is not None:
            rows = _of_drawn(name, rows, left_out)
        if not wrong:
            rows, wrong = _coded(rows, requests, labelled, log)
        coded[name] = rows
        faults += [f"{name}: {fault}" for fault in wrong]
    if faults:
        raise ContractError("\n- ".join(["scores: the files cannot be judged.", *faults]))
    return coded


def _of_drawn(name: str, rows: pl.DataFrame, left_out: pl.DataFrame) -> pl.DataFrame:
    """Drop the rows of requests that were not sampled, and report how many those are."""
    keys = [key for key in left_out.columns if key != "request"]
    kept = rows.join(left_out, on=keys, how="anti", maintain_order="left")
    if ignored := rows.height - kept.height:
        say("scores of requests that were not drawn are not read", system=name, rows=ignored, of=rows.height)
    return kept


def _named_requests(requests: pl.DataFrame, log: EventLog) -> pl.DataFrame:
    """The requests with the keys that files name them by: request_id; or user_id and day."""
    if "request_id" in requests.columns:
        return requests.select("request", "request_id")
    days = {day: date_of(day) for day in requests["as_of_day"].unique()}
    return requests.select(
        "request",
        user_id=log.user_ids.gather(requests["user"]),
        day=pl.col("as_of_day").replace_strict(days, return_dtype=pl.Date),
    )


def _typed(frame: pl.DataFrame, requests: pl.DataFrame, log: EventLog) -> tuple[pl.DataFrame, list[str]]:
    """The needed columns in the types of the log, and the faults of their values."""
    keys = [name for name in requests.columns if name != "request"]
    wanted = {name: requests.schema[name] for name in keys} | {
        "item_id": log.items.schema["item_id"],
        "score": pl.Float64(),
    }
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        return frame, [f"there is no column {', '.join(missing)}; it must have {', '.join(wanted)}"]
    if frame.is_empty():
        return frame, [f"there are no rows; {requests.height} requests are judged: score them"]
    wrong = {name: unfit_reason(frame.schema[name], theirs) for name, theirs in wanted.items()}
    faults = [
        f"all {frame.height} rows: {name} is {frame.schema[name].base_type()}, and {accepted}: cast it"
        for name, accepted in wrong.items()
        if accepted is not None
    ]
    if faults:
        return frame, faults
    rows = pl.DataFrame({name: read_as(frame[name], theirs) for name, theirs in wanted.items()})
    for name, theirs in wanted.items():
        absent = frame[name].null_count()
        if absent:
            faults.append(f"{absent} of {frame.height} rows have no {name}: drop them")
        if odd := rows[name].null_count() - absent:
            faults.append(f"{odd} of {frame.height} rows have a {name} that is no {_FORMS[theirs]}: correct them")
    if nan := int(rows["score"].is_nan().sum()):
        faults.append(f"{nan} of {frame.height} rows have a NaN score: it has no place in an order")
    if infinite := int(rows["score"].is_infinite().sum()):
        faults.append(f"{infinite} of {frame.height} rows have an infinite score: clip it, or drop the row")
    return rows, faults


def unfit_reason(dtype: pl.DataType, wanted: pl.DataType) -> str | None:
    """Which types are accepted, if values of `dtype` cannot be read as `wanted`; None if they can, as text can."""
    if dtype in (pl.String, pl.Null):
        return None
    if wanted == pl.Date:
        fits, accepted = dtype in (pl.Date, pl.Datetime), "dates (Date, Datetime at midnight, or text) are wanted"
    elif wanted.is_float():
        fits, accepted = dtype.is_numeric(), "numbers are wanted"
    else:
        fits = dtype.is_numeric() or dtype in (pl.Categorical, pl.Enum)
        accepted = "ids as text, integers, categories or whole numbers are wanted"
    return None if fits else accepted


def read_as(column: pl.Series, wanted: pl.DataType) -> pl.Series:
    """A column read as another type; values that are none of it become null."""
    if wanted == pl.Date:
        return _dates(column)
    return column.cast(wanted, strict=False) if wanted.is_float() else _ids(column, wanted)


def _dates(column: pl.Series) -> pl.Series:
    """Days; a time other than midnight becomes null, since its date does not determine the batch day."""
    if column.dtype == pl.String:
        day = column.str.strip_chars().str.extract(_DAY)
        return day.str.replace_all("/", "-").str.to_date("%Y-%m-%d", strict=False)
    if isinstance(column.dtype, pl.Datetime):
        return column.dt.date().zip_with(
            (column.dt.time() == time(0)).fill_null(value=False), _nothing(column, pl.Date())
        )
    return column.cast(pl.Date)


def _ids(column: pl.Series, wanted: pl.DataType) -> pl.Series:
    """Ids as text or Int64; fractions become null, and for Int64 other text and what lies beyond its range."""
    if column.dtype.is_float() or column.dtype.is_decimal():
        whole = (column == column.floor()).fill_null(value=False)
        column = column.zip_with(whole, _nothing(column, column.dtype)).cast(pl.Int64, strict=False)
    if wanted == pl.String:
        return column.cast(pl.String)
    if not column.dtype.is_integer():
        column = column.cast(pl.String).str.strip_chars().str.replace(r"\.0+$", "")
    return column.cast(wanted, strict=False)


def _nothing(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    return pl.Series([None], dtype=dtype).new_from_index(0, len(column))


def _coded(
    rows: pl.DataFrame, requests: pl.DataFrame, labelled: Labelled, log: EventLog
) -> tuple[pl.DataFrame, list[str]]:
    """Rows under codes, and the faults of those that do not fit the window."""
    keys = [name for name in requests.columns if name != "request"]
    joined = rows.join(requests, on=keys, how="left", maintain_order="left")
    joined = joined.join(log.items.select("item", "item_id"), on="item_id", how="left", maintain_order="left")
    of = f"of {rows.height} rows"
    strange, unknown = joined["request"].null_count(), joined["item"].null_count()
    faults = []
    if strange:
        others = joined.filter(pl.col("request").is_null())
        faults.append(f"{strange} {of} are of requests that are not judged{_days(others)}: drop them")
    if unknown:
        faults.append(f"{unknown} {of} name an item that the catalogue lacks: drop them")
    if repeated := rows.height - rows.unique(subset=[*keys, "item_id"]).height:
        faults.append(f"{repeated} {of} repeat a request and item: keep one row a pair")
    coded = joined.select(Scored.column_names()).drop_nulls()
    without = requests.join(coded, on="request", how="anti")
    if without.height:
        faults.append(f"{without.height} of {requests.height} judged requests have no row{_days(without)}: score them")
    if labelled.logged_lists:
        shown = labelled.rows.select(PAIR)
        if absent := shown.join(coded, on=PAIR, how="anti").height:
            faults.append(f"{absent} of {shown.height} shown pairs have no score: score every shown item")
        if extra := coded.join(shown, on=PAIR, how="anti").height:
            faults.append(f"{extra} {of} score an item that was not shown: drop them")
    return coded, faults


def _days(rows: pl.DataFrame) -> str:
    """The first and last day of some rows, in brackets; empty where rows have no day."""
    if "day" not in rows.columns or not rows["day"].count():
        return ""
    day = pl.col("day").cast(pl.String)
    first, last = rows.select(first=day.min(), last=day.max()).row(0)
    return f" ({first})" if first == last else f" ({first} to {last})"
