"""One type a column, decided before files and tables are joined.

People's files have the same ids as integers here, as floats there (pandas makes floats of integers where one is
missing), as categories, or as text. Joined as they come, `101` and `101.0` would be two users. So every column of ids
becomes text or Int64 by itself first, and ids that are text in one file or table are text in all of them.
"""

from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from features.errors import ContractError

__all__ = ["as_ids", "as_text", "dtype_name", "ids_like", "kept_as_text", "stacked", "text_ids", "with_text_ids"]

_LARGEST = 2**63 - 1
_EXACT = {pl.Float32(): 2**24, pl.Float64(): 2**53}  # beyond, neighbouring integers are the same float
_POINT_ZERO = r"^-?(0|[1-9]\d*)\.0$"


def dtype_name(dtype: pl.DataType) -> str:
    """A type for a message: without the values that an Enum lists, since these may be ids.

    >>> dtype_name(pl.Enum(["ann@example.org"]))
    'Enum'
    >>> dtype_name(pl.List(pl.Float64))
    'List(Float64)'
    """
    name = str(dtype)
    return dtype.__class__.__name__ if "Enum" in name else name


def as_ids(column: pl.Series, *, untyped: bool = False) -> pl.Series:
    """Ids as text or Int64.

    Args:
        column: Text, integers, whole floats or decimals, categories, or UTF-8 bytes; NaN is a missing id.
        untyped: Whether all columns of the file are text (a CSV), so that `101.0` in every row is the integer 101.

    Returns:
        String or Int64; integers that Int64 cannot hold are text.

    Raises:
        ContractError: A type that no id has (a truth value, a list, a time), or values that are no ids; says what they
            are, how many, and the first row.
    """
    dtype = column.dtype
    if dtype in (pl.Categorical, pl.Enum, pl.Binary):
        return as_text(column)
    if isinstance(dtype, pl.Float32 | pl.Float64):
        return _whole(column, column.fill_nan(None), _EXACT[dtype])
    if isinstance(dtype, pl.Decimal):
        return _whole(column, column, None)
    if dtype.is_integer():
        return _integers(column)
    if dtype not in (pl.String, pl.Null):
        raise ContractError(f"it is {dtype_name(dtype)}; write ids as text or integers.")
    if untyped and column.drop_nulls().str.contains(_POINT_ZERO).all() and column.count():
        return column.str.strip_suffix(".0")
    return column


def as_text(column: pl.Series) -> pl.Series:
    """Categories and UTF-8 bytes as text.

    Raises:
        ContractError: Bytes are no UTF-8.
    """
    try:
        return column.cast(pl.String)
    except pl.exceptions.ComputeError as error:
        raise ContractError("it holds bytes that are no UTF-8 text. Write it as text.") from error


def _whole(column: pl.Series, values: pl.Series, most: int | None) -> pl.Series:
    """Whole floats or decimals as integers."""
    odd = (values != values.round()).fill_null(value=False)
    if values.dtype.is_float():
        odd |= values.is_infinite().fill_null(value=False) | (values.abs() > most).fill_null(value=False)
    if odd.any():
        first = odd.arg_true()[0]
        raise ContractError(
            f"{int(odd.sum())} of {len(column)} values are no whole numbers, or none that {dtype_name(column.dtype)} "
            f"holds exactly (first at row {first}). Write ids as integers or as text."
        )
    if isinstance(values.dtype, pl.Decimal):
        return _integers(values.cast(pl.Int128))
    return values.cast(pl.Int64)


def _integers(column: pl.Series) -> pl.Series:
    """As Int64 where all fit, else as text."""
    low, high = column.min(), column.max()
    fits = low is None or (low >= -_LARGEST - 1 and high <= _LARGEST)  # type: ignore[operator]
    return column.cast(pl.Int64 if fits else pl.String)


