"""Ranking metrics a request, ties counted by expectation: the one implementation that every report uses.

Conventions:
- Request-wise: each metric is computed within a request, then averaged over the requests that have a positive
  (label > 0 in the truth); the share of requests without one stands beside the means.
- A positive that was not retrieved is a miss: IDCG, recall and MAP count all true positives. A retrieved row
  that the truth does not name is a negative.
- Short lists are not padded: missing places gain nothing, and precision divides by k all the same.
- Ties in score count as the expectation over random order, in closed form, also where the cut-off falls
  inside a tie (McSherry & Najork, ECIR 2008). Row order never matters; a constant score gets the random one.
- NDCG: gain 2^label - 1 (exponential; Burges et al., ICML 2005) or label (linear; Jarvelin & Kekalainen, TOIS
  2002), as declared; discount 1 / log2(rank + 1), ranks counted from 1.
- Recall divides by all positives; hit is 1 if a positive is within k; MRR is 1 / rank of the first positive,
  0 beyond k (Voorhees, TREC-8 1999); MAP sums the precision at the rank of each positive within k and divides by
  all positives (as trec_eval's map_cut does).
- AUC: within the retrieved list, the share of (positive, negative) pairs in the right order, a tie counting
  one half (Hanley & McNeil, Radiology 1982); undefined, and left out of its mean, where the list lacks one of the
  two.
"""

# R requests, N rows of all lists, P positives, T tie groups that hold a positive
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from features.errors import ContractError
from ranker.tables import (
    KEY,
    KEY_HASH,
    MAX_LABEL,
    blocks,
    cutoff_faults,
    dtype_faults,
    refuse,
    stretches,
    table_faults,
    together,
)
from ranker.ties import Floats, Ints, TieGroups, matches_within, sorted_lists, summed, tie_groups

__all__ = ["CONVENTIONS", "Gain", "gain_of", "mean_metrics", "ndcg_at", "per_request"]

Gain = Literal["exponential", "linear"]

CONVENTIONS: Final = (__doc__ or "").partition("Conventions:\n")[2].strip()


def per_request(
    rankings: pl.DataFrame,
    truth: pl.DataFrame,
    *,
    cutoffs: Sequence[int] = (5, 10),
    gain: Gain = "exponential",
) -> pl.DataFrame:
    """Judge ranked lists against the truth, one row a request that has a positive (see `CONVENTIONS`).

    Args:
        rankings: `request_id`, `item_id`, `score` (finite; the higher, the nearer to the top), in any order.
            A list may be short or absent (misses); a request without a positive in the truth is ignored.
        truth: `request_id`, `item_id`, `label` (whole, 0 to 30; 0 is no positive).
        cutoffs: The k of each metric, 1 or more.
        gain: Gain of a label in NDCG.

    Returns:
        Sorted by `request_id`; for each k the columns `ndcg@k`, `recall@k`, `precision@k`, `hit@k`, `mrr@k`
        and `map@k` (Float64, never null), then `auc` (null where undefined). A truth without a positive gives
        no row.

    Raises:
        ContractError: Naming all faults at once: columns missing, ids that are null or repeat or differ in
            dtype, scores or labels out of contract, cut-offs or gain unknown.

    A positive at rank 2, where another was not retrieved:

    >>> rankings = pl.DataFrame({"request_id": [1, 1], "item_id": ["a", "b"], "score": [0.9, 0.4]})
    >>> truth = pl.DataFrame({"request_id": [1, 1], "item_id": ["b", "z"], "label": [1, 1]})
    >>> row = per_request(rankings, truth, cutoffs=[2]).row(0, named=True)
    >>> row["recall@2"], row["precision@2"], row["hit@2"], row["mrr@2"], row["map@2"], row["auc"]
    (0.5, 0.5, 1.0, 0.5, 0.25, 0.0)
    >>> bool(np.isclose(row["ndcg@2"], (1 / np.log2(3)) / (1 / np.log2(2) + 1 / np.log2(3))))
    True
    """
    faults = _argument_faults(cutoffs, gain) + table_faults("rankings", rankings) + table_faults("truth", truth)
    refuse(faults + dtype_faults(rankings, truth))
    pairs = blocks(rankings.select(*KEY, "score"), truth.select(*KEY, "label"))
    return pl.concat([_judge(some, theirs, cutoffs, gain) for some, theirs in pairs]).sort("request_id")


