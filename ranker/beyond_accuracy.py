"""Metrics of lists beyond accuracy: coverage, exposure, popularity, novelty and diversity.

Conventions:
- Every request that has a list counts, with a positive or without. A list shorter than k counts as it is.
- Ties in score count as the expectation over random order: a row has a share, its chance to be among the first k.
  Row order never matters.
- Popularity of an item: the share of users who had it before the cut-off. Mean over a list (ARP; Yin et al., VLDB
  2012); the higher, the more the system leans on what sells anyway.
- Novelty: mean self-information -log2(popularity) in bits (Zhou et al., PNAS 2010; Vargas & Castells, RecSys 2011);
  an item that nobody had counts as one that a single user had.
- Diversity: intra-list diversity, the mean of 1 - cosine over the pairs of a list (Smyth & McClave, ICCBR 2001);
  undefined, and left out of its mean, where a list has no pair with vectors.
- Coverage: the share of the catalogue that is in some list (aggregate diversity; Ge et al., RecSys 2010), and Gini:
  how unequally the lists expose the catalogue, from 0, all items alike, up to 1 (Fleder & Hosanagar 2009).
"""

# R requests with a list, S rows that may be among the first k, I items of the catalogue, D width of a vector
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ranker.tables import blocks, cutoff_faults, refuse, table_faults
from ranker.ties import Floats, Ints, summed

__all__ = ["BEYOND_CONVENTIONS", "BeyondAccuracy", "beyond_accuracy", "exposure"]

BEYOND_CONVENTIONS: Final = (__doc__ or "").partition("Conventions:\n")[2].strip()

_VECTOR_ROWS: Final = 1 << 16
"""Vectors gathered at a time."""


@dataclass(frozen=True, slots=True)
class BeyondAccuracy:
    """Result of `beyond_accuracy`.

    Attributes:
        lists: Sorted by `request_id`; for each k `popularity@k`, `novelty@k` and, of a catalogue with vectors,
            `diversity@k` (Float64; diversity is null where undefined).
        catalogue: `coverage@k` and `gini@k` over all lists; NaN without a list, or without an item.
    """

    lists: pl.DataFrame
    catalogue: dict[str, float]

    def means(self) -> dict[str, float]:
        """Every metric once: those of lists averaged over requests, NaN where no list has one."""
        names = [name for name in self.lists.columns if "@" in name]
        average = pl.col(names).mean().fill_null(np.nan)
        return {**self.lists.select(average).row(0, named=True), **self.catalogue}


def beyond_accuracy(
    rankings: pl.DataFrame,
    items: pl.DataFrame,
    *,
    n_users: int,
    vectors: NDArray[np.number] | None = None,
    cutoffs: Sequence[int] = (5, 10),
) -> BeyondAccuracy:
    """Judge ranked lists by what they show (see `BEYOND_CONVENTIONS`).

    Args:
        rankings: `request_id`, `item_id`, `score`, as `ranker.metrics.per_request` takes them.
        items: `item_id`, `users` (whole: how many users had it before the cut-off), a row for each item that could
            be shown; every ranked item must be there.
        n_users: Users there were before the cut-off, 1 or more.
        vectors: (I, D) a vector for each row of `items`, of any length; an item whose vector is zero has none.
        cutoffs: The k of each metric, 1 or more.

    Raises:
        ContractError: Naming all faults at once: those of rankings and cut-offs, items unknown or twice, counts of
            users out of range, vectors of another shape or not finite.

    One list shows a, which all four users had, and b, which one had; nobody sees c:

    >>> rankings = pl.DataFrame({"request_id": [1, 1], "item_id": ["a", "b"], "score": [0.9, 0.4]})
    >>> items = pl.DataFrame({"item_id": ["a", "b", "c"], "users": [4, 1, 2]})
    >>> found = beyond_accuracy(rankings, items, n_users=4, vectors=np.eye(3)[[0, 1, 2]], cutoffs=[2])
    >>> found.lists.row(0, named=True)
    {'request_id': 1, 'popularity@2': 0.625, 'novelty@2': 1.0, 'diversity@2': 1.0}
    >>> {name: round(value, 4) for name, value in found.catalogue.items()}
    {'coverage@2': 0.6667, 'gini@2': 0.3333}
    """
    faults = cutoff_faults(cutoffs) + table_faults("rankings", rankings)
    refuse(faults + _catalogue_faults(rankings, items, n_users, vectors))
    users = items["users"].cast(pl.Float64).to_numpy()
    value_of_item = {"popularity": users / n_users, "novelty": -np.log2(np.maximum(users, 1) / n_users)}
    unit = None if vectors is None else _unit(vectors)
    codes = items.select("item_id").with_row_index("item")
    lists = []
    missed, exposed = np.ones((len(cutoffs), items.height)), np.zeros((len(cutoffs), items.height))
    for (block,) in blocks(rankings.select("request_id", "item_id", "score")):
        requests = block.select(pl.col("request_id").unique().sort()).with_row_index("request")
        columns: dict[str, Floats | pl.Series] = {}
        for number, k in enumerate(cutoffs):
            request, item, share = _first(block, requests, codes, k)
            total = summed(request, share, requests.height)
            for name, value in value_of_item.items():
                columns[f"{name}@{k}"] = summed(request, share * value[item], requests.height) / total
            if unit is not None:
                diversity = _diversity(request, item, share, unit, requests.height, k)
                columns[f"diversity@{k}"] = pl.Series(diversity, nan_to_null=True)
            missed[number] *= _missed(item, share, items.height)
            exposed[number] += summed(item, share, items.height)
        lists.append(requests.select("request_id").with_columns(pl.DataFrame(columns)))
    catalogue = {}
    for number, k in enumerate(cutoffs):
        shown = bool(exposed[number].any())
        catalogue[f"coverage@{k}"] = float(1 - missed[number].mean()) if shown else np.nan
        catalogue[f"gini@{k}"] = _gini(exposed[number]) if shown else np.nan
    return BeyondAccuracy(pl.concat(lists).sort("request_id"), catalogue)


