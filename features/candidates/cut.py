"""The cut: which candidates of the union stay, by a score fitted on earlier requests.

A logistic regression on ranks, scores and counts of each candidate (Cox 1958; as the second of two retrieval stages:
Covington et al. 2016). It is linear and small on purpose: it runs over the whole union, many times the rows that the
ranker sees.
"""

import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from features.errors import ContractError
from features.signals.cache import AsOfCache
from features.signals.popularity import Popularity
from features.tables.frames import PAIR

__all__ = ["CandidateCut", "Facts", "facts_of", "keys_of", "sources_of", "teaching_rows"]

_WINDOWS_DAYS = (1, 3, 7, 28, 90, 365)
_SCORE_SCALE = 100.0  # scores are shares or counts: brings both to where log1p bends
_RANK_SHIFT = 10.0
_RIDGE = 1e-6
_MAX_STEPS = 100
_TOLERANCE = 1e-7  # of the loss's steepest slope
_EPSILON = 1e-12
_NEGATIVES_OF = 4  # one in so many of the rows that were no positive teaches, with so many times the weight
_HASH = 1_000_003


@dataclass(frozen=True, slots=True)
class Facts:
    """Inputs of the cut for N candidates: (N,) float64 columns by name, always in the same order."""

    columns: dict[str, npt.NDArray[np.float64]]

    @property
    def names(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(self.columns)


def keys_of(frame: pl.DataFrame) -> npt.NDArray[np.int64]:
    """One integer a (request, item), in their order."""
    requests, items = (frame[name].to_numpy().astype(np.int64) for name in PAIR)
    return np.asarray(requests << 32 | items)


def teaching_rows(
    keys: npt.NDArray[np.int64], positive: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Rows of a union that teach the cut, and what each weighs.

    Of the requests that have a positive these are the positives, and of the others one in four, by a hash of its key,
    with four times the weight. All are divided by the root of the request's positives: a request then weighs between
    one vote a request and one a positive.

    Args:
        keys: (N,) `keys_of` the union.
        positive: (N,) whether each became a positive.

    Returns:
        (M,) positions, ascending, and (M,) weights.
    """
    _, request = np.unique(keys >> 32, return_inverse=True)
    positives = np.bincount(request, positive)[request] if len(keys) else np.zeros(0)
    rows = np.flatnonzero((positives > 0) & (positive | (keys % _HASH % _NEGATIVES_OF == 0)))
    return rows, np.where(positive[rows], 1.0, _NEGATIVES_OF) / np.sqrt(positives[rows])


def facts_of(union: pl.DataFrame, requests: pl.DataFrame, history: pl.DataFrame, cache: AsOfCache) -> Facts:
    """Facts of each row of a union.

    Args:
        union: `Pairs` by (request, item), and each source's `_rank` and `_score`.
        requests: `Requests`.
        history: `HistoryItems` of these requests.
        cache: Of the log.
    """
    columns = dict(_of_sources(union))
    columns |= _of_items(union, requests, cache)
    pairs = dict(_of_pairs(union, history))
    columns |= pairs
    columns |= dict(_crossed(columns, pairs, _of_users(union, history)))
    return Facts(columns)


def sources_of(union: pl.DataFrame) -> list[str]:
    """Names of the generators that a table of candidates has a rank of, in the order of its columns."""
    return [column.removesuffix("_rank") for column in union.columns if column.endswith("_rank")]


def _of_sources(union: pl.DataFrame) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
    """For each source: proposed, log rank, 1 / (10 + rank), log(1 + 100 score); 0 where it did not propose the item."""
    for source in sources_of(union):
        rank = union[f"{source}_rank"].fill_null(0).to_numpy().astype(np.float64)
        score = np.maximum(union[f"{source}_score"].fill_null(0.0).to_numpy(), 0.0)
        proposed = (rank > 0).astype(np.float64)
        yield f"{source}_proposed", proposed
        yield f"{source}_log_rank", np.log(np.maximum(rank, 1.0))
        yield f"{source}_nearness", proposed / (_RANK_SHIFT + rank)
        yield f"{source}_log_score", np.log1p(_SCORE_SCALE * score)


def _of_items(union: pl.DataFrame, requests: pl.DataFrame, cache: AsOfCache) -> dict[str, npt.NDArray[np.float64]]:
    """log(1 + engagements) of the item in windows before the request's day."""
    items, request_row = union["item"].to_numpy(), _request_row(union, requests)
    days = requests["as_of_day"].to_numpy()[request_row] if requests.height else np.empty(0, np.int32)
    columns = {f"events_{window}d": np.zeros(union.height) for window in _WINDOWS_DAYS}
    for day in np.unique(days):
        rows = np.flatnonzero(days == day)
        for window in _WINDOWS_DAYS:
            columns[f"events_{window}d"][rows] = np.log1p(cache.fitted(Popularity(window), int(day)))[items[rows]]
    return columns


def _request_row(union: pl.DataFrame, requests: pl.DataFrame) -> npt.NDArray[np.intp]:
    numbers = requests["request"].to_numpy()
    order = np.argsort(numbers)
    return np.asarray(order[np.searchsorted(numbers, union["request"].to_numpy(), sorter=order)])


def _of_pairs(union: pl.DataFrame, history: pl.DataFrame) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
    """Whether, how often and how recently the user engaged with the item, and if it is due again; 0 where never."""
    engaged = history.sort(PAIR)
    wanted, history_keys = keys_of(union), keys_of(engaged)
    position = np.minimum(np.searchsorted(history_keys, wanted), max(len(history_keys) - 1, 0))
    in_history = history_keys[position] == wanted if len(history_keys) else np.zeros(len(wanted), bool)

    def of(values: pl.Series) -> npt.NDArray[np.float64]:
        column = values.to_numpy().astype(np.float64)
        return np.where(in_history, column[position], 0.0) if len(column) else np.zeros(len(wanted))

    age = engaged["as_of_day"] - engaged["last_day"]
    span, active = engaged["last_day"] - engaged["first_day"], engaged["days"]
    # NOTE: the names stand in kept cuts, and stay as they are.
    yield "held", in_history.astype(np.float64)
    yield "held_log_days", of(active.cast(pl.Float64).log())
    yield "held_log_count", of(engaged["count"].cast(pl.Float64).log())
    yield "held_log_age", of(age.cast(pl.Float64).log())
    gap = (span / (active - 1)).fill_nan(None)
    due = (age / gap).log().clip(-3.0, 3.0).fill_null(0.0)
    yield "held_due", of(due)
    yield "held_overdue", of(due.clip(lower_bound=0.0))
    yield "held_lasting", of(span.cast(pl.Float64).log1p())


def _of_users(union: pl.DataFrame, history: pl.DataFrame) -> dict[str, npt.NDArray[np.float64]]:
    """The repeat share of a request's user, and the log of how many items the history has; 0 without a history."""
    users = history.group_by("request").agg(
        repeats=1 - pl.len() / pl.col("days").sum(), log_items=pl.len().cast(pl.Float64).log1p()
    )
    joined = union.select("request").join(users, on="request", how="left", maintain_order="left").fill_null(0.0)
    return {name: joined[name].to_numpy() for name in ("repeats", "log_items")}


def _crossed(
    columns: dict[str, npt.NDArray[np.float64]],
    pairs: dict[str, npt.NDArray[np.float64]],
    users: dict[str, npt.NDArray[np.float64]],
) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
    """Products of pair facts with facts of the user, since habits count more for users who repeat more."""
    crossed = (*pairs, "events_28d", "co_visited_log_score", "bought_before_log_rank", "next_basket_log_score")
    for user, of_user in users.items():
        for name in crossed:
            yield f"{name}_x_{user}", columns[name] * of_user


@dataclass(frozen=True, slots=True)
class CandidateCut:
    """A fitted linear score of candidates: what the union is cut by.

    Attributes:
        names: Of the facts it was fitted on, in order.
        means: Of each fact over the rows it was fitted on; 0 where it did not vary.
        scales: Standard deviation of each; 1 where it did not vary.
        weights: Of each standardised fact; 0 where it did not vary.
        n_requests: Requests it was fitted on.
    """

    names: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    n_requests: int

    @classmethod
    def fit(
        cls,
        facts: Facts,
        positive: npt.NDArray[np.bool_],
        weight: npt.NDArray[np.float64],
        *,
        n_requests: int,
    ) -> "CandidateCut":
        """Minimise the weighted log loss with a light ridge by L-BFGS (Liu & Nocedal 1989), from zero.

        It runs over facts that vary alone, so that it does not depend on generators that propose nothing.

        Args:
            facts: Of the candidates.
            positive: (N,) whether each became a positive.
            weight: (N,) above 0.
            n_requests: For the record.
        """
        varying = [name for name, column in facts.columns.items() if np.ptp(column) > _EPSILON]
        X = np.empty((len(positive), len(varying)))
        for number, name in enumerate(varying):
            X[:, number] = facts.columns[name]
        share = weight / weight.sum()
        means = np.einsum("n,nf->f", share, X)
        X -= means
        scales = np.sqrt(np.einsum("n,nf,nf->f", share, X, X))
        X /= scales
        weights = _fitted(X, positive, share)

        def of_all(values: npt.NDArray[np.float64], otherwise: float) -> tuple[float, ...]:
            by_name = dict(zip(varying, values.tolist(), strict=True))
            return tuple(by_name.get(name, otherwise) for name in facts.names)

        return cls(
            names=facts.names,
            means=of_all(means, 0.0),
            scales=of_all(scales, 1.0),
            weights=of_all(weights, 0.0),
            n_requests=n_requests,
        )

    def score(self, facts: Facts) -> npt.NDArray[np.float64]:
        """(N,) score of each candidate: terms added one fact after another, so that no row depends on its batch.

        Raises:
            ContractError: It was fitted on other facts.
        """
        if facts.names != self.names:
            raise ContractError(
                "candidate cut: it was fitted on other facts than this version of nightrank makes. Train again."
            )
        total = np.zeros(len(next(iter(facts.columns.values()))))
        for name, mean, scale, weight in zip(self.names, self.means, self.scales, self.weights, strict=True):
            total += (facts.columns[name] - mean) * (weight / scale)
        return total

    def to_json(self) -> str:
        """As text; floats come back to the last bit."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "CandidateCut":
        """Inverse of `to_json`.

        Raises:
            ContractError: The text is no candidate cut.
        """
        try:
            fields = json.loads(text)
            n_requests = int(fields.pop("n_requests"))
            cut = cls(**{name: tuple(values) for name, values in fields.items()}, n_requests=n_requests)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ContractError("candidate cut: unreadable. Fetch the bundle again, or train again.") from error
        if len({len(part) for part in (cut.names, cut.means, cut.scales, cut.weights)}) != 1:
            raise ContractError("candidate cut: its parts differ in length. Fetch the bundle again, or train again.")
        return cut


def _fitted(
    X: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_], share: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(F,) weights of standardised facts; all 0 without a fact that varies, or without a negative."""
    if not X.shape[1] or positive.all():
        return np.zeros(X.shape[1])
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    # NOTE: of shares that sum to 1, C weighs the loss against |w|^2 / 2. One thread: sums then run in one order.
    model = LogisticRegression(C=1 / (2 * _RIDGE), tol=_TOLERANCE, max_iter=_MAX_STEPS)
    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
        warnings.simplefilter("ignore", ConvergenceWarning)  # so few steps are meant: later ones keep no more
        coefficients: npt.NDArray[np.float64] = model.fit(X, positive, sample_weight=share).coef_[0]
    return coefficients