def mean_metrics(per_request_frame: pl.DataFrame, *, n_requests: int | None = None) -> dict[str, float]:
    """Average the metrics of `per_request` over its requests.

    Args:
        per_request_frame: As `per_request` returns it, or a slice of its rows; other columns are ignored.
        n_requests: All requests that were asked, with or without a positive.

    Returns:
        The mean of each metric (NaN where no request has one; `auc` over the requests that have one),
        `requests`, and, if `n_requests` is given, `share_without_positive`.

    Raises:
        ContractError: If fewer requests were asked than judged.

    >>> mean_metrics(pl.DataFrame({"request_id": [1, 2], "hit@5": [1.0, 0.0]}), n_requests=8)
    {'hit@5': 0.5, 'requests': 2.0, 'share_without_positive': 0.75}
    """
    judged = per_request_frame.height
    if n_requests is not None and n_requests < judged:
        raise ContractError(
            f"metrics: {judged} requests were judged, but n_requests says that only {n_requests} were asked. "
            "Pass the number of all requests, those without a positive included."
        )
    names = [name for name in per_request_frame.columns if "@" in name or name == "auc"]
    average = pl.col(names).cast(pl.Float64).mean().fill_null(np.nan)
    means: dict[str, float] = per_request_frame.select(average).row(0, named=True)
    means["requests"] = float(judged)
    if n_requests is not None:
        means["share_without_positive"] = 1 - judged / n_requests if n_requests else np.nan
    return means


def ndcg_at(scores: ArrayLike, labels: ArrayLike, group: ArrayLike, k: int, gain: Gain = "exponential") -> Floats:
    """NDCG@k of lists that stand one after another, fast enough for each boosting iteration.

    DCG@k = sum over ranks r <= k of gain(label_r) / log2(r + 1), ties by expectation, and NDCG@k = DCG@k /
    IDCG@k. There is no other truth here, so IDCG is over the labels of the list itself.

    Args:
        scores: (N,) finite scores.
        labels: (N,) whole labels, 0 to 30.
        group: (R,) rows in each list, in order, as LightGBM has it; 0 is allowed.
        k: Cut-off, 1 or more.
        gain: Gain of a label.

    Returns:
        (R,) NDCG@k, NaN for a list without a positive.

    Raises:
        ContractError: If lengths disagree, or scores or labels are out of contract.

    Two rows tied at the top, one of them a positive, take the mean of both orders:

    >>> value = ndcg_at([0.7, 0.7, 0.1], [1, 0, 0], [3], 2)[0]
    >>> bool(np.isclose(value, (1 / np.log2(2) + 1 / np.log2(3)) / 2))
    True
    """
    score, label = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    length = np.asarray(group, dtype=np.int64)
    refuse(_argument_faults([k], gain) + _array_faults(score, label, length))
    row = np.flatnonzero(label > 0)
    end = np.cumsum(length)
    request = np.searchsorted(end, row, side="right").astype(np.int64)
    positive = label[row].astype(np.int64)
    lists = sorted_lists(score, end - length, length, np.bincount(request, minlength=len(length)) > 0)
    ties = tie_groups(lists, request, score[row], gain_of(gain)[positive])
    return _ndcg(ties, _Ideal.of(request, positive, gain), k)


def gain_of(gain: Gain) -> Floats:
    """(MAX_LABEL + 1,) gain of each label."""
    label = np.arange(MAX_LABEL + 1, dtype=np.float64)
    return np.exp2(label) - 1 if gain == "exponential" else label


