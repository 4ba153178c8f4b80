"""Whether a frame is what its class in `features.tables.frames` says."""

import polars as pl

from features.tables.frames import Frame


def check_frame(frame: pl.DataFrame, declared: type[Frame], *, further: bool = False, sorted_by: tuple[str, ...] = ()):
    """Columns in the declared order, their dtypes, values and keys; the order of rows; and that there are rows.

    Args:
        frame: What was made.
        declared: Its class.
        further: Whether other columns stand behind those of the class.
        sorted_by: Columns by which the rows are sorted.
    """
    names = declared.column_names()
    assert frame.height
    assert (frame.columns[: len(names)] if further else frame.columns) == names
    wanted = {name: dtype for name, dtype in declared.dtypes().items() if dtype != pl.Null}  # of `dy.Any` any
    assert {name: frame.schema[name] for name in wanted} == wanted
    _, failure = declared.filter(frame)
    assert not failure.counts(), failure.counts()
    if sorted_by:
        keys = frame.select(sorted_by)
        assert keys.equals(keys.sort(sorted_by))
