"""Checks of a table before a ranker reads it: LightGBM would end the process, or score silently wrong."""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import polars as pl

from features.errors import ContractError, listed
from ranker.tables import MAX_LABEL

__all__ = [
    "MAX_CANDIDATES",
    "feature_blocks",
    "feature_matrix",
    "feature_table",
    "group_sizes",
    "label_vector",
    "recency_weight",
    "with_a_positive",
    "with_positives",
]

DAY = "as_of_day"
"""Column that weighs; like `POSITION` never a feature."""

MAX_CANDIDATES = 10_000
"""Rows a request may have (LightGBM's own limit)."""

_BLOCK_ROWS = 50_000
_NUMBERS = (
    *(pl.Boolean, pl.Int8, pl.Int16, pl.Int32, pl.Int64),
    *(pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Float32, pl.Float64),
)


def feature_table(table: pl.DataFrame, features: tuple[str, ...]) -> pl.DataFrame:
    """The features by name, in the manifest's order, whatever the order of the table's columns.

    Args:
        table: Has every feature as a number; null and NaN both mean undefined.
        features: Ordered names.

    Returns:
        Float32 columns; no copy of those that are Float32 already.

    Raises:
        ContractError: A feature is missing, is no number, or is infinite; all are named.
    """
    numbers = _numbers(table, features)
    infinite = numbers.select(pl.all().is_infinite().any()).row(0) if features else ()
    _refuse_infinite(features, infinite)
    return numbers


def _numbers(table: pl.DataFrame, features: tuple[str, ...]) -> pl.DataFrame:
    """The features as Float32, infinite or not.

    Raises:
        ContractError: A feature is missing, or is no number; all are named.
    """
    schema = table.schema
    missing = [name for name in features if name not in schema]
    wrong = [f"{name} ({schema[name]})" for name in features if schema.get(name, pl.Int8) not in _NUMBERS]
    faults = []
    if missing:
        faults.append(f"features missing: {listed(missing, most=20)}")
    if wrong:
        faults.append(f"features that are no numbers: {listed(wrong, most=20)}; encode categories before")
    if faults:
        raise ContractError("ranker: " + "; ".join(faults) + ".")
    return table.select(pl.col(name).cast(pl.Float32) for name in features)


def feature_matrix(table: pl.DataFrame, features: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """The same as `feature_table` as one (rows, features) float32 matrix in C order, NaN where undefined."""
    matrix: npt.NDArray[np.float32] = _numbers(table, features).to_numpy(order="c")
    if np.isinf(matrix).any():
        _refuse_infinite(features, [bool(column.any()) for column in np.isinf(matrix.T)])
    return matrix


def feature_blocks(table: pl.DataFrame, features: tuple[str, ...]) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
    """`feature_matrix` of 50,000 rows at a time, so that memory stays flat, and which rows they are."""
    for start in range(0, table.height, _BLOCK_ROWS):
        block = feature_matrix(table.slice(start, _BLOCK_ROWS), features)
        yield slice(start, start + len(block)), block


def _refuse_infinite(features: tuple[str, ...], infinite: Iterable[bool]) -> None:
    names = [name for name, there in zip(features, infinite, strict=True) if there]
    if names:
        raise ContractError(f"ranker: infinite values in {listed(names, most=20)}; use null where undefined.")


def label_vector(labels: pl.Series) -> npt.NDArray[np.int32]:
    """Graded gains as LightGBM wants them.

    Raises:
        ContractError: A label is null, NaN, infinite, negative, above 30 or no whole number.
    """
    if not labels.dtype.is_numeric():
        raise ContractError(f"ranker: labels are {labels.dtype}; they must be whole numbers from 0 to {MAX_LABEL}.")
    values = labels.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    with np.errstate(invalid="ignore"):
        bad = ~((values >= 0) & (values <= MAX_LABEL) & (values == np.floor(values)))
    if bad.any():
        raise ContractError(
            f"ranker: {int(bad.sum())} of {len(values)} labels (first at row {int(bad.argmax())}) are no "
            f"whole numbers from 0 to {MAX_LABEL}. Set the gains under labels.gains, and 0 for no success."
        )
    return values.astype(np.int32)


def group_sizes(requests: pl.Series) -> npt.NDArray[np.int32]:
    """Rows of each request, in order.

    Raises:
        ContractError: The rows of a request do not stand together, or one has more than 10,000.
    """
    runs = requests.rle().struct.unnest()
    split = runs["value"].filter(runs["value"].is_duplicated()).n_unique()
    if split:
        raise ContractError(
            f"ranker: the rows of {split} requests do not stand together. Sort the table by request_id first."
        )
    sizes = runs["len"].cast(pl.Int32).to_numpy()
    if len(sizes) and sizes.max() > MAX_CANDIDATES:
        over = int((sizes > MAX_CANDIDATES).sum())
        raise ContractError(
            f"ranker: {over} requests have more than {MAX_CANDIDATES} candidates (the largest "
            f"{int(sizes.max())}). Lower candidates.max_per_request."
        )
    return sizes


def with_a_positive(table: pl.DataFrame) -> pl.DataFrame:
    """Rows (request, label) of the requests that have a positive among them."""
    return table.filter((pl.col("label").max() > 0).over("request"))


def with_positives(table: pl.DataFrame, what: str, *, remedy: str) -> pl.DataFrame:
    """The requests that teach, or tell when to stop: those that have a positive.

    Args:
        table: request, label; rows of a request together.
        what: It is, for the error.
        remedy: Key that makes it longer.

    Raises:
        ContractError: No request has one, or a label is wrong.
    """
    label_vector(table["label"])  # NOTE: first, since the filter would drop wrong labels unsaid
    teaches = table.select((pl.col("label").max() > 0).over("request")).to_series()
    kept = table if teaches.all() else table.filter(teaches)
    if kept.is_empty():
        raise ContractError(
            f"ranker: no {what} request has a positive among its candidates, so there is nothing to learn "
            f"or to stop on. Lengthen {remedy}, or raise the quotas under candidates."
        )
    return kept


def recency_weight(table: pl.DataFrame, half_life_days: float | None) -> npt.NDArray[np.float32] | None:
    """Each row's weight by the age of its request, 1 on the latest day; None where all count alike."""
    if half_life_days is None:
        return None
    day = table[DAY].to_numpy().astype(np.float64)
    weight: npt.NDArray[np.float32] = np.exp2((day - day.max()) / half_life_days).astype(np.float32)
    return weight