@dataclass(frozen=True, slots=True)
class _Ideal:
    """The true positives in the best order: by request, then the greatest gain first."""

    request: Ints  # (P,) index of the request
    gain: Floats  # (P,)
    position: Ints  # (P,) from 0 on, within the request

    @classmethod
    def of(cls, request: Ints, label: Ints, gain: Gain) -> "_Ideal":
        order = np.sort(request * (MAX_LABEL + 1) + (MAX_LABEL - label))
        request, rest = np.divmod(order, MAX_LABEL + 1)
        position = np.arange(len(request)) - np.searchsorted(request, request)
        return cls(request, gain_of(gain)[MAX_LABEL - rest], position)


def _ndcg(ties: TieGroups, ideal: _Ideal, k: int) -> Floats:
    """(R,) NDCG@k, NaN without a true positive.

    A tie group gives its mean gain to each of its places within k.
    """
    start, end = ties.span(k)
    depth = max(end.max(initial=0), min(k, ideal.position.max(initial=0) + 1))
    discounts = np.concatenate(([0.0], np.cumsum(1 / np.log2(np.arange(2, depth + 2)))))  # of the first 0, 1, ...

    dcg = ties.total(ties.gain * (discounts[end] - discounts[start]) / ties.size)
    seen = ideal.position < k
    best = ideal.gain[seen] * np.diff(discounts)[ideal.position[seen]]
    return np.minimum(_ratio(dcg, summed(ideal.request[seen], best, ties.n_requests)), 1.0)


def _first_positive(ties: TieGroups, k: int) -> tuple[Floats, Floats]:
    """(R,) P(first positive within k) and E[1 / its rank, 0 beyond k].

    The first positive is in the first of the groups. Of m positives in its n places, none is among the first
    j with probability C(n - m, j) / C(n, j), built up here rank by rank.
    """
    first = ties.positives_above == 0
    above, size, positives = ties.above[first], ties.size[first], ties.positives[first]
    start, end = ties.span(k)
    n_ranks = (end - start)[first]
    missed, reciprocal = np.ones(len(n_ranks)), np.zeros(len(n_ranks))
    still = np.arange(len(n_ranks))
    for position in range(1, int(n_ranks.max(initial=0)) + 1):
        still = still[(n_ranks[still] >= position) & (missed[still] > 0)]
        left = size[still] - position + 1
        reciprocal[still] += missed[still] * positives[still] / left / (above[still] + position)
        missed[still] *= (left - positives[still]) / left
    hit, mrr = np.zeros((2, ties.n_requests))
    hit[ties.request[first]], mrr[ties.request[first]] = 1 - missed, reciprocal
    return hit, mrr


def _precision_sums(ties: TieGroups, k: int) -> Floats:
    """(R,) expected sum of the precisions at the ranks of the positives within k.

    A group has n places after s rows with q positives, and m positives of its own. Place j holds one of them
    with probability m / n; then the j - 1 places before it hold (j - 1) c others on average, where c is
    (m - 1) / (n - 1). So t places add m / n * sum over j <= t of (q + 1 + (j - 1) c) / (s + j). As
    (j - 1) / (s + j) is 1 - (s + 1) / (s + j), that is m / n * ((q + 1 - c (s + 1)) (H(s + t) - H(s)) + c t),
    H being the harmonic numbers.
    """
    start, end = ties.span(k)
    harmonic = np.concatenate(([0.0], np.cumsum(1 / np.arange(1, end.max(initial=0) + 1))))
    others = (ties.positives - 1) / np.maximum(ties.size - 1, 1)
    spread = (ties.positives_above + 1 - others * (ties.above + 1)) * (harmonic[end] - harmonic[start])
    return ties.total(ties.positives * (spread + others * (end - start)) / ties.size)