def exposure(rankings: pl.DataFrame, items: pl.Series, *, k: int) -> pl.DataFrame:
    """How often each item is among the first k of a list.

    Args:
        rankings: `request_id`, `item_id`, `score`, as `ranker.metrics.per_request` takes them.
        items: Ids of all items, each once; every ranked item must be there.
        k: 1 or more.

    Returns:
        item_id and exposure (Float64), in the order of `items`: the expected number of lists, ties by chance.

    Raises:
        ContractError: Rankings or k break the contract.

    >>> rankings = pl.DataFrame({"request_id": [1, 1, 2, 2], "item_id": ["a", "b", "a", "b"], "score": [2, 1, 5, 5]})
    >>> exposure(rankings, pl.Series(["a", "b", "c"]), k=1)["exposure"].to_list()
    [1.5, 0.5, 0.0]
    """
    refuse(cutoff_faults([k]) + table_faults("rankings", rankings))
    codes = items.to_frame("item_id").with_row_index("item")
    exposed = np.zeros(len(items))
    for (block,) in blocks(rankings.select("request_id", "item_id", "score")):
        requests = block.select(pl.col("request_id").unique().sort()).with_row_index("request")
        _, item, share = _first(block, requests, codes, k)
        exposed += summed(item, share, len(items))
    return codes.select("item_id", pl.Series("exposure", exposed))


def _first(rankings: pl.DataFrame, requests: pl.DataFrame, items: pl.DataFrame, k: int) -> tuple[Ints, Ints, Floats]:
    """(S,) request, item and share of each row that may be among the first k, by request and item.

    The rows above the k-th score are surely there; those tied at it fill the places that are left.
    """
    score = pl.col("score").cast(pl.Float64)
    top = (
        rankings.with_columns(score)
        .group_by("request_id")
        .agg(least=pl.col("score").top_k(k).min(), score=pl.col("score"), item_id=pl.col("item_id"))
        .explode("score", "item_id")
        .filter(pl.col("score") >= pl.col("least"))
        .join(requests, on="request_id")
        .join(items, on="item_id")
        .sort("request", "item")
    )
    request, item = (top[name].cast(pl.Int64).to_numpy() for name in ("request", "item"))
    tied = (top["score"] == top["least"]).to_numpy()
    above, size = (np.bincount(request[rows], minlength=requests.height)[request] for rows in (~tied, tied))
    return request, item, np.where(tied, np.minimum((k - above) / np.maximum(size, 1), 1.0), 1.0)


def _missed(item: Ints, share: Floats, n_items: int) -> Floats:
    """(I,) chance that an item is in none of the lists."""
    sure = share == 1
    missed = np.exp(summed(item[~sure], np.log1p(-share[~sure]), n_items))
    missed[item[sure]] = 0.0
    return missed


def _gini(exposed: Floats) -> float:
    """Gini index of (I,) exposures, not all 0: sum of (2 i - I - 1) e_i / (I sum of e), e ascending, i from 1."""
    ordered = np.sort(exposed)
    weight = 2 * np.arange(1, len(ordered) + 1) - len(ordered) - 1
    return float((weight * ordered).sum() / (len(ordered) * ordered.sum()))


