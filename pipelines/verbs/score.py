"""Verb `score`: rank every user for one night by the champion, and publish the rankings in one step."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import polars as pl

from features.candidates.union import unmatched_ids
from features.errors import BlockedError, ConfigError, TryAgainError
from features.frozen import Owner
from features.log.event_log import EventLog, batch_day, date_of
from pipelines.base import report
from pipelines.base.config import TABLES, Config
from pipelines.base.owners import keys_of
from pipelines.base.progress import say
from pipelines.inputs.check import Inputs
from pipelines.night.audits import Finding, blocking
from pipelines.night.guard import MEASURES, Guard, audits_table
from pipelines.night.lists import FALLBACK, Lists, cut_short
from pipelines.night.recording import Recording
from pipelines.registry.bundle import Bundle
from pipelines.registry.last_champion import champion_again
from pipelines.registry.registry import CHAMPION, Registry
from pipelines.registry.versions import not_followed, say_not_followed, working_config
from pipelines.stores.lease import Lease, night_lease
from pipelines.stores.publish import Attempt, Published, live_day, refuse_blocked
from pipelines.stores.served import mend_pointer
from pipelines.stores.spool import spool
from pipelines.stores.trash import emptied, leftovers

__all__ = [
    "AS_USUAL",
    "Night",
    "Publishing",
    "attempt_identity",
    "has_hindsight",
    "ranked_users",
    "refuse_stale",
    "refuse_unanswerable",
    "score",
]

Night = dict[str, Any]
"""Result of a night: date, version, users, shards, attempt, rows, shards_written, texts_encoded; whether the pointer
moved and which day is live; the keys it did not follow, and how many blocked ids match no item; `shadow` where the
version is not the champion, `hindsight` where it has seen the day's future; `degraded`, and why, where the
registry could not say who is champion; `made_again`: what was damaged; `fallback_users`: how
many got the fallback list because the deadline passed."""

_WHERE_AND_HOW = (
    *("data.items.path", "data.events.path", "output", "tracking.", "vectors.", "max_memory_gb"),
    *("night.lease_minutes", "night.deadline_minutes", "night.train_every_days", "night.max_days_behind"),
    *("night.audits", "data.events.expected", "monitor."),
)
"""Prefixes of tonight's keys that do not change the published rankings."""


@dataclass(frozen=True, slots=True)
class Publishing:
    """How a night goes live.

    Attributes:
        force: Why it does although an audit blocks it; None lets audits block.
        shadow: Whether the lists are written beside and never published; None: where the version is not the champion.
        lease: The right to publish; None takes one for the time of the writing.
        degraded: Why the registry could not say that the version is the champion; None where it did.
    """

    force: str | None = None
    shadow: bool | None = None
    lease: Lease | None = None
    degraded: str | None = None


AS_USUAL = Publishing()


