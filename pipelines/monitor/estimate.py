"""Tonight's NDCG before a label is there, estimated from the scores and outcomes of past nights.

Direct loss estimation, as NannyML calls it, for rankings: a ridge regression says from a user's list and history what
NDCG the list will get, should the user act; a logistic regression says who will act; and the estimate is the mean of
the first, weighted by the second. Users without a list count by their usual share and the usual NDCG of the fallback
list. What this missed on the last nights is added in part. The interval comes from what the same rule, asked on each of
the past nights, has missed; it is wider where fewer users are expected to act.
"""

# U users with a list on a night, F columns of what is known of them
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from features.log.event_log import EventLog, batch_day

__all__ = ["LEAST_NIGHTS", "Estimate", "NightUsers", "estimate", "known_of", "mean_of_last"]

Floats = npt.NDArray[np.float64]

_OF_USERS = ("active_days", "days_since", "recent_days", "days_between", "same_weekday")
_OF_SCORES = ("mean_score", "first_score", "last_score")
_FIRST = 10  # ranks whose scores are averaged
_RECENT_DAYS = 28
_NIGHTS = 14  # past nights that are learned from
_BEFORE = 3  # past nights without which nothing is learned
_CORRECTING = 7  # nights whose misses are added
_CALIBRATING = 28  # nights whose misses make the interval
_MISSES = 5  # without which there is no interval
_OTHERS = 10  # users who did not act, for each who did, that are learned from
_PENALTY = 10.0
_FAR = 5.0  # standard deviations beyond which a user is as far as any
_LEAST_ACTED = 30
LEAST_NIGHTS = _BEFORE + _MISSES
"""Past nights without which there is no estimate."""