def _auc(ties: TieGroups, length: Ints) -> Floats:
    """(R,) AUC within lists of (R,) length, NaN where a list has no positive or no negative."""
    positives = ties.total(ties.positives)
    rows_below = length[ties.request] - ties.above - ties.size
    positives_below = positives[ties.request] - ties.positives_above - ties.positives
    beaten = rows_below - positives_below + (ties.size - ties.positives) / 2
    return _ratio(ties.total(ties.positives * beaten), positives * (length - positives))


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide; NaN where the denominator is 0."""
    out = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def _judge(rankings: pl.DataFrame, truth: pl.DataFrame, cutoffs: Sequence[int], gain: Gain) -> pl.DataFrame:
    """`per_request` on tables that are in contract, in no order."""
    rankings, positives = together(rankings), together(truth.filter(pl.col("label") > 0))
    requests, _, relevant = stretches(positives)
    request = np.repeat(np.arange(len(requests)), relevant)
    label = positives["label"].cast(pl.Int64).to_numpy()
    start, length = _lists_of(rankings, requests)
    hit, row = _retrieved(rankings, positives, start[request], length[request])
    score = rankings["score"].cast(pl.Float32 if rankings.schema["score"] == pl.Float32 else pl.Float64).to_numpy()
    lists = sorted_lists(score, start, length, np.bincount(request[hit], minlength=len(requests)) > 0)
    ties = tie_groups(lists, request[hit], score[row], gain_of(gain)[label[hit]])

    ideal = _Ideal.of(request, label, gain)
    columns: dict[str, Floats | pl.Series] = {}
    for k in cutoffs:
        columns[f"ndcg@{k}"] = _ndcg(ties, ideal, k)
        columns |= _ungraded(ties, relevant, k)
    columns["auc"] = pl.Series(_auc(ties, length), nan_to_null=True)
    return requests.to_frame().with_columns(pl.DataFrame(columns))


def _lists_of(rankings: pl.DataFrame, requests: pl.Series) -> tuple[Ints, Ints]:
    """(R,) first row and rows of the list of each request, none where it has no list."""
    listed, start, length = stretches(rankings)
    lists = pl.DataFrame({"request_id": listed, "start": start, "length": length})
    joined = requests.to_frame().join(lists, on="request_id", how="left", maintain_order="left").fill_null(0)
    return joined["start"].to_numpy(), joined["length"].to_numpy()


def _retrieved(rankings: pl.DataFrame, positives: pl.DataFrame, start: Ints, length: Ints) -> tuple[Ints, Ints]:
    """Which positives are in their list, given its (P,) first row and rows; and the row of each."""
    theirs, ours = (frame.select(KEY_HASH).to_series().to_numpy() for frame in (rankings, positives))
    hit, row = matches_within(theirs, ours, start, length)
    same = (positives["item_id"].gather(hit) == rankings["item_id"].gather(row)).to_numpy()
    return hit[same], row[same]


def _ungraded(ties: TieGroups, relevant: Ints, k: int) -> dict[str, Floats]:
    """The metrics at k that only ask whether a label is positive, given (R,) true positives."""
    start, end = ties.span(k)
    retrieved = ties.total(ties.positives * (end - start) / ties.size)
    hit, mrr = _first_positive(ties, k)
    return {
        f"recall@{k}": retrieved / relevant,
        f"precision@{k}": retrieved / k,
        f"hit@{k}": hit,
        f"mrr@{k}": mrr,
        f"map@{k}": np.minimum(_precision_sums(ties, k) / relevant, 1.0),
    }


def _argument_faults(cutoffs: Sequence[int], gain: str) -> list[str]:
    faults = cutoff_faults(cutoffs)
    if gain not in get_args(Gain):
        faults.append(f"gain is {gain!r}: choose {' or '.join(get_args(Gain))}")
    return faults


def _array_faults(score: Floats, label: Floats, length: Ints) -> list[str]:
    """All faults of the arrays of `ndcg_at`."""
    if any(array.ndim != 1 for array in (score, label, length)):
        return ["scores, labels and group must have one dimension each"]
    faults = []
    if (length < 0).any() or length.sum() != len(score):
        faults.append(f"group sums to {length.sum()} rows for {len(score)} scores: give the rows of each list")
    if len(label) != len(score):
        faults.append(f"{len(label)} labels for {len(score)} scores: give one a row")
    if bad := np.count_nonzero(~np.isfinite(score)):
        faults.append(f"{bad} of {len(score)} scores are not finite: they have no place in an order")
    if bad := np.count_nonzero(~((label >= 0) & (label <= MAX_LABEL) & (label % 1 == 0))):
        faults.append(f"{bad} of {len(label)} labels are not whole numbers from 0 to {MAX_LABEL}")
    return faults