def score(
    inputs: Inputs,
    config: Config,
    *,
    when: date,
    version: str,
    bundle: Bundle,
    dry_run: bool = False,
    allow_hindsight: bool = False,
    publishing: Publishing = AS_USUAL,
) -> Night:
    """Rank every user as of the cut-off that opens a day, and publish.

    The same date, version, configuration and input files make the same attempt folder: a rerun finds its shards,
    writes what is missing, and moves the pointer only if it is not there yet. The rankings of a day before the one that
    is live stand beside it; what is live stays. Only the champion's are published: who that is, is asked for again
    right before the pointer moves; where the registry does not answer then, the last champion that was seen in this
    output folder goes live, and the night is `degraded`.

    Args:
        inputs: The checked tables, read under `working_config`, since what counts and when days open is the version's.
        config: Today's configuration.
        when: The day that the rankings are for.
        version: Name of the version, as the rankings carry it.
        bundle: The version.
        dry_run: Say what would be done, and write nothing.
        allow_hindsight: Rank a day of which the version has seen the future, too. That never goes live.
        publishing: How it goes live.

    Raises:
        ConfigError: The version ranks at request time, or re-ranks given lists and none are configured.
        BlockedError: The log has nothing before the day, or ends long before it; the version has seen the day's future;
            no user gets a list; or the night would go live and an audit blocks it.
        ContractError: What would be published breaks the rankings' contract.
        TryAgainError: Another night is under way, or took over; or the champion changed meanwhile.
    """
    own = working_config(config, bundle)
    refuse_unanswerable(own, version)
    day = batch_day(when)
    log = inputs.log.before(day)
    refuse_stale(inputs.log, day, config)
    hindsight = has_hindsight(log, day, version, bundle, allowed=allow_hindsight)
    differences = _say_apart(config, version, bundle, log)
    users, size = ranked_users(inputs, log), own.night.shard_users
    shards = {f"shard-{start // size:05d}": users.slice(start, size) for start in range(0, len(users), size)}
    name = f"{when}-{attempt_identity(inputs, own, when, version, bundle)}"
    attempt = Attempt(Path(config.output) / "rankings", name).newest
    facts: Night = {"date": str(when), "version": version, "users": len(users), "shards": len(shards)}
    if hindsight:
        facts["hindsight"] = True
    is_shadow = version != _champion(config) if publishing.shadow is None else publishing.shadow
    beside = {**differences, **({"shadow": True} if is_shadow else {}), "attempt": str(attempt.folder)}
    if dry_run:
        return {**facts, **beside, **_degraded(publishing.degraded), "dry_run": True}
    guard = Guard(attempt, log, users, day, version, own, rules=_rules(own))
    may_go_live = not (hindsight or is_shadow)
    recording = Recording(guard, config, {"bundle_digest": bundle.digest}, live=may_go_live)
    recording.silent = publishing.degraded is not None
    making = _Making(
        config=config,
        lists=Lists(log, own, day, version, bundle),
        guard=guard,
        recording=recording,
        shards=shards,
        manifest={**facts, "bundle": bundle.digest, "data": dict(inputs.fingerprints)},
        publishing=publishing,
        may_go_live=may_go_live,
    )
    lease = night_lease(config, when) if publishing.lease is None else nullcontext(publishing.lease)
    with recording.of_blocked(), lease as right:
        made = making.made(attempt, right)
    recording.of_published()
    return {**facts, **beside, **made, "live": _say_live(attempt, hindsight=hindsight, shadow=is_shadow and version)}


@dataclass(frozen=True)
class _Making:
    """How a night is made, audited and published, once it is known what it consists of.

    Attributes:
        config: Today's configuration.
        lists: What its lists are made by.
        guard: Its audits.
        recording: Its record in the tracking store.
        shards: Codes of the users of each part.
        manifest: What its manifest says beside the parts.
        publishing: How it goes live.
        may_go_live: Whether it does at all.
    """

    config: Config
    lists: Lists
    guard: Guard
    recording: Recording
    shards: dict[str, pl.Series]
    manifest: Night
    publishing: Publishing
    may_go_live: bool

    def made(self, attempt: Attempt, lease: Lease) -> Night:
        """Write what is missing of the night, and publish it; returns what is to be said of that."""
        _sweep(Path(self.config.output), attempt)
        made_again = _mended(attempt, lease)
        if self.may_go_live and self.publishing.force is None and attempt.would_go_live():
            refuse_blocked(attempt.day, _blocked(self.recording.noted(self.guard.audited_inputs())))
        made_again += attempt.drop_damaged([*self.shards, FALLBACK])
        written = self.lists.write(attempt, self.shards, _end(self.config, lease))
        late = sum(len(self.shards[part]) for part in written.late)
        cut: Night = {"fallback_users": late, "deadline_minutes": self.config.night.deadline_minutes} if late else {}
        guard = self.guard
        if late:
            attempt = cut_short(attempt, self.shards, written.late, self.lists)
            guard = replace(guard, attempt=attempt, late=written.late, late_users=late)
            self.recording.guard = guard
            say("the deadline passed: users get the fallback list", users=late, attempt=attempt.name)
        manifest = {**self.manifest, **cut, "files": {MEASURES: guard.measured(list(self.shards))}}
        if attempt.finish([*self.shards, FALLBACK], manifest, remarks=_degraded(self.publishing.degraded)):
            made_again.append("manifest")
        rows = _refuse_empty(attempt, self.lists.version)
        published = self._published(attempt, guard, lease, cut)
        if made_again:
            say("damaged files were made again", files=made_again, attempt=attempt.name)
        return {
            **cut,
            **published,
            **({"made_again": made_again} if made_again else {}),
            "attempt": str(attempt.folder),
            "rows": rows,
            "shards_written": written.shards,
            "texts_encoded": written.texts,
        }

    def _published(self, attempt: Attempt, guard: Guard, lease: Lease, cut: Night) -> Night:
        """Audit a whole attempt and let it go live, if it may."""
        version, reason = self.lists.version, self.publishing.force
        audits: Night = {}
        blocked: dict[str, str] = {}
        if self.may_go_live and (attempt.would_go_live(again=reason is not None) or not attempt.is_published):
            findings = self.recording.noted(guard.audited(list(self.shards)))
            report.show(audits_table(findings))
            blocked = _blocked(findings)
            audits = {"audits": {finding.audit: finding.verdict for finding in findings}}
        cutoff = self.lists.log.calendar.as_of(self.lists.day).isoformat()
        entry: Night = {"version": version, "cutoff": cutoff, "token": lease.token, **cut}
        entry |= _degraded(self.publishing.degraded)
        moved = self.may_go_live and attempt.publish(
            guard=_only_the_champion(self.config, version, lease, entry), facts=entry, blocked=blocked, reason=reason
        )
        if blocked and not moved:
            say("audits block this night, which is published for its own date alone", audits=sorted(blocked))
        degraded = _degraded(entry.get("degraded"))
        if self.may_go_live and degraded:
            self.recording.silent = True
            kept = {"date": str(attempt.day), "version": version, "why": entry["degraded"], "attempt": attempt.name}
            spool(Path(self.config.output), {"kind": "degraded", **kept})
        return {**audits, **degraded, "pointer_moved": moved}