@dataclass(frozen=True, eq=False)
class NightUsers:
    """Users with a list on a night, and what became of it.

    Attributes:
        day: The night's day.
        version: The version that ranked it; scores of two versions do not compare.
        features: (U, F) what was known of each user when the night began: `_OF_USERS`, then `_OF_SCORES`.
        requests: (U,) requests of each user on the day; all 0 where labels have not closed.
        ndcg: (U,) mean NDCG of these; NaN without any.
        fallback: NDCG of each request by a user without a list.
        n_requests: Requests of all users, those that are not among these too.
        mean: Realised NDCG over all requests; NaN where labels have not closed.
    """

    day: date
    version: str
    features: Floats
    requests: Floats
    ndcg: Floats
    fallback: Floats
    n_requests: int
    mean: float

    @classmethod
    def of(cls, day: date, version: str, known: pl.DataFrame, judged: pl.DataFrame | None) -> "NightUsers":
        """A night.

        Args:
            day: Its day.
            version: The version that ranked it.
            known: `known_of` some users with a list.
            judged: `pipelines.monitor.realised.outcomes` of the night; None where its labels have not closed.
        """
        none = pl.DataFrame(schema={"user_id": known.schema["user_id"], "is_fallback": pl.Boolean, "ndcg": pl.Float64})
        outcomes = none if judged is None else judged
        of_users = outcomes.group_by("user_id").agg(requests=pl.len().cast(pl.Float64), ndcg=pl.col("ndcg").mean())
        users = known.select("user_id").join(of_users, on="user_id", how="left", maintain_order="left")
        return cls(
            day,
            version,
            features=known.drop("user_id").to_numpy(),
            requests=users["requests"].fill_null(0.0).to_numpy(),
            ndcg=users["ndcg"].fill_null(np.nan).to_numpy(),
            fallback=outcomes.filter("is_fallback")["ndcg"].to_numpy(),
            n_requests=outcomes.height,
            mean=float(outcomes["ndcg"].to_numpy().mean()) if outcomes.height else np.nan,
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate of a night's NDCG with the limits of its 95 % interval.

    Attributes:
        value: The estimate.
        low: Lower limit.
        high: Upper limit.
        nights: Past nights that it is made of.
    """

    value: float
    low: float
    high: float
    nights: int

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def known_of(lists: pl.DataFrame, log: EventLog, day: date) -> pl.DataFrame:
    """What is known of some users when a night begins.

    Args:
        lists: user_id, rank and score of their lists.
        log: The log; only what lies before the day is looked at.
        day: The night's day.

    Returns:
        user_id, then the columns of `NightUsers.features`, by user_id.
    """
    batch = batch_day(day)
    codes = log.user_ids.to_frame("user_id").with_row_index("user")
    users = lists.select("user_id").unique().join(codes, on="user_id").sort("user")
    ago = batch - pl.col("day")
    events = log.only(users["user"].cast(pl.Int64).to_numpy()).interactions.frame
    days = events.filter(pl.col("day") < batch).select("user", "day").unique()
    history = days.group_by("user").agg(
        active_days=pl.len().log1p(),
        days_since=ago.min().log1p(),
        recent_days=(ago <= _RECENT_DAYS).sum().log1p(),
        days_between=(ago.max() / pl.len()).log1p(),
        same_weekday=(ago % 7 == 0).mean(),
    )
    score = pl.col("score").cast(pl.Float64)
    scores = lists.group_by("user_id").agg(
        mean_score=score.filter(pl.col("rank") <= _FIRST).mean(), first_score=score.max(), last_score=score.min()
    )
    known = users.join(history, on="user", how="left").join(scores, on="user_id", how="left").sort("user_id")
    return known.select(
        "user_id", *(pl.col(name).cast(pl.Float64).fill_null(0.0) for name in (*_OF_USERS, *_OF_SCORES))
    )


def mean_of_last(past: Sequence[NightUsers], n: int = 14) -> Estimate | None:
    """The mean of the last nights' realised NDCG, with the prediction interval of a normal variable; None below two."""
    from scipy import stats

    means = np.array([night.mean for night in past[-n:]])
    if len(means) < 2:  # noqa: PLR2004 - of one night there is no spread
        return None
    half = float(stats.t.ppf(0.975, len(means) - 1) * means.std(ddof=1) * np.sqrt(1 + 1 / len(means)))
    return Estimate(float(means.mean()), float(means.mean()) - half, float(means.mean()) + half, len(means))


def estimate(past: Sequence[NightUsers], tonight: NightUsers) -> Estimate | None:
    """Estimate tonight's NDCG.

    Args:
        past: Nights whose labels have closed and on which somebody acted, oldest first.
        tonight: The night, of which no outcome is looked at.

    Returns:
        The estimate; None with fewer past nights than `LEAST_NIGHTS`.
    """
    from scipy import stats

    if len(past) < LEAST_NIGHTS:
        return None
    first = max(_BEFORE, len(past) - _CALIBRATING - _CORRECTING)
    raw = {i: _raw(past[max(0, i - _NIGHTS) : i], past[i]) for i in range(first, len(past))}
    missed = {i: past[i].mean - value for i, value in raw.items()}
    raw[len(past)] = _raw(past[-_NIGHTS:], tonight)
    corrected = {
        i: value + _correction([missed[j] for j in range(max(first, i - _CORRECTING), i)]) for i, value in raw.items()
    }
    calibrating = range(max(first, len(past) - _CALIBRATING), len(past))
    errors = np.array([(past[i].mean - corrected[i]) * np.sqrt(past[i].n_requests) for i in calibrating])
    spread = np.sqrt(np.mean(errors**2) / _expected_requests(past, tonight.day))
    value, half = corrected[len(past)], float(stats.t.ppf(0.975, len(errors)) * spread)
    value, low, high = (float(np.clip(limit, 0.0, 1.0)) for limit in (value, value - half, value + half))
    return Estimate(value, low, high, len(past))


def _correction(missed: Sequence[float]) -> float:
    """The mean of the last misses, drawn towards 0: with few of them it says little."""
    return sum(missed) / (len(missed) + _CORRECTING / 2)


def _expected_requests(past: Sequence[NightUsers], day: date) -> float:
    """Requests to be expected: the mean over the last nights, those of the same weekday counted twice."""
    last = past[-_NIGHTS:]
    alike = [night for night in last if night.day.weekday() == day.weekday()]
    return float(np.mean([night.n_requests for night in (*last, *alike)]))


def _raw(past: Sequence[NightUsers], night: NightUsers) -> float:
    """The estimate of a night from nights before it, without correction."""
    fallback = np.concatenate([each.fallback for each in past])
    share = float(np.mean([len(each.fallback) / each.n_requests for each in past]))
    own = _of_users(past, night)
    return own if not len(fallback) else (1 - share) * own + share * float(fallback.mean())


def _of_users(past: Sequence[NightUsers], night: NightUsers) -> float:
    """The estimate for users with a list: the mean of what each one's list will get, by how likely each is to act."""
    from sklearn.linear_model import LogisticRegression, Ridge

    known, ndcg, requests = (
        np.concatenate([getattr(each, name) for each in past]) for name in ("features", "ndcg", "requests")
    )
    acted = requests > 0
    if acted.sum() < _LEAST_ACTED or not len(night.features):
        return float(np.average(ndcg[acted], weights=requests[acted])) if acted.any() else 0.0
    width = known.shape[1] if {each.version for each in past} == {night.version} else len(_OF_USERS)
    mean, spread = known[:, :width].mean(axis=0), known[:, :width].std(axis=0) + 1e-9
    scaled, now = (((rows[:, :width] - mean) / spread).clip(-_FAR, _FAR) for rows in (known, night.features))
    ridge = Ridge(alpha=_PENALTY).fit(scaled[acted], ndcg[acted], requests[acted])
    others = np.flatnonzero(~acted)
    drawn = np.random.default_rng(0).permutation(others)[: _OTHERS * int(acted.sum())]
    rows = np.sort(np.concatenate([np.flatnonzero(acted), drawn]))
    if not len(drawn):
        return float(ridge.predict(now).mean())
    acts = LogisticRegression(max_iter=1000).fit(_squared(scaled[rows]), acted[rows], np.maximum(requests[rows], 1))
    logits = acts.decision_function(_squared(now))
    odds = np.exp(logits - logits.max())  # proportional to the chance, where that is small
    return float(np.average(ridge.predict(now), weights=odds))


def _squared(scaled: Floats) -> Floats:
    return np.column_stack([scaled, scaled**2])