def ids_like(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Ids in the type that other ids have; null where none of those can be meant.

    A text stands for an integer only where it is written as one, so that `007` is not 7.

    >>> ids_like(pl.Series(["7", "007", "x"]), pl.Int64()).to_list()
    [7, None, None]
    >>> ids_like(pl.Series([7.0, None]), pl.String()).to_list()
    ['7', None]
    """
    ids = as_ids(column)
    if dtype == pl.String or not (dtype.is_integer() and ids.dtype == pl.String):
        return ids.cast(dtype, strict=False)
    numbers = ids.cast(pl.Int64, strict=False)
    frame = pl.DataFrame({"text": ids, "number": numbers})
    meant = pl.when(pl.col("number").cast(pl.String) == pl.col("text")).then("number")
    return frame.select(meant.cast(dtype, strict=False)).to_series().alias(column.name)


def kept_as_text(frame: pl.DataFrame, names: Iterable[str]) -> frozenset[str]:
    """Which columns of ids a table has as text."""
    return frozenset(name for name in names if frame.schema.get(name) == pl.String)


def text_ids(frames: Iterable[pl.DataFrame], names: Iterable[str]) -> frozenset[str]:
    """Which ids are text in some table, and so in all that are joined on them."""
    wanted = list(names)
    return frozenset[str]().union(*(kept_as_text(frame, wanted) for frame in frames))


def with_text_ids(frame: pl.DataFrame, names: Iterable[str]) -> pl.DataFrame:
    """The table with some of its ids as text; an integer as it is written, `101` and never `101.0`."""
    return frame.with_columns(
        pl.col(name).cast(pl.String) for name in names if frame.schema.get(name, pl.Null()).is_integer()
    )


def stacked(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Tables one below the other; a column that one of them lacks is null there.

    Where they disagree about the type of a column, numbers become the wider number, clocks with a zone UTC, and all
    else text (times as ISO 8601), which the contract then reads value by value.

    Raises:
        ContractError: A column is a list in one table and something else in another; every such column is named.
    """
    types: dict[str, list[pl.DataType]] = {}
    for frame in frames:
        for name, dtype in frame.schema.items():
            if dtype != pl.Null and dtype not in types.setdefault(name, []):
                types[name].append(dtype)
    plans = {name: _common(dtypes) for name, dtypes in types.items() if len(dtypes) > 1}
    mixed = [f"{name!r} is {' and '.join(map(dtype_name, types[name]))}" for name, plan in plans.items() if not plan]
    if mixed:
        raise ContractError(f"its files disagree about the type of a column: {'; '.join(mixed)}. Write one type.")
    return pl.concat([_planned(frame, plans) for frame in frames], how="diagonal_relaxed")


def _common(dtypes: Sequence[pl.DataType]) -> str | None:
    """How columns of these types become one: "number", "clock", "list", "text"; None where nothing would be right."""
    if all(dtype.is_numeric() for dtype in dtypes):
        return "number"
    if all(isinstance(dtype, pl.Datetime) for dtype in dtypes):
        zones = {dtype.time_zone for dtype in dtypes if isinstance(dtype, pl.Datetime)}
        return "clock" if None not in zones or zones == {None} else "text"
    if all(isinstance(dtype, pl.List | pl.Array) for dtype in dtypes):
        return "list"
    return None if any(dtype.is_nested() or dtype == pl.Object for dtype in dtypes) else "text"


def _planned(frame: pl.DataFrame, plans: Mapping[str, str | None]) -> pl.DataFrame:
    return frame.with_columns(
        _brought(pl.col(name), frame.schema[name], plan) for name, plan in plans.items() if name in frame.columns
    )


def _brought(column: pl.Expr, dtype: pl.DataType, plan: str | None) -> pl.Expr:
    if plan == "number":
        wide = dtype.is_decimal() or dtype in (pl.UInt64, pl.Int128, pl.UInt128)
        return column.cast(pl.Float64) if wide else column
    if plan == "clock":
        aware = isinstance(dtype, pl.Datetime) and dtype.time_zone is not None
        return (column.dt.convert_time_zone("UTC") if aware else column).dt.cast_time_unit("us")
    if plan == "list":
        return column.cast(pl.List(pl.Float64))
    if dtype.is_temporal():
        return column.dt.to_string("iso" if isinstance(dtype, pl.Duration) else "iso:strict")
    return column.cast(pl.String)
