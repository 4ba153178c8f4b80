"""Ranking metrics a request, ties counted by expectation: the one implementation that every report uses.

Conventions:
- Request-wise: each metric is computed within a request, then averaged over the requests that have a positive
  (label > 0 in the truth); the share of requests without one stands beside the means.
- A positive that was not retrieved is a miss: IDCG, recall and MAP count all true positives. A retrieved row
  that the truth does not name is a negative.
- Short lists are not padded: missing places gain nothing, and precision divides by k all the same.
- Ties in score count as the expectation over random order, in closed form, also where the cut-off falls
  inside a tie (McSherry & Najork, ECIR 2008). Row order never matters; a constant score gets the random one.
- NDCG: gain 2^label - 1 (exponential) or label (linear), as declared; discount 1 / log2(rank + 1), ranks
  counted from 1.
- Recall divides by all positives; hit is 1 if a positive is within k; MRR is 1 / rank of the first positive,
  0 beyond k; MAP sums the precision at the rank of each positive within k and divides by all positives (as
  trec_eval's map_cut does).
- AUC: within the retrieved list, the share of (positive, negative) pairs in the right order, a tie counting
  one half; undefined, and left out of its mean, where the list lacks one of the two.
"""

# R requests, N rows of all lists, P positives, T tie groups that hold a positive
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from features.errors import ContractError

__all__ = ["CONVENTIONS", "Gain", "mean_metrics", "ndcg_at", "per_request"]

