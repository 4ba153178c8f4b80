"""How sure a mean over requests is, and whether one system beats another on the same requests.

Requests of one user are not independent, and an interval that takes them to be is too narrow. So it is users
(clusters) that are resampled, never requests.
"""

# B resamples, C clusters, R requests
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from features.errors import ContractError
from ranker.ties import sorted_lists

__all__ = ["Interval", "PairedResult", "clustered_interval", "clustered_intervals", "holm", "paired_difference"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Clusters = NDArray[np.generic] | pl.Series

MAX_UNITS: Final = 10_000
POWER: Final = 0.8
TIE: Final = 1e-12
_BLOCK_CELLS: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over requests with its confidence limits; the limits are NaN where there is one cluster only."""

    mean: float
    low: float
    high: float
    n_requests: int
    n_clusters: int


@dataclass(frozen=True, slots=True)
class PairedResult:
    """System a against system b on the same requests.

    Attributes:
        difference: Interval of the mean of a - b.
        p_value: Two-sided, of the sign-flip test.
        wins: Requests where a is above b by more than `TIE`.
        ties: Requests where they are equal within `TIE`.
        losses: Requests where a is below b by more than `TIE`.
        minimal_detectable_effect: The true mean difference that a two-sided test at 1 - level would find in
            80 % of samples like this one; NaN where there is one cluster only.
    """

    difference: Interval
    p_value: float
    wins: int
    ties: int
    losses: int
    minimal_detectable_effect: float


def clustered_interval(
    values: ArrayLike,
    clusters: Clusters,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of a mean over requests, resampling whole clusters (users).

    Each resample draws as many clusters as there are, with replacement, and takes the ratio of their summed
    values to their summed counts, so that the number of requests varies as it does in life. Above
    `MAX_UNITS` clusters, they are first dealt at random into that many equal units, and units are drawn:
    the standard error is the same in expectation, and its own error (0.7 %) below that of 2,000 resamples
    (1.6 %). With a dozen clusters or fewer the interval is too narrow, as every bootstrap is. Same seed,
    same interval, whatever the order of the rows. Source: Cameron, Gelbach & Miller, "Bootstrap-based
    improvements for inference with clustered errors" (2008).

    Args:
        values: (R,) finite values, one a request.
        clusters: (R,) the user of each request, integers or strings.
        resamples: Bootstrap samples.
        seed: Of the random generator.
        level: Confidence level, between 0 and 1.

    Raises:
        ContractError: Naming all faults: no values, values that are not finite, clusters that are missing or
            of another length, resamples or level out of range.

    >>> clustered_interval([0.0, 1.0, 1.0, 0.0], np.array(["u", "u", "v", "v"]))
    Interval(mean=0.5, low=0.5, high=0.5, n_requests=4, n_clusters=2)
    """
    named = {"values": np.asarray(values, dtype=np.float64)}
    return _intervals(named, _series(clusters), resamples, seed, level)["values"]


def clustered_intervals(
    values: pl.DataFrame,
    clusters: Clusters,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """`clustered_interval` of each column, to the same bits; the columns share the resamples, which is faster.

    Args:
        values: A row a request and a column a metric, none of them null.
        clusters: (R,) the user of each request, integers or strings.
        resamples: Bootstrap samples.
        seed: Of the random generator.
        level: Confidence level, between 0 and 1.

    Raises:
        ContractError: As `clustered_interval`, of all columns at once.

    >>> values = pl.DataFrame({"hit@5": [0.0, 1.0, 1.0, 0.0], "mrr@5": [0.0, 1.0, 1.0, 1.0]})
    >>> found = clustered_intervals(values, np.array(["u", "u", "v", "v"]))
    >>> found["hit@5"].high, found["mrr@5"].high
    (0.5, 1.0)
    """
    named = {name: values[name].cast(pl.Float64).to_numpy() for name in values.columns}
    return _intervals(named, _series(clusters), resamples, seed, level)


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Clusters,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> PairedResult:
    """Compare two systems by the difference a - b on the same requests.

    The p-value is of the sign-flip permutation test over clusters. If the systems are equal, their names may
    be swapped for any user, all of whose differences then change sign together. Under that hypothesis the
    test is exact for any number of users and any distribution, where a bootstrap p-value is too small for
    few users. It is (1 + flips at least as extreme) / (1 + resamples), so never 0, and a single user
    gives 1. The minimal detectable effect is (z(1 - alpha / 2) + z(0.8)) times the clustered (linearised)
    standard error of the mean difference. Source: Smucker, Allan & Carterette, "A comparison of
    statistical significance tests for information retrieval evaluation" (2007); Phipson & Smyth,
    "Permutation p-values should never be zero" (2010).

    Args:
        a: (R,) finite values of the one system.
        b: (R,) finite values of the other, on the same requests in the same order.
        clusters: (R,) the user of each request, integers or strings.
        resamples: Bootstrap samples, and sign flips.
        seed: Of the random generator.
        level: Confidence level, between 0 and 1.

    Raises:
        ContractError: As `clustered_interval`.

    >>> result = paired_difference([0.4, 0.2, 0.5], [0.1, 0.2, 0.6], np.array(["u", "u", "u"]))
    >>> result.wins, result.ties, result.losses, result.p_value
    (1, 1, 1, 1.0)
    """
    ours, theirs = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    cluster = _series(clusters)
    _refuse(_faults({"a": ours, "b": theirs}, cluster, resamples, level))
    difference = ours - theirs
    (sample,) = _clustered([difference], _ranks(cluster))
    wins, losses = int((difference > TIE).sum()), int((difference < -TIE).sum())
    return PairedResult(
        difference=_bootstrapped([sample], resamples, seed, level)[0],
        p_value=_sign_flip_p_value(sample, resamples, seed),
        wins=wins,
        ties=len(difference) - wins - losses,
        losses=losses,
        minimal_detectable_effect=_detectable(sample, level),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number by Holm's step-down method, in the order given.

    The i-th smallest of m becomes max over j <= i of min(1, (m - j + 1) p_j). Reject where it is at most
    alpha: the chance of any false rejection is then at most alpha, whatever the dependence. Source: Holm,
    "A simple sequentially rejective multiple test procedure" (1979).

    Raises:
        ContractError: If a p-value is NaN or outside 0 to 1.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if bad := np.count_nonzero(~((p >= 0) & (p <= 1))):
        raise ContractError(
            f"compare: {bad} of {len(p)} p-values are NaN or outside 0 to 1. Leave out what is not judged."
        )
    order = np.argsort(p, kind="stable")
    stepped = np.minimum(1.0, p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(stepped)
    return [float(value) for value in adjusted]


@dataclass(frozen=True, slots=True)
class _Sample:
    """Values summed by cluster, in the order of the clusters' ids."""

    sums: Floats  # (C,)
    counts: Floats  # (C,) requests, 1 or more

    @property
    def mean(self) -> float:
        return float(self.sums.sum() / self.counts.sum())


def _series(clusters: Clusters) -> pl.Series:
    if isinstance(clusters, pl.Series):
        return clusters
    array = np.asarray(clusters)
    return pl.Series(array.tolist(), strict=False) if array.dtype == object else pl.Series(array)


def _ranks(cluster: pl.Series) -> Ints:
    """(R,) rank of each request's cluster among the clusters' ids."""
    return cluster.rank("dense").to_numpy().astype(np.int64) - 1


def _clustered(values: Iterable[Floats], rank: Ints) -> list[_Sample]:
    """Sum each column by cluster, in an order of additions that does not depend on the order of the rows."""
    order, counts = np.argsort(rank, kind="stable"), np.bincount(rank)
    start = np.cumsum(counts) - counts
    samples = []
    for value in values:
        lists = sorted_lists(value[order], start, counts)
        stored, sums = np.argsort(lists.start), np.empty(len(counts))
        sums[stored] = np.add.reduceat(lists.scores, lists.start[stored])
        samples.append(_Sample(sums, counts.astype(np.float64)))
    return samples


def _pooled(samples: Sequence[_Sample], rng: np.random.Generator) -> list[_Sample]:
    """Deal clusters at random into at most `MAX_UNITS` units that differ by one cluster at most, all samples alike."""
    n_clusters = len(samples[0].sums)
    if n_clusters <= MAX_UNITS:
        return list(samples)
    unit = rng.permutation(n_clusters) % MAX_UNITS
    counts = np.bincount(unit, weights=samples[0].counts).astype(np.float64)
    return [_Sample(np.bincount(unit, weights=sample.sums).astype(np.float64), counts) for sample in samples]


def _intervals(
    values: Mapping[str, Floats], cluster: pl.Series, resamples: int, seed: int, level: float
) -> dict[str, Interval]:
    _refuse(_faults(values, cluster, resamples, level))
    samples = _clustered(values.values(), _ranks(cluster))
    return dict(zip(values, _bootstrapped(samples, resamples, seed, level), strict=True))


def _bootstrapped(samples: Sequence[_Sample], resamples: int, seed: int, level: float) -> list[Interval]:
    """An interval of each sample of the same clusters, from the same draws."""
    n_clusters = len(samples[0].sums)
    limits = np.full((len(samples), 2), np.nan)
    if n_clusters > 1:
        rng = np.random.default_rng(seed)
        units = _pooled(samples, rng)
        n_units = len(units[0].sums)
        means: list[list[Floats]] = [[] for _ in units]
        for rows in _blocks(resamples, n_units):
            drawn = rng.integers(0, n_units, size=(rows, n_units))
            counts = units[0].counts[drawn].sum(axis=1)
            for unit, resampled in zip(units, means, strict=True):
                resampled.append(unit.sums[drawn].sum(axis=1) / counts)
        ends = [(1 - level) / 2, (1 + level) / 2]
        limits = np.array([np.quantile(np.concatenate(resampled), ends) for resampled in means])
    return [
        Interval(sample.mean, float(low), float(high), int(sample.counts.sum()), n_clusters)
        for sample, (low, high) in zip(samples, limits, strict=True)
    ]


def _sign_flip_p_value(sample: _Sample, resamples: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    units = _pooled([sample], rng)[0].sums
    observed = abs(units.sum()) - TIE * np.abs(units).sum()  # flips that are equal but for rounding count
    extreme = 0
    for rows in _blocks(resamples, len(units)):
        kept = rng.integers(0, 2, size=(rows, len(units)), dtype=np.int8).astype(np.float64)
        extreme += int((np.abs(2 * (kept @ units) - units.sum()) >= observed).sum())
    return (1 + extreme) / (1 + resamples)


def _blocks(resamples: int, n_units: int) -> Iterator[int]:
    """Cut the resamples into blocks whose draws fit a bounded memory."""
    rows = max(1, _BLOCK_CELLS // n_units)
    for first in range(0, resamples, rows):
        yield min(rows, resamples - first)


def _detectable(sample: _Sample, level: float) -> float:
    n_clusters = len(sample.sums)
    if n_clusters == 1:
        return np.nan
    residual = sample.sums - sample.mean * sample.counts
    error = np.sqrt(n_clusters / (n_clusters - 1) * (residual**2).sum()) / sample.counts.sum()
    normal = NormalDist()
    return float((normal.inv_cdf((1 + level) / 2) + normal.inv_cdf(POWER)) * error)


def _faults(values: Mapping[str, Floats], cluster: pl.Series, resamples: int, level: float) -> list[str]:
    """All faults of a comparison's input."""
    faults = []
    for name, value in values.items():
        bad = np.count_nonzero(~np.isfinite(value))
        if value.ndim != 1 or not value.size:
            faults.append(f"{name} has shape {value.shape}: give one value a request, for one or more")
        elif bad:
            faults.append(f"{name}: {bad} of {value.size} values are not finite: leave those requests out")
    lengths = {name: value.size for name, value in values.items()} | {"clusters": len(cluster)}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        faults.append(f"lengths differ ({shown}): give the same requests in the same order")
    if not (cluster.dtype.is_integer() or cluster.dtype == pl.String):
        faults.append(f"clusters are {cluster.dtype}: give integers or strings, none of them missing")
    elif missing := cluster.null_count():
        faults.append(f"clusters: {missing} of {len(cluster)} are missing: give the user of each request")
    if resamples < 1:
        faults.append(f"resamples is {resamples}: give 1 or more")
    if not 0 < level < 1:
        faults.append(f"level is {level}: give a share between 0 and 1")
    return faults


def _refuse(faults: list[str]) -> None:
    """Raise if there is any fault, naming them all."""
    if faults:
        raise ContractError("\n- ".join(["compare: the input cannot be judged.", *faults]))