def _unit(vectors: NDArray[np.number]) -> NDArray[np.float32]:
    """(I, D) vectors of length 1; a zero vector stays."""
    unit = vectors.astype(np.float32)
    length = np.linalg.norm(unit, axis=1, keepdims=True)
    np.divide(unit, length, out=unit, where=length > 0)
    return unit


def _diversity(request: Ints, item: Ints, share: Floats, unit: NDArray[np.float32], n_requests: int, k: int) -> Floats:
    """(R,) mean of 1 - cosine over a list's pairs with vectors, ties by expectation; NaN without a pair.

    Cosines of all pairs among m vectors sum to (|sum of vectors|^2 - sum of |vector|^2) / 2. A list is its sure rows
    and, of the n rows tied at its end, t that chance picks: a tied row is there with probability t / n, two of them
    with t (t - 1) / (n (n - 1)).
    """
    tied = share < 1
    has = (unit != 0).any(axis=1)[item]
    rows, ties = (np.bincount(request[kind], minlength=n_requests) for kind in (~tied, tied))
    taken = np.minimum(k - rows, ties)
    one = taken / np.maximum(ties, 1)
    two = taken * (taken - 1) / np.maximum(ties * (ties - 1), 1)
    similar, pairs = np.zeros((2, n_requests))
    for start, end in _stretches(request, n_requests):
        within = slice(*np.searchsorted(request, [start, end]))
        sums = []
        for kind in (~tied[within], tied[within]):
            part = kind & has[within]
            owner, vector = request[within][part] - start, unit[item[within][part]].astype(np.float64)
            count = np.bincount(owner, minlength=end - start)
            total = np.zeros((end - start, unit.shape[1]))
            filled = count > 0
            if filled.any():
                total[filled] = np.add.reduceat(vector, (np.cumsum(count) - count)[filled], axis=0)
            square = summed(owner, np.einsum("sd,sd->s", vector, vector), end - start)
            sums.append((total, (np.einsum("rd,rd->r", total, total) - square) / 2, count))
        (sure, among_sure, n_sure), (loose, among_loose, n_loose) = sums
        across = np.einsum("rd,rd->r", sure, loose)
        here = slice(start, end)
        similar[here] = among_sure + one[here] * across + two[here] * among_loose
        pairs[here] = n_sure * (n_sure - 1) / 2 + one[here] * n_sure * n_loose + two[here] * n_loose * (n_loose - 1) / 2
    out = np.full(n_requests, np.nan)
    np.divide(similar, pairs, out=out, where=pairs > 0)
    return 1 - out


def _stretches(request: Ints, n_requests: int) -> list[tuple[int, int]]:
    """Requests from, to (exclusive), so that each stretch has about `_VECTOR_ROWS` rows; requests are ascending."""
    edges = [0]
    for at in range(_VECTOR_ROWS, len(request), _VECTOR_ROWS):
        if request[at] > edges[-1]:
            edges.append(int(request[at]))
    return list(zip(edges, [*edges[1:], n_requests], strict=True))


def _catalogue_faults(
    rankings: pl.DataFrame, items: pl.DataFrame, n_users: int, vectors: NDArray[np.number] | None
) -> list[str]:
    """All faults of the catalogue table and its vectors."""
    missing = [name for name in ("item_id", "users") if name not in items.columns]
    if missing:
        return [f"items: there is no column {name}" for name in missing]
    faults = []
    if twice := items.height - items["item_id"].n_unique():
        faults.append(f"items: {twice} of {items.height} rows repeat an item_id: keep one row an item")
    ranked = rankings["item_id"] if "item_id" in rankings.columns else items["item_id"].clear()
    if ranked.dtype != items["item_id"].dtype:
        faults.append(f"item_id is {ranked.dtype} in rankings and {items['item_id'].dtype} in items: cast one")
    elif strange := int((~ranked.drop_nulls().is_in(items["item_id"].implode())).sum()):
        faults.append(f"rankings: {strange} of {rankings.height} rows have an item that items lacks: add it there")
    if n_users < 1:
        faults.append(f"n_users is {n_users}: give the number of users before the cut-off, 1 or more")
    if not items["users"].dtype.is_integer():
        faults.append(f"items: users is {items['users'].dtype}: give whole counts")
    elif bad := int((~items["users"].is_between(0, max(n_users, 0))).fill_null(value=True).sum()):
        faults.append(f"items: {bad} of {items.height} rows have users missing, below 0 or above n_users")
    if vectors is not None and vectors.shape[:1] + (1,) * (vectors.ndim - 1) != (items.height, 1):
        faults.append(f"vectors have shape {vectors.shape}: give one a row of items ({items.height})")
    elif vectors is not None and not np.isfinite(vectors).all():
        faults.append("vectors are not finite: give zeros where there is none")
    return faults
