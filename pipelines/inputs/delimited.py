"""CSV files as programs write them: read completely, or refused with the line and the fault.

Separators are commas, semicolons, tabs or bars, whichever the header has most of. The text must be UTF-8, with a byte
order mark or without. A quote counts as one where RFC 4180 allows it: around a whole field. Elsewhere (`19" monitor`)
it is an ordinary character. Where every name in the header ends with a type of RecBole's (`item_id:token`), the types
are no part of the names, and no quote counts.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from features.errors import ContractError, listed

__all__ = ["parse_csv", "parse_unquoted"]

_SEPARATORS = (",", ";", "\t", "|")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_OTHER_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_TYPED = r"[^:]:(token|token_seq|float|float_seq)$"  # RecBole's atomic files say a column's type in its name
_QUOTE, _NEWLINE, _RETURN = b'"\n\r'
_LONGEST_FIELD = 2**31 - 1


def parse_csv(content: bytes) -> pl.DataFrame:
    """The rows of a CSV file; every column is text, and an empty field is null.

    Blank lines are no rows. Characters that were written as surrogates are made whole; a lone half becomes U+FFFD.

    Raises:
        ContractError: It is in another encoding, quotes are unbalanced, or a row has more or fewer fields than the
            header; says the line and the remedy.
    """
    content = _in_utf8(content.removeprefix(_BYTE_ORDER_MARK))
    if b"\n" not in content and b"\r" in content:
        content = content.replace(b"\r", b"\n")
    csv.field_size_limit(_LONGEST_FIELD)
    header = _header_line(content)
    separator = max(_SEPARATORS, key=lambda mark: _outside_quotes(header, mark))
    names = next(iter(_records(header.encode(), separator)), (1, [""]))[1]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ContractError(f"its header names {listed(repeated)} more than once. Give each column a name of its own.")
    if all(re.search(_TYPED, name) for name in names):
        frame = parse_unquoted(content.split(b"\n", 1)[1] if b"\n" in content else b"", separator, names)
        return frame.rename({name: name.rsplit(":", 1)[0] for name in names})
    return _parsed(content, separator, names)


def parse_unquoted(content: bytes, separator: str, names: Sequence[str]) -> pl.DataFrame:
    """The rows of a file in which quotes are ordinary characters, as RecBole and MIND write theirs; without a header.

    Raises:
        ContractError: A row has more fields than there are names, or the text is no UTF-8.
    """
    schema = dict.fromkeys(names, pl.String)
    try:
        frame = pl.read_csv(
            io.BytesIO(_in_utf8(content)), has_header=False, schema=schema, separator=separator, quote_char=None
        )
    except pl.exceptions.NoDataError:
        return pl.DataFrame(schema=schema)
    except pl.exceptions.PolarsError:
        raise ContractError(f"a row has more fields than the {len(names)} that the first line has.") from None
    return _without_blank_lines(frame)


def _parsed(content: bytes, separator: str, names: list[str]) -> pl.DataFrame:
    letters = np.frombuffer(content, np.uint8)
    quotes = np.flatnonzero(letters == _QUOTE)
    if not _are_whole(quotes, letters, separator):
        return _by_line(content, separator)
    try:
        frame = pl.read_csv(io.BytesIO(content), infer_schema=False, separator=separator, encoding="utf8")
    except pl.exceptions.NoDataError:
        return pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    except pl.exceptions.PolarsError:
        return _by_line(content, separator)  # which names the line
    frame = _without_blank_lines(_with_empty_as_null(frame) if b'""' in content else frame)
    # NOTE: a row that is too long stops polars, but a short one is filled up; its separators are missing then.
    marks = np.flatnonzero(letters == ord(separator))
    outside = np.searchsorted(quotes, marks) % 2 == 0 if len(quotes) else np.ones(len(marks), np.bool_)
    return frame if outside.sum() == (frame.height + 1) * (len(names) - 1) else _by_line(content, separator)


def _in_utf8(content: bytes) -> bytes:
    """The content, which is UTF-8.

    Raises:
        ContractError: It is not.
    """
    for mark, encoding in _OTHER_MARKS.items():
        if content.startswith(mark):
            raise ContractError(f"it is in {encoding}. Convert it: iconv -f {encoding} -t UTF-8.")
    start = content[:1000]
    if start.count(b"\0") > len(start) // 4:
        encoding = "UTF-16BE" if start[:1] == b"\0" else "UTF-16LE"
        raise ContractError(f"every other byte is zero, as in UTF-16. Convert it: iconv -f {encoding} -t UTF-8.")
    try:
        content.decode()
    except UnicodeDecodeError:
        return _without_surrogates(content)
    return content


def _without_surrogates(content: bytes) -> bytes:
    """Characters that were written as two surrogates made whole, and each half without its other U+FFFD."""
    try:
        text = content.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ContractError(
            f"line {line} is not UTF-8 (byte 0x{content[error.start]:02X}); Western European spreadsheets write "
            "Windows-1252. Convert it: iconv -f WINDOWS-1252 -t UTF-8."
        ) from None
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _header_line(content: bytes) -> str:
    """The first line that is not blank; a quoted name may span several."""
    stripped = content.lstrip(b"\r\n")
    end, quoted = 0, False
    for part in stripped.splitlines(keepends=True):
        end += len(part)
        quoted ^= part.count(b'"') % 2 == 1
        if not quoted:
            break
    return stripped[:end].decode().rstrip("\r\n")


def _outside_quotes(line: str, mark: str) -> int:
    return sum(part.count(mark) for part in line.split('"')[::2])


def _are_whole(quotes: npt.NDArray[np.int64], letters: npt.NDArray[np.uint8], separator: str) -> bool:
    """Whether each quote opens or closes a whole field, or is doubled within one; by the positions of the quotes."""
    if len(quotes) % 2:
        return False
    starts, ends = quotes[::2], quotes[1::2]
    is_edge = np.zeros(256, np.bool_)
    is_edge[[ord(separator), _NEWLINE, _RETURN]] = True
    # NOTE: a doubled quote closes and opens again at once.
    doubled = starts[1:] == ends[:-1] + 1
    opens = is_edge[letters[np.maximum(starts, 1) - 1]] | (starts == 0)
    closes = is_edge[letters[np.minimum(ends + 1, len(letters) - 1)]] | (ends == len(letters) - 1)
    opens[1:] |= doubled
    closes[:-1] |= doubled
    return bool(opens.all() and closes.all())


def _by_line(content: bytes, separator: str) -> pl.DataFrame:
    """Read record by record: slower, exact about quotes, and able to say where a file is wrong."""
    records = _records(content, separator)
    _, names = next(records)
    rows = []
    for line, record in records:
        if len(record) != len(names):
            raise ContractError(_uneven(line, len(record), len(names)))
        rows.append(record)
    columns = zip(*rows, strict=True) if rows else [[]] * len(names)
    frame = pl.DataFrame(
        {name: pl.Series(column, dtype=pl.String) for name, column in zip(names, columns, strict=True)}
    )
    return _with_empty_as_null(frame)


def _with_empty_as_null(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.when(pl.all() != "").then(pl.all()).name.keep())


def _records(content: bytes, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The records that are not blank, each with the line on which it begins.

    Raises:
        ContractError: Quotes are unbalanced.
    """
    reader = csv.reader(io.StringIO(content.decode(), newline=""), delimiter=separator, strict=True)
    line = 1
    try:
        for record in reader:
            if record:
                yield line, record
            line = reader.line_num + 1
    except csv.Error as error:
        raise ContractError(
            f"the quotes of the record that begins on line {line} are not balanced ({error}). Put quotes around whole "
            "fields, and write a quote within a quoted field twice."
        ) from None


def _uneven(line: int, n_fields: int, wanted: int) -> str:
    return (
        f"line {line} has {n_fields} fields and the header {wanted}. Put quotes around fields that hold the separator, "
        "and write a field for every column."
    )


def _without_blank_lines(frame: pl.DataFrame) -> pl.DataFrame:
    blank = pl.all_horizontal(pl.all().is_null())
    return frame.filter(~blank) if frame.width and frame[:, 0].has_nulls() else frame