Gain = Literal["exponential", "linear"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CONVENTIONS: Final = (__doc__ or "").partition("Conventions:\n")[2].strip()
MAX_LABEL: Final = 30
BLOCK_ROWS: Final = 1 << 24

_KEY: Final = ["request_id", "item_id"]
_KEY_HASH: Final = pl.col("request_id").hash(0) ^ pl.col("item_id").hash(1)
_SCORE: Final = pl.col("score")
_LABEL: Final = pl.col("label").cast(pl.Float64)
_IDS: Final = {name: {f"have no {name}: drop them": pl.col(name).is_null()} for name in _KEY}
# What each table promises: its columns and, for each, what is said of the rows that break it.
_CONTRACTS: Final[dict[str, dict[str, dict[str, pl.Expr]]]] = {
    "rankings": _IDS
    | {
        "score": {
            "have no score: drop them, and their items count as not retrieved": _SCORE.is_null(),
            "have a NaN score: it has no place in an order": _SCORE.is_nan(),
            "have an infinite score: clip it, or drop the row": _SCORE.is_infinite(),
        }
    },
    "truth": _IDS
    | {
        "label": {
            "have no label: drop them, or set 0": _LABEL.is_null(),
            "have a NaN label: drop them, or set 0": _LABEL.is_nan(),
            "have a label below 0: the least is 0, no positive": _LABEL < 0,
            "have a label that is not whole: grade in whole steps": _LABEL.is_finite() & (_LABEL % 1 != 0),
            f"have a label above {MAX_LABEL}: lower the grades": _LABEL.is_not_nan() & (_LABEL > MAX_LABEL),
        }
    },
}


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
    faults = _argument_faults(cutoffs, gain) + _table_faults("rankings", rankings) + _table_faults("truth", truth)
    _refuse(faults + _dtype_faults(rankings, truth))
    count = _block_count(rankings)
    blocks = zip(
        _blocks(rankings.select(*_KEY, "score"), count),
        _blocks(truth.select(*_KEY, "label"), count),
        strict=True,
    )
    return pl.concat([_judge(some, theirs, cutoffs, gain) for some, theirs in blocks]).sort("request_id")


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
    _refuse(_argument_faults([k], gain) + _array_faults(score, label, length))
    row = np.flatnonzero(label > 0)
    request = np.searchsorted(np.cumsum(length), row, side="right").astype(np.int64)
    positive = label[row].astype(np.int64)
    lists = _lists(score, length, np.bincount(request, minlength=len(length)) > 0)
    ties = _tie_groups(lists, request, score[row], _gain_of(gain)[positive])
    return _ndcg(ties, request, positive, k, gain)


@dataclass(frozen=True, slots=True)
class _Lists:
    """The lists of R requests, each a stretch of one flat array."""

    scores: Floats  # (N,) ascending within each list
    start: Ints  # (R,)
    length: Ints  # (R,)


@dataclass(frozen=True, slots=True)
class _TieGroups:
    """The groups of equal score that hold a positive, by request, then by rank.

    No metric needs the others: all that they do to a positive is to stand above it, which `above` counts.
    """

    n_requests: int
    request: Ints  # (T,) index of the request
    above: Ints  # (T,) rows of the list with a higher score
    size: Ints  # (T,) rows with this score
    positives: Ints  # (T,) of them, positives
    gain: Floats  # (T,) their summed gain
    positives_above: Ints  # (T,) positives with a higher score

    def span(self, k: int) -> tuple[Ints, Ints]:
        """(T,) rank before the group's first place, and of its last place, neither beyond k."""
        return np.minimum(self.above, k), np.minimum(self.above + self.size, k)

    def total(self, values: Ints | Floats) -> Floats:
        """(R,) sum of (T,) values within each request."""
        return _summed(self.request, values, self.n_requests)


def _lists(scores: Floats, length: Ints, wanted: NDArray[np.bool_]) -> _Lists:
    """Sort the scores within each wanted list; the others stay as they are.

    Lists of like length (within a factor of two) are sorted together as the rows of a padded matrix: many
    times faster than one sort by (request, score).
    """
    ordered = scores.copy()
    magnitude = np.where(wanted, np.frexp(length)[1], 0)
    for level in np.unique(magnitude[magnitude > 0]):
        chosen = magnitude == level
        lengths = length[chosen]
        inside = np.arange(lengths.max()) < lengths[:, None]
        rows = np.repeat(chosen, length)
        block = np.full(inside.shape, np.inf)
        block[inside] = scores[rows]
        block.sort(axis=1)
        ordered[rows] = block[inside]
    return _Lists(ordered, np.cumsum(length) - length, length)


def _tie_groups(lists: _Lists, request: Ints, score: Floats, gain: Floats) -> _TieGroups:
    """Find the tie groups of the retrieved positives, each given by its request's index, score and gain."""
    start, length = lists.start[request], lists.length[request]
    below = _bisect(lists.scores, score, start, length, tied_too=False)
    not_above = _bisect(lists.scores, score, start, length, tied_too=True)
    above, size = length - not_above, not_above - below
    place = request * length.max(initial=0) + above
    _, first, group, positives = np.unique(place, return_index=True, return_inverse=True, return_counts=True)
    request = request[first]
    before = np.cumsum(positives) - positives
    return _TieGroups(
        n_requests=len(lists.start),
        request=request,
        above=above[first],
        size=size[first],
        positives=positives,
        gain=_summed(group, gain, len(first)),
        positives_above=before - before[np.searchsorted(request, request)],
    )


def _bisect(ordered: Floats, value: Floats, start: Ints, length: Ints, *, tied_too: bool) -> Ints:
    """Count the rows in each value's own stretch that are below it, or `tied_too` not above it."""
    low, high = start.copy(), start + length
    for _ in range(int(length.max(initial=0)).bit_length()):
        middle = (low + high) // 2
        here = ordered[np.minimum(middle, len(ordered) - 1)]
        right = (low < high) & ((here <= value) if tied_too else (here < value))
        low, high = np.where(right, middle + 1, low), np.where(right, high, middle)
    return low - start


def _gain_of(gain: Gain) -> Floats:
    """(MAX_LABEL + 1,) gain of each label."""
    label = np.arange(MAX_LABEL + 1, dtype=np.float64)
    return np.exp2(label) - 1 if gain == "exponential" else label


def _ndcg(ties: _TieGroups, request: Ints, label: Ints, k: int, gain: Gain) -> Floats:
    """(R,) NDCG@k, given (P,) request and label of each true positive; NaN without one.

    A tie group gives its mean gain to each of its places within k.
    """
    ideal_order = np.sort(request * (MAX_LABEL + 1) + (MAX_LABEL - label))  # by request, best label first
    request, label = ideal_order // (MAX_LABEL + 1), MAX_LABEL - ideal_order % (MAX_LABEL + 1)
    place = np.arange(len(request)) - np.searchsorted(request, request)
    start, end = ties.span(k)
    depth = max(end.max(initial=0), min(k, place.max(initial=0) + 1))
    discounts = np.concatenate(([0.0], np.cumsum(1 / np.log2(np.arange(2, depth + 2)))))  # of the first 0, 1, ...

    dcg = ties.total(ties.gain * (discounts[end] - discounts[start]) / ties.size)
    seen = place < k
    best = _gain_of(gain)[label[seen]] * np.diff(discounts)[place[seen]]
    return np.minimum(_ratio(dcg, _summed(request[seen], best, ties.n_requests)), 1.0)


def _first_positive(ties: _TieGroups, k: int) -> tuple[Floats, Floats]:
    """(R,) P(first positive within k) and E[1 / its rank, 0 beyond k].

    The first positive is in the first of the groups. Of m positives in its n places, none is among the first
    j with probability C(n - m, j) / C(n, j), built up here place by place.
    """
    first = ties.positives_above == 0
    above, size, positives = ties.above[first], ties.size[first], ties.positives[first]
    start, end = ties.span(k)
    places = (end - start)[first]
    missed, reciprocal = np.ones(len(places)), np.zeros(len(places))
    still = np.arange(len(places))
    for place in range(1, int(places.max(initial=0)) + 1):
        still = still[(places[still] >= place) & (missed[still] > 0)]
        left = size[still] - place + 1
        reciprocal[still] += missed[still] * positives[still] / left / (above[still] + place)
        missed[still] *= (left - positives[still]) / left
    hit, mrr = np.zeros((2, ties.n_requests))
    hit[ties.request[first]], mrr[ties.request[first]] = 1 - missed, reciprocal
    return hit, mrr


def _precision_sums(ties: _TieGroups, k: int) -> Floats:
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


def _auc(ties: _TieGroups, length: Ints) -> Floats:
    """(R,) AUC within lists of (R,) length, NaN where a list has no positive or no negative."""
    positives = ties.total(ties.positives)
    rows_below = length[ties.request] - ties.above - ties.size
    positives_below = positives[ties.request] - ties.positives_above - ties.positives
    beaten = rows_below - positives_below + (ties.size - ties.positives) / 2
    return _ratio(ties.total(ties.positives * beaten), positives * (length - positives))


def _summed(index: Ints, weights: Ints | Floats, size: int) -> Floats:
    """(size,) sum of the weights at each index."""
    return np.bincount(index, weights=weights, minlength=size).astype(np.float64, copy=False)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide; NaN where the denominator is 0."""
    out = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def _judge(rankings: pl.DataFrame, truth: pl.DataFrame, cutoffs: Sequence[int], gain: Gain) -> pl.DataFrame:
    """`per_request` on tables that are in contract, in no order."""
    positives = truth.filter(pl.col("label") > 0)
    requests = positives.select(pl.col("request_id").unique()).with_row_index("request")
    positives = positives.join(requests, on="request_id").with_columns(pl.col("request", "label").cast(pl.Int64))
    hits = _perhaps_in(positives, rankings).join(positives, on=_KEY).with_columns(_SCORE.cast(pl.Float64))
    hit, label = hits["request"].to_numpy(), hits["label"].to_numpy()
    lists = _lists_of(rankings, requests, np.bincount(hit, minlength=requests.height) > 0)
    ties = _tie_groups(lists, hit, hits["score"].to_numpy(), _gain_of(gain)[label])

    request, label = positives["request"].to_numpy(), positives["label"].to_numpy()
    relevant = np.bincount(request, minlength=requests.height)
    columns: dict[str, Floats | pl.Series] = {}
    for k in cutoffs:
        columns[f"ndcg@{k}"] = _ndcg(ties, request, label, k, gain)
        columns |= _ungraded(ties, relevant, k)
    columns["auc"] = pl.Series(_auc(ties, lists.length), nan_to_null=True)
    return requests.select("request_id").with_columns(pl.DataFrame(columns))


def _perhaps_in(positives: pl.DataFrame, rankings: pl.DataFrame) -> pl.DataFrame:
    """Drop most rows that are no positive, so that the join by key has little left to do (Bloom, 1970)."""
    taken = np.zeros(1 << 24, dtype=np.bool_)
    slot = _KEY_HASH // (1 << 40)
    ours, theirs = (frame.select(slot).to_series().to_numpy() for frame in (rankings, positives))
    taken[theirs] = True
    return rankings.filter(pl.Series(taken[ours]))


def _lists_of(rankings: pl.DataFrame, requests: pl.DataFrame, wanted: NDArray[np.bool_]) -> _Lists:
    """The sorted lists of the wanted of R `requests` (`request_id`, `request`); the others are left empty."""
    scores, runs = rankings["score"], rankings["request_id"].rle().struct.unnest()
    if runs["value"].n_unique() < runs.height:
        grouped = rankings.group_by("request_id").agg("score")
        scores = grouped["score"].explode()
        runs = grouped.select(pl.col("score").list.len().alias("len"), pl.col("request_id").alias("value"))
    runs = runs.join(requests, left_on="value", right_on="request_id", how="left", maintain_order="left")
    request = runs["request"].cast(pl.Int64).fill_null(-1).to_numpy()
    chosen = request >= 0
    chosen[chosen] = wanted[request[chosen]]

    lists = _lists(scores.cast(pl.Float64).to_numpy(), runs["len"].cast(pl.Int64).to_numpy(), chosen)
    start, length = np.zeros((2, requests.height), dtype=np.int64)
    start[request[chosen]], length[request[chosen]] = lists.start[chosen], lists.length[chosen]
    return _Lists(lists.scores, start, length)


def _ungraded(ties: _TieGroups, relevant: Ints, k: int) -> dict[str, Floats]:
    """The metrics at k that only ask whether a label is positive, given (R,) true positives."""
    start, end = ties.span(k)
    found = ties.total(ties.positives * (end - start) / ties.size)
    hit, mrr = _first_positive(ties, k)
    return {
        f"recall@{k}": found / relevant,
        f"precision@{k}": found / k,
        f"hit@{k}": hit,
        f"mrr@{k}": mrr,
        f"map@{k}": np.minimum(_precision_sums(ties, k) / relevant, 1.0),
    }


def _block_count(frame: pl.DataFrame) -> int:
    return max(1, -(-frame.height // BLOCK_ROWS))


def _blocks(frame: pl.DataFrame, count: int) -> Iterator[pl.DataFrame]:
    """Cut a table into `count` blocks of whole requests, the same in each table, to bound the memory."""
    if count == 1:
        yield frame
        return
    block = (pl.col("request_id").hash() % count).cast(pl.UInt32)
    blocks = frame.lazy().select(block).collect(engine="streaming").to_series()
    for number in range(count):
        yield frame.filter(blocks == number)


def _repeats(frame: pl.DataFrame) -> int:
    """Count the rows that repeat an earlier row's key. Where all hashes differ, so do the keys."""
    pairs = frame.select(_KEY).drop_nulls()
    if pairs.select(_KEY_HASH).to_series().n_unique() == pairs.height:
        return 0
    return pairs.height - pairs.unique().height


def _refuse(faults: list[str]) -> None:
    """Raise if there is any fault, naming them all."""
    if faults:
        raise ContractError("\n- ".join(["metrics: the input cannot be judged.", *faults]))


def _argument_faults(cutoffs: Sequence[int], gain: str) -> list[str]:
    faults = []
    whole = all(isinstance(k, int | np.integer) and not isinstance(k, bool) and k >= 1 for k in cutoffs)
    if not (cutoffs and whole and len(set(cutoffs)) == len(cutoffs)):
        faults.append(f"cut-offs are {list(cutoffs)}: give whole numbers from 1 up, none twice")
    if gain not in get_args(Gain):
        faults.append(f"gain is {gain!r}: choose {' or '.join(get_args(Gain))}")
    return faults


def _table_faults(name: str, frame: pl.DataFrame) -> list[str]:
    """All faults of one table; what an absent or odd column leaves without meaning is not checked."""
    faults: list[str] = []
    rules: dict[str, pl.Expr] = {}
    sound = set()
    for column, theirs in _CONTRACTS[name].items():
        dtype = frame.schema.get(column, pl.Null())
        wanted = "an integer or String" if column in _KEY else "a number"
        if column not in frame.columns:
            faults.append(f"{name}: there is no column {column}")
        elif dtype.is_integer() or (dtype == pl.String if column in _KEY else dtype.is_float()):
            sound.add(column)
            rules |= theirs
        else:
            faults.append(f"{name}: {column} is {dtype}: cast it to {wanted}")
    counts = {what: frame.select(rule.sum()).item() for what, rule in rules.items()}
    if sound.issuperset(_KEY):
        repeats = sum(map(_repeats, _blocks(frame.select(_KEY), _block_count(frame))))
        counts["repeat a (request_id, item_id): keep one row a pair"] = repeats
    return faults + [f"{name}: {count} of {frame.height} rows {what}" for what, count in counts.items() if count]


def _dtype_faults(rankings: pl.DataFrame, truth: pl.DataFrame) -> list[str]:
    """Ids that could never meet."""
    dtypes = {name: (rankings.schema.get(name), truth.schema.get(name)) for name in _KEY}
    return [
        f"{name} is {one} in rankings and {other} in truth: cast one to the other"
        for name, (one, other) in dtypes.items()
        if one is not None and other is not None and one != other
    ]


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
