"""How far tonight has moved from the nights before: columns, scores, texts, events, fallback, age of the encoder.

Each check is one function of `Watched` that returns a distance and its words, or None where there is nothing to compare
with. Distances between shares are the population stability index (Siddiqi 2006: below 0.1 nothing moved, above 0.25
much did) or the Jensen-Shannon distance (the root of the divergence in bits: 0 where shares are equal, 1 where they
have nothing in common; Lin 1991).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from statistics import fmean, median
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from features.families.statistics import ColumnStatistics, psi_of_shares
from pipelines.base.monitor_config import DriftConfig
from pipelines.night.measures import Measures

__all__ = ["CHECKS", "Drift", "Opinion", "Watched", "drift_of", "js_distance"]

_WEEK = 7
_ENOUGH = 500  # rows of a sample from which shares are compared
_EXPECTED = 20  # defined values that a sample should have for their absence to be no chance
_SHOWN = 3  # columns that are named
_MOVED = 0.25  # stability index from which a column moved


@dataclass(frozen=True)
class Watched:
    """Tonight, and the nights before that it is compared with.

    Attributes:
        tonight: What was measured of it; None for a night of before there were measures.
        before: The same of the nights before, the latest last.
        columns: Statistics of its feature columns; None where they were not kept.
        columns_before: The same of the nights before that kept them, the latest last.
        scores: Some of tonight's scores.
        encoder_day: The day before which everything lies that the encoder learned; None where the bundle is gone.
    """

    tonight: Measures | None
    before: Sequence[Measures]
    columns: Mapping[str, ColumnStatistics] | None
    columns_before: Sequence[Mapping[str, ColumnStatistics]]
    scores: npt.NDArray[np.float64]
    encoder_day: date | None


@dataclass(frozen=True, slots=True)
class Opinion:
    """A distance, and what was seen in words."""

    value: float
    words: str


@dataclass(frozen=True, slots=True)
class Drift:
    """The verdict of a check.

    Attributes:
        check: Its name in `monitor.drift`.
        verdict: `passed`, `warned`, `blocked`, or `not judged` where there is nothing to compare with.
        limit: The largest value that is allowed.
        value: The distance; None where it was not judged.
        words: What was seen, for people.
    """

    check: str
    verdict: Literal["passed", "warned", "blocked", "not judged"]
    limit: float
    value: float | None
    words: str

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def drift_of(watched: Watched, config: DriftConfig) -> list[Drift]:
    """Every check that is not off, in the order of `CHECKS`."""
    drifts = []
    for name, check in CHECKS.items():
        setting = getattr(config, name)
        if setting.level == "off":
            continue
        opinion = check(watched)
        if opinion is None:
            drifts.append(Drift(name, "not judged", setting.limit, None, "nothing to compare with"))
            continue
        verdict: Literal["passed", "warned", "blocked"] = "passed"
        if opinion.value > setting.limit:
            verdict = "blocked" if setting.level == "block" else "warned"
        drifts.append(Drift(name, verdict, setting.limit, opinion.value, opinion.words))
    return drifts


def js_distance(now: npt.ArrayLike, then: npt.ArrayLike) -> float:
    """Jensen-Shannon distance of two lists of shares or counts, in bits; 0 where both are empty, 1 where one is.

    >>> js_distance([3, 1], [3, 1]), js_distance([1, 0], [0, 1])
    (0.0, 1.0)
    """
    p, q = np.asarray(now, np.float64), np.asarray(then, np.float64)
    if not p.sum() or not q.sum():
        return 0.0 if p.sum() == q.sum() else 1.0
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    divergence = sum(float((s[s > 0] * np.log2(s[s > 0] / middle[s > 0])).sum()) for s in (p, q)) / 2
    return float(np.sqrt(max(divergence, 0.0)))


def _columns(watched: Watched) -> Opinion | None:
    """The share of the feature columns that look like none of the nights before.

    Of a column, the nearest of these nights counts: a Sunday may look like the Sundays before it. A column whose
    stability index is above 0.25 moved.
    """
    if watched.columns is None:
        return None
    nearest = {}
    for name, column in watched.columns.items():
        then = [night[name].shares for night in watched.columns_before if _comparable(night.get(name), column)]
        if then:
            nearest[name] = min(psi_of_shares(column.shares, shares) for shares in then)
    if not nearest:
        return None
    moved = sorted((name for name in nearest if nearest[name] > _MOVED), key=lambda name: -nearest[name])
    named = ", ".join(f"{name} by {nearest[name]:.2f}" for name in moved[:_SHOWN])
    words = f"{len(moved)} of {len(nearest)} columns moved" + (f", most {named}" if moved else "")
    return Opinion(len(moved) / len(nearest), words)


def _comparable(night: ColumnStatistics | None, column: ColumnStatistics) -> bool:
    return night is not None and night.edges == column.edges and min(night.rows, column.rows) >= _ENOUGH


def _gone_columns(watched: Watched) -> Opinion | None:
    """Columns of the last night that are not there tonight, or have no value although many were to be expected."""
    if watched.columns is None or not watched.columns_before:
        return None
    last = watched.columns_before[-1]
    gone = sorted(name for name, column in last.items() if _is_gone(column, watched.columns.get(name)))
    named = f": {', '.join(gone[:_SHOWN])}" if gone else ""
    return Opinion(len(gone), f"{len(gone)} of {len(last)} columns of the last night are gone or empty{named}")


def _is_gone(then: ColumnStatistics, now: ColumnStatistics | None) -> bool:
    return now is None or (now.null_share == 1 and now.rows * (1 - then.null_share) >= _EXPECTED)


def _scores(watched: Watched) -> Opinion | None:
    """PSI of tonight's scores in the deciles of each night before of the same version and rules; their median."""
    tonight = watched.tonight
    if tonight is None or not len(watched.scores):
        return None
    alike = [night for night in watched.before if (night.version, night.rules) == (tonight.version, tonight.rules)]
    indices = [_psi_in_deciles(watched.scores, night.lists.deciles) for night in alike if night.lists.deciles]
    if not indices:
        return None
    return Opinion(median(indices), f"stability index {median(indices):.3f}, the median over {len(indices)} nights")


