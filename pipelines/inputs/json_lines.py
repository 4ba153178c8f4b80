"""JSON lines: a JSON object a line, its keys the columns; read whole and right, or refused with the line."""

import io
import json
import math
from typing import Any

import polars as pl

from features.errors import ContractError

__all__ = ["parse_json_lines"]

_PLAIN = (str, int, float, bool, type(None))
_INT64 = 2**63


def parse_json_lines(content: bytes) -> pl.DataFrame:
    """The rows of a file of JSON lines.

    A key that a line lacks is null there. Lists of texts become one text, joined by a comma and a space; other nested
    values become JSON text. NaN is null. Columns that hold numbers here and texts there are text.

    Raises:
        ContractError: A line is no JSON object, or the file is no UTF-8; says the line.
    """
    try:
        frame = pl.read_ndjson(io.BytesIO(content), infer_schema_length=None)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError):
        return _by_line(content)
    if any(dtype.is_nested() for dtype in frame.dtypes):
        return _by_line(content)
    return frame


def _by_line(content: bytes) -> pl.DataFrame:
    """Read line by line: slower, exact about types, and able to say where a file is wrong."""
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ContractError(
                f"line {number} is no JSON ({type(error).__name__}). Write one JSON object a line, in UTF-8; a file "
                "that is one long list is turned by: jq -c '.[]'."
            ) from None
        if not isinstance(row, dict):
            raise ContractError(
                f"line {number} is no JSON object. Write one object a line; a list of them is turned by: jq -c '.[]'."
            )
        rows.append({key: _flat(value) for key, value in row.items()})
    names = dict.fromkeys(key for row in rows for key in row)
    return pl.DataFrame({name: _column([row.get(name) for row in rows]) for name in names})


def _flat(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return ", ".join(value) or None
    if isinstance(value, list) and value and all(isinstance(part, int | float) for part in value):
        return [float(part) for part in value]
    return json.dumps(value, ensure_ascii=False) if value else None


def _column(values: list[Any]) -> pl.Series:
    """One type for a column; what is of several types is text."""
    kinds = {type(value) for value in values if value is not None}
    whole = kinds == {int} and all(abs(value) < _INT64 for value in values if value is not None)
    if kinds <= {str} or kinds in ({float}, {bool}, {list}) or whole:
        return pl.Series(values, strict=False)
    if kinds == {int, float}:
        return pl.Series([None if value is None else float(value) for value in values], dtype=pl.Float64)
    texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return pl.Series(texts, dtype=pl.String)
