"""What must hold before LightGBM sees a table: it would end the process, or score silently wrong."""

import numpy as np
import numpy.typing as npt
import polars as pl

from features.errors import ContractError, listed
from ranker.tables import MAX_LABEL

__all__ = ["MAX_CANDIDATES", "feature_matrix", "feature_table", "group_sizes", "label_vector"]

MAX_CANDIDATES = 10_000
"""Rows a request may have (LightGBM's own limit)."""

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
    missing = [name for name in features if name not in table.columns]
    wrong = [f"{name} ({table.schema[name]})" for name in features if table.schema.get(name, pl.Int8) not in _NUMBERS]
    faults = []
    if missing:
        faults.append(f"features missing: {listed(missing, most=20)}")
    if wrong:
        faults.append(f"features that are no numbers: {listed(wrong, most=20)}; encode categories before")
    if faults:
        raise ContractError("ranker: " + "; ".join(faults) + ".")
    numbers = table.select(pl.col(name).cast(pl.Float32) for name in features)
    infinite = numbers.select(pl.all().is_infinite().any())
    names = [name for name in features if infinite[name].item()]
    if names:
        raise ContractError(f"ranker: infinite values in {listed(names, most=20)}; use null where undefined.")
    return numbers


def feature_matrix(table: pl.DataFrame, features: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """The same as `feature_table` as one (rows, features) float32 matrix in C order, NaN where undefined."""
    return feature_table(table, features).to_numpy(order="c")


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