def _psi_in_deciles(scores: npt.NDArray[np.float64], deciles: Sequence[float]) -> float:
    counts = np.bincount(np.searchsorted(deciles, scores), minlength=len(deciles) + 1)
    return psi_of_shares(counts / len(scores), np.full(len(counts), 1 / len(counts)))


def _texts(measure: str, what: str) -> Callable[[Watched], Opinion | None]:
    """A check of what the texts of the catalogue look like, against the mean of the nights before."""

    def check(watched: Watched) -> Opinion | None:
        then = [getattr(texts, measure) for night in watched.before if (texts := night.inputs.texts) is not None]
        if watched.tonight is None or watched.tonight.inputs.texts is None or not then:
            return None
        distance = js_distance(getattr(watched.tonight.inputs.texts, measure), np.mean(then, axis=0))
        return Opinion(distance, f"Jensen-Shannon distance {distance:.3f} of {what}, to the mean of {len(then)} nights")

    return check


def _event_mix(watched: Watched) -> Opinion | None:
    """The mix of event types in the week before the cut-off, against the mean of the nights before."""
    if watched.tonight is None or not watched.before:
        return None
    kinds = sorted({kind for night in (watched.tonight, *watched.before) for kind in night.inputs.by_day})
    if len(kinds) == 1:
        return None
    now, *then = (_mix(night, kinds) for night in (watched.tonight, *watched.before))
    distance = js_distance(now, np.mean(then, axis=0))
    return Opinion(distance, f"Jensen-Shannon distance {distance:.3f} of the last week's mix of event types")


def _mix(night: Measures, kinds: Sequence[str]) -> npt.NDArray[np.float64]:
    counts = np.array([sum(night.inputs.by_day.get(kind, ())[-_WEEK:]) for kind in kinds], np.float64)
    mix: npt.NDArray[np.float64] = counts / max(counts.sum(), 1)
    return mix


def _risen(what: str, share: Callable[[Measures], float]) -> Callable[[Watched], Opinion | None]:
    """A check of a share of the users that rose above the mean of the nights before."""

    def check(watched: Watched) -> Opinion | None:
        if watched.tonight is None or not watched.before:
            return None
        now, then = share(watched.tonight), fmean(share(night) for night in watched.before)
        return Opinion(now - then, f"{now:.1%} of the users {what}; {then:.1%} on the nights before")

    return check


def _encoder_age(watched: Watched) -> Opinion | None:
    """Days since the last one that the encoder learned from."""
    if watched.encoder_day is None or watched.tonight is None:
        return None
    days = (date.fromisoformat(watched.tonight.day) - watched.encoder_day).days
    return Opinion(days, f"the encoder learned from what lies before {watched.encoder_day}, {days} days ago")


CHECKS: dict[str, Callable[[Watched], Opinion | None]] = {
    "columns": _columns,
    "gone_columns": _gone_columns,
    "scores": _scores,
    "text_lengths": _texts("lengths", "text lengths"),
    "text_scripts": _texts("scripts", "writing systems"),
    "text_words": _texts("words", "words"),
    "event_mix": _event_mix,
    "no_list": _risen(
        "get the fallback list",
        lambda night: 1 - (night.lists.lists - night.lists.fallback) / max(night.inputs.users, 1),
    ),
    "no_history": _risen("have no history", lambda night: night.inputs.strangers / max(night.inputs.users, 1)),
    "encoder_age": _encoder_age,
}
"""Every check by its name in `monitor.drift`, in the order of the table."""
