"""The audits of a night: each compares what was measured with what is allowed, and with the nights live before.

Audits are pure: they read measures, and a sample of two nights' lists, and give opinions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from statistics import fmean, median
from typing import Literal

import numpy as np
import polars as pl

from pipelines.base.audit_config import AuditsConfig
from pipelines.night.measures import DAYS, InputMeasures, Measures

__all__ = ["AUDITS", "OF_INPUTS", "Compared", "Finding", "Opinion", "audit", "blocking"]

_FIRST = 10  # ranks of a list that people look at
_WEEKS = 5  # weeks before the eve that say what is expected of its weekday
_EXPECTED = 4  # of those weeks, how many must have had events
_COMMON = 20  # events of a type on its median day, above which fewer are no chance
_EXACT = 1e-9  # what shares of counts may be off by rounding
_NO_SHARE = 1e-4  # stands for an empty decile in the stability index


@dataclass(frozen=True)
class Compared:
    """A night that is written and not yet live, beside those that were.

    Attributes:
        tonight: What was measured of it.
        before: The measures of nights that went live, the latest first; none on the first night.
        lists: user_id, rank, item_id and score of a sample of users, tonight.
        last_lists: The same users' rows of the last night; None where there is none.
        supplied_lists: Whether the night ranks lists that it is given, so that only users who have one get one.
        eve_is_expected: Whether the configuration expects events on the day before; None where it does not say.
    """

    tonight: Measures
    before: Sequence[Measures]
    lists: pl.DataFrame
    last_lists: pl.DataFrame | None = None
    eve_is_expected: bool | None = None
    supplied_lists: bool = False

    @property
    def last(self) -> Measures | None:
        """The night that is live."""
        return self.before[0] if self.before else None

    @cached_property
    def same_rules(self) -> bool:
        """Whether the last night ranked by the same version and rules, so that scores and lists compare."""
        last, tonight = self.last, self.tonight
        return last is not None and (last.version, last.rules) == (tonight.version, tonight.rules)


@dataclass(frozen=True, slots=True)
class Opinion:
    """What an audit found: a number against the limit, and its words."""

    value: float
    passes: bool
    words: str


@dataclass(frozen=True, slots=True)
class Finding:
    """An audit's verdict.

    Attributes:
        audit: Its name.
        level: Whether it blocks or warns.
        limit: What is allowed.
        words: What was found, for people.
        verdict: `passed`, `warned`, `blocked`, or `not judged` where there is nothing to compare with.
    """

    audit: str
    level: str
    limit: float
    words: str
    verdict: Literal["passed", "warned", "blocked", "not judged"]


Auditor = Callable[[Compared, float], Opinion | None]


def audit(compared: Compared, config: AuditsConfig, *, inputs_alone: bool = False) -> list[Finding]:
    """Every audit that is not off, in the order of `AUDITS`.

    Args:
        compared: The night beside those before it.
        config: Levels and limits.
        inputs_alone: Only the audits of `OF_INPUTS`, which need no list of the night.
    """
    findings = []
    for name, auditor in AUDITS.items():
        if inputs_alone and name not in OF_INPUTS:
            continue
        setting = getattr(config, name)
        if setting.level == "off":
            continue
        opinion = auditor(compared, setting.limit)
        if opinion is None:
            findings.append(Finding(name, setting.level, setting.limit, "nothing to compare with", "not judged"))
            continue
        verdict: Literal["passed", "warned", "blocked"] = "passed"
        if not opinion.passes:
            verdict = "blocked" if setting.level == "block" else "warned"
        findings.append(Finding(name, setting.level, setting.limit, opinion.words, verdict))
    return findings


def blocking(findings: Sequence[Finding]) -> list[Finding]:
    """Those that keep the night from going live."""
    return [finding for finding in findings if finding.verdict == "blocked"]


def _rows(compared: Compared, limit: float) -> Opinion:
    wrong = compared.tonight.lists.wrong
    return Opinion(wrong, wrong <= limit, f"{wrong:,} wrong rows of {compared.tonight.lists.rows:,}")


def _users_listed(compared: Compared, limit: float) -> Opinion | None:
    if compared.supplied_lists and not compared.before:
        return None
    share = _unlisted(compared.tonight)
    usual = median(_unlisted(night) for night in compared.before) if compared.before else 0.0
    words = f"{share:.1%} of {compared.tonight.inputs.users:,} users have no list; usual {usual:.1%}"
    return Opinion(share - usual, share - usual <= limit + _EXACT, words)


def _unlisted(night: Measures) -> float:
    return 1 - night.lists.lists / max(night.inputs.users, 1)


def _full_lists(compared: Compared, limit: float) -> Opinion | None:
    """Short lists against those of before: a configuration may ask for more items than its generators propose."""
    if not compared.before:
        return None
    short = _short(compared.tonight)
    usual = median(_short(night) for night in compared.before)
    words = f"{short:.1%} of {compared.tonight.lists.lists:,} lists are short; usual {usual:.1%}"
    return Opinion(short - usual, short - usual <= limit + _EXACT, words)


def _short(night: Measures) -> float:
    return 1 - night.lists.full / max(night.lists.lists, 1)


def _fallback(compared: Compared, limit: float) -> Opinion:
    """Users who get the fallback list because a deadline passed."""
    fallback, users = compared.tonight.lists.fallback, compared.tonight.inputs.users
    share = fallback / max(users, 1)
    words = f"{fallback:,} of {users:,} users get the fallback list: the deadline passed"
    return Opinion(share, share <= limit + _EXACT, words if fallback else "every user was ranked")


def _equal_scores(compared: Compared, limit: float) -> Opinion:
    lists = compared.tonight.lists
    share = lists.equal / max(lists.lists, 1)
    return Opinion(share, share <= limit + _EXACT, f"{share:.1%} of {lists.lists:,} lists have one score for all items")


def _texts(compared: Compared, limit: float) -> Opinion:
    share = _text_share(compared.tonight.inputs)
    usual = 1.0 if compared.last is None else _text_share(compared.last.inputs)
    least = limit if compared.last is None else usual - limit
    return Opinion(
        share, share >= least - _EXACT, f"{share:.1%} of the items have a text; {least:.1%} or more are needed"
    )


def _text_share(inputs: InputMeasures) -> float:
    return inputs.with_text / max(inputs.items, 1)


def _gone(what: str, count: Callable[[Measures], int]) -> Auditor:
    """An audit of a count that should not fall from night to night."""

    def auditor(compared: Compared, limit: float) -> Opinion | None:
        if compared.last is None:
            return None
        now, then = count(compared.tonight), count(compared.last)
        share = 1 - now / max(then, 1)
        return Opinion(share, share <= limit + _EXACT, f"{now:,} {what}; {then:,} on the night of {compared.last.day}")

    return auditor


def _past_days(compared: Compared, limit: float) -> Opinion | None:
    """Days that the last night had, and that have lost events since."""
    if compared.last is None:
        return None
    now, then = (_totals(night.inputs) for night in (compared.tonight, compared.last))
    shift = (_date(compared.tonight) - _date(compared.last)).days
    if not 0 <= shift < DAYS:
        return None
    pairs = zip(then[shift:], now[: DAYS - shift], strict=True)
    lost = [1 - after / before for before, after in pairs if before]
    worst = max(lost, default=0.0)
    beyond = sum(share > limit + _EXACT for share in lost)
    words = f"{beyond} recent days lost more than {limit:.0%} of their events; the worst lost {max(worst, 0.0):.1%}"
    return Opinion(worst, beyond == 0, words)


def _totals(inputs: InputMeasures) -> list[int]:
    """Events of all types on each of the latest days."""
    return [sum(of_day) for of_day in zip(*inputs.by_day.values(), strict=True)] or [0] * DAYS


def _date(night: Measures) -> date:
    return date.fromisoformat(night.day)


def _eve(compared: Compared, limit: float) -> Opinion | None:
    """The day before, against what its weekday usually has."""
    totals = _totals(compared.tonight.inputs)
    weeks = _same_weekdays(totals)
    usual = median(weeks)
    expected = compared.eve_is_expected
    if expected is None:
        expected = sum(n > 0 for n in weeks) >= _EXPECTED
    if not expected:
        return None
    least = max(limit * usual, 1)
    words = f"{totals[-1]:,} events on the day before; its weekday has {usual:,.0f}"
    return Opinion(totals[-1], totals[-1] >= least, words)


def _same_weekdays(days: Sequence[int]) -> list[int]:
    return [days[-1 - 7 * week] for week in range(1, _WEEKS + 1)]


def _event_types(compared: Compared, limit: float) -> Opinion | None:
    """Each common event type on the day before."""
    missing, judged = [], 0
    for kind, days in compared.tonight.inputs.by_day.items():
        weeks = _same_weekdays(days)
        usual = median(weeks)
        if usual < _COMMON or sum(n > 0 for n in weeks) < _EXPECTED:
            continue
        judged += 1
        if days[-1] < limit * usual:
            missing.append(f"{kind} {days[-1]:,} where {usual:,.0f} are usual")
    if not judged:
        return None
    return Opinion(len(missing), not missing, "; ".join(missing[:5]) or f"all of {judged} that are common came")


def _scores(compared: Compared, limit: float) -> Opinion | None:
    """Population stability index of tonight's scores over the last night's deciles."""
    last = compared.last
    if last is None or not compared.same_rules or not last.lists.deciles or compared.lists.is_empty():
        return None
    bins = np.searchsorted(last.lists.deciles, compared.lists["score"].to_numpy())
    share = np.bincount(bins, minlength=len(last.lists.deciles) + 1) / len(bins)
    share = np.maximum(share, _NO_SHARE)
    even = 1 / len(share)
    index = float(((share - even) * np.log(share / even)).sum())
    return Opinion(index, index <= limit, f"stability index {index:.3f} over the last night's deciles")


def _overlap(compared: Compared, limit: float) -> Opinion | None:
    """How much of the first ten items is as it was."""
    if compared.last_lists is None or not compared.same_rules:
        return None
    now, then = (
        rows.filter(pl.col("rank") <= _FIRST).select("user_id", "item_id")
        for rows in (compared.lists, compared.last_lists)
    )
    both = now.filter(pl.col("user_id").is_in(then["user_id"].unique().implode()))
    if both.is_empty():
        return None
    again = both.join(then, on=["user_id", "item_id"], how="semi").group_by("user_id").len("again")
    lengths = both.group_by("user_id").len("of").join(again, on="user_id", how="left")
    share = fmean((lengths["again"].fill_null(0) / lengths["of"]).to_list())
    return Opinion(
        share, share >= limit - _EXACT, f"{share:.1%} of the first {_FIRST} items were there on the last night"
    )


def _categories(compared: Compared, limit: float) -> Opinion | None:
    if compared.last is None:
        return None
    now, then = compared.tonight.lists.categories, compared.last.lists.categories
    distance = sum(abs(now.get(name, 0.0) - then.get(name, 0.0)) for name in {*now, *then}) / 2
    return Opinion(distance, distance <= limit + _EXACT, f"{distance:.1%} of the shown rows moved to another category")


def _risen(what: str, share: Callable[[Measures], float]) -> Auditor:
    """An audit of a share that should not rise from night to night."""

    def auditor(compared: Compared, limit: float) -> Opinion | None:
        if compared.last is None:
            return None
        now, then = share(compared.tonight), share(compared.last)
        return Opinion(now - then, now - then <= limit + _EXACT, f"{now:.1%} of {what}; {then:.1%} on the last night")

    return auditor


AUDITS: dict[str, Auditor] = {
    "rows": _rows,
    "users_listed": _users_listed,
    "full_lists": _full_lists,
    "fallback": _fallback,
    "equal_scores": _equal_scores,
    "texts": _texts,
    "catalogue": _gone("items on sale", lambda night: night.inputs.on_sale),
    "users": _gone("users", lambda night: night.inputs.users),
    "log": _gone("events", lambda night: night.inputs.events),
    "past_days": _past_days,
    "eve": _eve,
    "event_types": _event_types,
    "items_shown": _gone("distinct items are shown", lambda night: night.lists.shown),
    "scores": _scores,
    "overlap": _overlap,
    "categories": _categories,
    "strangers": _risen("the users have no history", lambda night: night.inputs.strangers / max(night.inputs.users, 1)),
    "new_items": _risen(
        "the shown rows are of new items", lambda night: night.lists.new_rows / max(night.lists.rows, 1)
    ),
}
"""Every audit by its name in `night.audits`, in the order of the table."""

OF_INPUTS = ("texts", "catalogue", "users", "log", "past_days", "eve", "event_types", "strangers")
"""Audits of what a night knows: they are asked before it makes a list, so that hours are not spent for nothing."""
