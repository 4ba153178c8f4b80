"""Verb `read`: the published lists of a date or a user, for people and for programs of any language."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO

import polars as pl
from rich.table import Table

from features.errors import ConfigError
from pipelines.base.outside import printable
from pipelines.base.progress import say
from pipelines.stores.publish import Published, published_on
from pipelines.stores.served import last_good, served
from pipelines.stores.storage import atomic_writer, read_parquet

__all__ = ["FORMATS", "Lists", "for_spreadsheets", "json_lines", "rankings_of", "rankings_table", "write_lists"]

FORMATS = ("table", "parquet", "csv", "jsonl")

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What makes a spreadsheet compute a cell: the signs, their wide forms, and white space before them."""


@dataclass(frozen=True, slots=True)
class Lists:
    """What was asked for.

    Attributes:
        published: The night.
        user: The user whose list it is; None for all.
        of_user: That user's rows: the list of the fallback where the night has none of the user's own.
        is_fallback: Whether it is.
    """

    published: Published
    user: str | None = None
    of_user: pl.DataFrame | None = None
    is_fallback: bool = False

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.published.rows if self.of_user is None else self.of_user.height

    def parts(self) -> Iterator[pl.DataFrame]:
        """The rows, a shard at a time."""
        if self.of_user is not None:
            yield self.of_user
        else:
            yield from (read_parquet(shard) for shard in self.published.shards)


def rankings_of(root: Path, when: date | None = None, user: str | None = None) -> Lists:
    """What is live, or the last good rankings that were published for a date; verified.

    Args:
        root: The folder `rankings`.
        when: The date; None for what is live.
        user: The one user to read; None for all.

    Raises:
        ConfigError: Nothing was published, or nothing for that date.
        IntegrityError: What is live, or all that was published for the date, is damaged.
    """
    chosen = _live(root) if when is None else last_good(published_on(root, when))
    if user is None:
        return Lists(chosen)
    own = _rows_of(chosen, user)
    if not own.is_empty():
        return Lists(chosen, user, own)
    fallback = chosen.fallback().select(pl.lit(user).alias("user_id"), pl.all())
    return Lists(chosen, user, fallback, is_fallback=True)


def _live(root: Path) -> Published:
    live = served(root)
    if live is None:
        raise ConfigError("nothing was published yet: nightrank score --date DAY.")
    if live.damage is not None:
        say("what is live is damaged: the last good rankings are read", date=str(live.attempt.day), because=live.damage)
    return live


def _rows_of(chosen: Published, user: str) -> pl.DataFrame:
    """A user's rows; none where the night has none, or the id is of another type."""
    if not chosen.shards:
        return pl.DataFrame()
    rows = pl.scan_parquet(chosen.shards, glob=False, hive_partitioning=False)
    dtype = rows.collect_schema()["user_id"]
    wanted = pl.Series([user]).cast(dtype, strict=False)
    if wanted.cast(pl.String).to_list() != [user]:
        return pl.DataFrame()
    return rows.filter(pl.col("user_id") == wanted.item()).sort("rank").collect()


def rankings_table(lists: Lists, *, most: int) -> Table:
    """The first rows, for people."""
    first = next(lists.parts(), pl.DataFrame()).head(most)
    more = lists.rows - first.height
    title = f"Rankings of {lists.published.attempt.day}"
    table = Table(*first.columns, title=title, caption=f"and {more:,} more rows" if more > 0 else None)
    for row in first.iter_rows():
        table.add_row(*(f"{cell:.6g}" if isinstance(cell, float) else str(cell) for cell in row))
    return table


def write_lists(lists: Lists, form: str, to: Path | None) -> None:
    """Write rows as CSV, JSON lines or Parquet.

    Args:
        lists: What was asked for.
        form: The format.
        to: The file; None writes to stdout, which takes text alone.

    Raises:
        ConfigError: The format needs a file, is for people alone, or is none of these.
    """
    if form not in FORMATS:
        raise ConfigError(f"there is no format {form!r}. Name one with --format: parquet, csv or jsonl.")
    if form == "table":
        raise ConfigError("a table is for people, and goes to no file. Name another --format: parquet, csv or jsonl.")
    if form == "parquet":
        if to is None:
            raise ConfigError("--format parquet writes a file: name it with --to FILE.")
        with atomic_writer(to) as file:
            _write_parquet(lists, file)
        return
    texts = for_spreadsheets(lists.parts()) if form == "csv" else json_lines(lists.parts())
    with _stdout() if to is None else atomic_writer(to) as out:
        for text in texts:
            out.write(text.encode())


@contextmanager
def _stdout() -> Iterator[IO[bytes]]:
    sys.stdout.flush()
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()


def _write_parquet(lists: Lists, file: IO[bytes]) -> None:
    if lists.of_user is not None:
        lists.of_user.write_parquet(file)
    else:
        pl.scan_parquet(lists.published.shards, glob=False, hive_partitioning=False).sink_parquet(file)


def for_spreadsheets(parts: Iterable[pl.DataFrame]) -> Iterator[str]:
    """Rows as CSV in which no text is a formula, and none has a line end or a control character.

    An apostrophe stands before a text that a spreadsheet would compute; control characters become their escapes.
    Numbers stay numbers. Families of reasons are joined by semicolons.
    """
    is_first = True
    for part in parts:
        plain = part.with_columns(pl.col(pl.List(pl.String)).list.join(";"))
        cells = {
            name: plain[name].replace({text: cell for text in plain[name].unique() if (cell := _cell(text)) != text})
            for name, dtype in plain.schema.items()
            if dtype == pl.String
        }
        yield plain.with_columns(**cells).write_csv(include_header=is_first)
        is_first = False


def _cell(text: str | None) -> str | None:
    if not text:
        return text
    return f"'{printable(text)}" if text.startswith(_FORMULA) else printable(text)


def json_lines(parts: Iterable[pl.DataFrame]) -> Iterator[str]:
    """Rows as one JSON object a line, in ASCII: any other character stands as its escape."""
    for part in parts:
        rows = (json.dumps(row, ensure_ascii=True, default=str) for row in part.iter_rows(named=True))
        yield "".join(f"{row}\n" for row in rows).replace("\x7f", "\\u007f")