def _blocked(findings: Sequence[Finding]) -> dict[str, str]:
    """Words of the audits that block a night, by name."""
    return {finding.audit: finding.words for finding in blocking(findings)}


def _sweep(output: Path, attempt: Attempt) -> None:
    """Remove what killed nights left: of this attempt at once, since whoever wrote there has no lease any more."""
    for path in leftovers(attempt.folder, seconds=0):
        emptied(path)
    for folder in ("rankings", "state", "quarantine", "jobs"):
        for path in leftovers(output / folder):
            emptied(path)


def _end(config: Config, lease: Lease) -> datetime | None:
    """When no further shard is begun: `night.deadline_minutes` after the night took its lease."""
    minutes = config.night.deadline_minutes
    return None if minutes is None else datetime.fromisoformat(lease.since) + timedelta(minutes=minutes)


def _mended(attempt: Attempt, lease: Lease) -> list[str]:
    """`["pointer"]` where that was damaged and names the last good rankings again, else nothing."""
    damage = mend_pointer(attempt.root, lease.fenced())
    if damage is None:
        return []
    live = live_day(attempt.root)
    say("the pointer was damaged", because=damage, live=None if live is None else str(live))
    return ["pointer"]


def _champion(config: Config) -> str | None:
    """Name of the version that may be published."""
    champion = Registry(config).find(CHAMPION)
    return None if champion is None else champion.name


def _degraded(why: str | None) -> Night:
    return {} if why is None else {"degraded": why}


@contextmanager
def _only_the_champion(config: Config, version: str, lease: Lease, entry: Night) -> Iterator[None]:
    """Context in which the pointer may move to rankings of a version.

    Args:
        config: Names the registry.
        version: Whose rankings they are.
        lease: The night's right to publish.
        entry: Of the journal; gets why the registry did not say that the version is the champion still.

    Raises:
        TryAgainError: Another night took over, or another version is the champion now.
    """
    with lease.fenced():
        now, silence = champion_again(config, version)
        if silence is not None:
            entry.setdefault("degraded", silence)
            say("degraded", version=version, because=silence)
        if now != version:
            raise TryAgainError(
                f"{version} was the champion when this night began, and is not any more ({now or 'there is none'} is). "
                "Its lists are written and not published. Run it again: the champion of then ranks the night."
            )
        yield


def _refuse_empty(attempt: Attempt, version: str) -> int:
    """Rows of all users' lists, after verifying them.

    Raises:
        BlockedError: There are none.
    """
    rows = Published(attempt, attempt.verify()).rows
    if not rows:
        raise BlockedError(
            f"no user gets a list for {attempt.day}: nothing that {version} ranks passes candidates.blocked, "
            "candidates.already_bought and available_from and available_until of items. Loosen these; last night's "
            "rankings stay live."
        )
    return rows


def _say_apart(config: Config, version: str, bundle: Bundle, log: EventLog) -> Night:
    """Report configured keys that the version does not follow and blocked ids without an item; returns both."""
    other = not_followed(config, bundle)
    say_not_followed(other, version)
    blocked = config.candidates.blocked
    unmatched = unmatched_ids(log.items["item_id"], blocked)
    if unmatched:
        say("candidates.blocked names ids of no item of the catalogue", ids=unmatched, of=len(blocked))
    return {"not_followed": other, "blocked_ids_unmatched": unmatched}


