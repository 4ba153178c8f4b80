"""Reasons for a score: contributions of features, added up by feature family."""

# N rows, F features
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["family_parts", "reasons"]


def family_parts(
    contribution_NF: npt.NDArray[np.float64], families: Sequence[str]
) -> tuple[list[str], npt.NDArray[np.float64]]:
    """What each feature family adds to each row's score: the sum of its features' contributions.

    Args:
        contribution_NF: `Ranker.contributions`.
        families: Family of each feature, in their order.

    Returns:
        Names of the families, sorted, and (N, families) their parts.
    """
    if len(families) != contribution_NF.shape[1]:
        raise ValueError(f"{len(families)} families for {contribution_NF.shape[1]} features")
    names = sorted(set(families))
    own = np.array(families)
    # NOTE: each family's features in their order, one after the other: a row's sums do not depend on other rows.
    part_NG = np.zeros((len(contribution_NF), len(names)))
    for at, name in enumerate(names):
        for feature in np.flatnonzero(own == name):
            part_NG[:, at] += contribution_NF[:, feature]
    return names, part_NG


def reasons(contribution_NF: npt.NDArray[np.float64], families: Sequence[str], most: int) -> pl.Series:
    """The families that lifted each row's score most.

    A family's part is the sum of its features' contributions (Lundberg et al. 2020, "From local explanations to global
    understanding with explainable AI for trees"): with the ranker's mean they add up to the score.

    Args:
        contribution_NF: `Ranker.contributions`.
        families: Family of each feature, in their order.
        most: Families named for a row.

    Returns:
        List(String) `reasons`: names, the largest part first, ties by name. Families that did not lift the score are
        not named; a row that nothing lifted has an empty list.
    """
    names, part_NG = family_parts(contribution_NF, families)
    order_NG = np.argsort(-part_NG, axis=1, kind="stable")[:, :most]
    lifted_NG = np.take_along_axis(part_NG, order_NG, 1) > 0
    named = np.array(names, dtype=object)[order_NG]
    names_by_row = [row[lifted].tolist() for row, lifted in zip(named, lifted_NG, strict=True)]
    return pl.Series("reasons", names_by_row, dtype=pl.List(pl.String))