def _say_live(attempt: Attempt, *, hindsight: bool, shadow: str | Literal[False]) -> str | None:
    """The day that is live now; reports the reason if that is not this attempt."""
    live = live_day(attempt.root)
    if hindsight:
        say("not published", date=str(attempt.day), because="the version has seen the day's future", live=str(live))
    elif shadow:
        say("not published", date=str(attempt.day), because=f"{shadow} is not the champion", live=str(live))
    elif attempt.is_withdrawn and not attempt.is_live:
        because = "somebody went back from it on purpose (live --set); --force --reason TEXT publishes it again"
        say("what is live stays", live=str(live), because=because, attempt=str(attempt.folder))
    elif live is not None and live > attempt.day:
        say("what is live stays", live=str(live), because=f"{attempt.day} lies before it", attempt=str(attempt.folder))
    return None if live is None else str(live)


def ranked_users(inputs: Inputs, log: EventLog) -> pl.Series:
    """Codes of all users who have an event before the day or a row in `Users`, ascending."""
    coded = log.active_users
    if "users" in inputs.tables:
        listed = inputs.tables["users"].good["user_id"].cast(log.user_ids.dtype)
        codes = log.user_ids.to_frame("user_id").with_row_index("user")
        coded = pl.concat([coded, codes.filter(pl.col("user_id").is_in(listed.implode()))["user"]]).unique()
    return coded.sort()


def refuse_unanswerable(config: Config, version: str) -> None:
    """Refuse a version that cannot rank before somebody asks.

    Raises:
        ConfigError: It ranks at request time, or re-ranks given lists and none are configured.
    """
    if config.requests.mode == "online":
        raise ConfigError(
            f"{version} ranks when a request is made (requests.mode: online): it reads the request's time, query and "
            "context, which nobody knows tonight. Train and promote a version with requests.mode: batch."
        )
    if config.candidates.source == "logged" and config.data.candidates is None:
        raise ConfigError(
            f"{version} re-ranks lists that it is given (candidates.source: logged), and tonight's are the table under "
            "data.candidates (user_id, item_id, day), which is not configured. Name it there, or train and promote a "
            "version with candidates.source: generated."
        )


def refuse_stale(log: EventLog, day: int, config: Config) -> None:
    """Refuse a day that the log does not reach.

    Raises:
        BlockedError: No event lies before the day, or the latest one more than `night.max_days_behind` before its eve.
    """
    last = log.before(day).latest_day
    if last is None:
        raise BlockedError(
            f"no event lies before the cut-off of {date_of(day)}; the log starts on {date_of(log.first_day)}. "
            "Name a later --date, or deliver earlier events (data.events.path)."
        )
    behind = day - 1 - last
    if behind > config.night.max_days_behind:
        raise BlockedError(
            f"the latest event before {date_of(day)} is of {date_of(last)}, {behind} days short of the eve; "
            f"night.max_days_behind allows {config.night.max_days_behind}. Deliver the missing extracts, or raise it."
        )


def has_hindsight(log: EventLog, day: int, version: str, bundle: Bundle, *, allowed: bool) -> bool:
    """Whether a version has seen events or labels from a day's cut-off on.

    Raises:
        BlockedError: It has, and that is not allowed.
    """
    if bundle.cutoff <= log.calendar.as_of(day):
        return False
    if not allowed:
        raise BlockedError(
            f"{version} has seen events or labels of {date_of(day)} and later (it learned from what lies before "
            f"{bundle.cutoff:%Y-%m-%d %H:%M} UTC): its lists for that day would know what came. Name an older version "
            "with --version, or rank with hindsight, which never goes live, with --allow-hindsight."
        )
    return True


def attempt_identity(inputs: Inputs, config: Config, when: date, version: str, bundle: Bundle) -> str:
    """Hash of everything that decides the published rankings: inputs, version, bundle, and tonight's keys."""
    parts = [str(when), version, bundle.digest, dict(inputs.fingerprints), _rules(config)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _rules(config: Config) -> dict[str, Any]:
    """Tonight's keys that decide what is published."""
    tonight = keys_of(config, {Owner.TONIGHT})
    for table in TABLES:
        if tonight.get(f"data.{table}") is not None:
            tonight[f"data.{table}"].pop("path")
    return {key: value for key, value in tonight.items() if not key.startswith(_WHERE_AND_HOW)}
