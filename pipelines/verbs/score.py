"""Verb `score`: rank every user for one night by the champion, and publish the rankings in one step."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from features.candidates.union import unmatched_ids
from features.errors import BlockedError, ConfigError, ContractError, TryAgainError
from features.frozen import Owner
from features.log.event_log import EventLog, batch_day, date_of
from features.requests.engaged import requests_tonight
from features.signals.top_k import top_k
from features.tables.schemas import Rankings
from pipelines.base import report
from pipelines.base.config import TABLES, Config
from pipelines.base.owners import keys_of
from pipelines.base.progress import say, task
from pipelines.inputs.check import Inputs
from pipelines.night.audits import Finding, blocking
from pipelines.night.guard import MEASURES, Guard, audits_table
from pipelines.registry.bundle import Bundle
from pipelines.registry.registry import CHAMPION, Registry
from pipelines.registry.versions import not_followed, say_not_followed, working_config
from pipelines.stores.lease import Lease, night_lease
from pipelines.stores.publish import Attempt, Published, live_day, refuse_blocked
from pipelines.stores.trash import emptied, leftovers
from pipelines.training.chain import Chain
from ranker.explain import reasons
from ranker.ranker import Ranker

__all__ = ["AS_USUAL", "Night", "Publishing", "attempt_identity", "rank_users", "refuse_stale", "score"]

Night = dict[str, Any]
"""Result of a night: date, version, users, shards, attempt, rows, shards_written, texts_encoded; whether the pointer
moved and which day is live; the keys it did not follow, and how many blocked ids match no item; `shadow` where the
version is not the champion, `hindsight` where it has seen the day's future."""

_WHERE_AND_HOW = (
    *("data.items.path", "data.events.path", "output", "tracking.", "vectors.", "max_memory_gb"),
    *("night.lease_minutes", "night.max_days_behind", "night.audits", "data.events.expected"),
)
"""Prefixes of tonight's keys that do not change the published rankings."""


@dataclass(frozen=True, slots=True)
class Publishing:
    """How a night goes live.

    Attributes:
        force: Why it does although an audit blocks it; None lets audits block.
        shadow: Whether the lists are written beside and never published; None: where the version is not the champion.
        lease: The right to publish; None takes one for the time of the writing.
    """

    force: str | None = None
    shadow: bool | None = None
    lease: Lease | None = None


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
    right before the pointer moves.

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
    _refuse_unanswerable(own, version)
    day = batch_day(when)
    log = inputs.log.before(day)
    refuse_stale(inputs.log, day, config)
    hindsight = _hindsight(log, day, version, bundle, allowed=allow_hindsight)
    differences = _say_apart(config, version, bundle, log)
    users = _users(inputs, log)
    shards = [users.slice(start, own.night.shard_users) for start in range(0, len(users), own.night.shard_users)]
    name = f"{when}-{attempt_identity(inputs, own, when, version, bundle)}"
    attempt = Attempt(Path(config.output) / "rankings", name).newest
    facts: Night = {"date": str(when), "version": version, "users": len(users), "shards": len(shards)}
    if hindsight:
        facts["hindsight"] = True
    is_shadow = version != _champion(config) if publishing.shadow is None else publishing.shadow
    beside = {**differences, **({"shadow": True} if is_shadow else {}), "attempt": str(attempt.folder)}
    if dry_run:
        return {**facts, **beside, "dry_run": True}
    guard = Guard(attempt, log, users, day, version, own, rules=_rules(own))
    may_go_live = not (hindsight or is_shadow)
    again = publishing.force is not None
    if may_go_live and not again and attempt.would_go_live():
        refuse_blocked(when, _blocked(guard.audited_inputs()))
    with night_lease(config, when) if publishing.lease is None else nullcontext(publishing.lease) as right:
        _sweep(Path(config.output), attempt)
        parts = [f"shard-{number:05d}" for number in range(len(shards))]
        written, encoded = _write(attempt, dict(zip(parts, shards, strict=True)), log, own, day, version, bundle)
        files = {MEASURES: guard.measured(parts)}
        kept = {"bundle": bundle.digest, "data": dict(inputs.fingerprints), "files": files}
        attempt.finish([*parts, "fallback"], {**facts, **kept})
        rows = _refuse_empty(attempt, version)
        blocked: dict[str, str] = {}
        if may_go_live and (attempt.would_go_live(again=again) or not attempt.is_published):
            findings = guard.audited(parts)
            report.show(audits_table(findings))
            blocked = _blocked(findings)
            facts["audits"] = {finding.audit: finding.verdict for finding in findings}
        moved = may_go_live and attempt.publish(
            guard=_only_the_champion(config, version, right),
            facts={"version": version, "cutoff": log.calendar.as_of(day).isoformat(), "token": right.token},
            blocked=blocked,
            reason=publishing.force,
        )
        if blocked and not moved:
            say("audits block this night, which is published for its own date alone", audits=sorted(blocked))
    return {
        **facts,
        **beside,
        "rows": rows,
        "shards_written": written,
        "texts_encoded": encoded,
        "pointer_moved": moved,
        "live": _say_live(attempt, hindsight=hindsight, shadow=version if is_shadow else None),
    }


def _blocked(findings: Sequence[Finding]) -> dict[str, str]:
    """Words of the audits that block a night, by name."""
    return {finding.audit: finding.words for finding in blocking(findings)}


def _champion(config: Config) -> str | None:
    """Name of the version that may be published."""
    champion = Registry(config).find(CHAMPION)
    return None if champion is None else champion.name


@contextmanager
def _only_the_champion(config: Config, version: str, lease: Lease) -> Iterator[None]:
    """Context in which the pointer may move to rankings of a version.

    Raises:
        TryAgainError: Another night took over, or another version is the champion now.
    """
    with lease.fenced():
        now = _champion(config)
        if now != version:
            raise TryAgainError(
                f"{version} was the champion when this night began, and is not any more ({now or 'there is none'} is). "
                "Its lists are written and not published. Run it again: the champion of then ranks the night."
            )
        yield


def _sweep(output: Path, attempt: Attempt) -> None:
    """Remove what killed nights left: of this attempt at once, since whoever wrote there has no lease any more."""
    for path in leftovers(attempt.folder, seconds=0):
        emptied(path)
    for folder in ("rankings", "state", "quarantine", "jobs"):
        for path in leftovers(output / folder):
            emptied(path)


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


def _write(
    attempt: Attempt,
    shards: dict[str, pl.Series],
    log: EventLog,
    config: Config,
    day: int,
    version: str,
    bundle: Bundle,
) -> tuple[int, int]:
    """Write the missing shards of an attempt; returns how many those were, and how many texts were encoded."""
    missing = {part: users for part, users in shards.items() if not attempt.has(part)}
    has_fallback = attempt.has("fallback")
    if not missing and has_fallback:
        return 0, 0
    chain = Chain(log, config, bundle.model, bundle.features.inventory, cut=bundle.cut)
    unlisted = 0
    with task("Ranking users", sum(len(users) for users in missing.values()), "users") as advance:
        for part, users in missing.items():
            rankings = rank_users(chain, config, users, day, version, bundle)
            attempt.write(part, rankings)
            unlisted += len(users) - rankings["user_id"].n_unique()
            advance(len(users))
    if unlisted:
        say("users without candidates get no list", users=unlisted)
    if not has_fallback:
        attempt.write("fallback", _fallback(chain, config, day, version, bundle.ranker))
    return len(missing), chain.encoded["tuned"]


def _say_apart(config: Config, version: str, bundle: Bundle, log: EventLog) -> Night:
    """Report configured keys that the version does not follow and blocked ids without an item; returns both."""
    other = not_followed(config, bundle)
    say_not_followed(other, version)
    blocked = config.candidates.blocked
    unmatched = unmatched_ids(log.items["item_id"], blocked)
    if unmatched:
        say("candidates.blocked names ids of no item of the catalogue", ids=unmatched, of=len(blocked))
    return {"not_followed": other, "blocked_ids_unmatched": unmatched}


def _say_live(attempt: Attempt, *, hindsight: bool, shadow: str | None) -> str | None:
    """The day that is live now; reports the reason if that is not this attempt."""
    live = live_day(attempt.root)
    if hindsight:
        say("not published", date=str(attempt.day), because="the version has seen the day's future", live=str(live))
    elif shadow is not None:
        say("not published", date=str(attempt.day), because=f"{shadow} is not the champion", live=str(live))
    elif attempt.is_withdrawn and not attempt.is_live:
        because = "somebody went back from it on purpose (live --set); --force --reason TEXT publishes it again"
        say("what is live stays", live=str(live), because=because, attempt=str(attempt.folder))
    elif live is not None and live > attempt.day:
        say("what is live stays", live=str(live), because=f"{attempt.day} lies before it", attempt=str(attempt.folder))
    return None if live is None else str(live)


def _users(inputs: Inputs, log: EventLog) -> pl.Series:
    """Codes of all users who have an event before the day or a row in `Users`, ascending."""
    coded = log.active_users
    if "users" in inputs.tables:
        listed = inputs.tables["users"].good["user_id"].cast(log.user_ids.dtype)
        codes = log.user_ids.to_frame("user_id").with_row_index("user")
        coded = pl.concat([coded, codes.filter(pl.col("user_id").is_in(listed.implode()))["user"]]).unique()
    return coded.sort()


def rank_users(chain: Chain, config: Config, users: pl.Series, day: int, version: str, bundle: Bundle) -> pl.DataFrame:
    """The published rows of some users."""
    ranker, most = bundle.ranker, config.night.reasons
    requests = requests_tonight(users, day)
    parts = []
    for portion in chain.assembler.portions(requests):
        rows = chain.with_interest(portion)
        scored = rows.select("request", "user", "item").with_columns(pl.Series("score", ranker.predict(rows)))
        best = top_k(scored.with_row_index("row"), config.night.top)
        if most:
            lifted = reasons(ranker.contributions(rows[best["row"]]), bundle.features.families(ranker.features), most)
            best = best.with_columns(lifted)
        parts.append(best)
    best = pl.concat(parts)
    rankings = best.select(
        chain.log.user_ids.gather(best["user"]).alias("user_id"),
        "rank",
        chain.log.items["item_id"].gather(best["item"]).alias("item_id"),
        "score",
        pl.lit(version).alias("model_version"),
    )
    good, failure = Rankings.filter(rankings, cast=True)
    if len(failure):
        raise ContractError(
            f"rankings: {failure.counts()} rows break the contract, so nothing was published. Please report it."
        )
    return good.with_columns(best["reasons"]) if most else good


def _fallback(chain: Chain, config: Config, day: int, version: str, ranker: Ranker) -> pl.DataFrame:
    """The list for unknown users: the same ranker's, for a user without any history."""
    nobody = pl.Series([chain.log.user_ids.len()], dtype=pl.UInt32)
    rows = chain.with_interest(chain.assembler.portion(requests_tonight(nobody, day)))
    scored = rows.select("request", "user", "item").with_columns(pl.Series("score", ranker.predict(rows)))
    best = top_k(scored, config.night.top)
    return best.select(
        "rank",
        chain.log.items["item_id"].gather(best["item"]).alias("item_id"),
        "score",
        pl.lit(version).alias("model_version"),
    )


def _refuse_unanswerable(config: Config, version: str) -> None:
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


def _hindsight(log: EventLog, day: int, version: str, bundle: Bundle, *, allowed: bool) -> bool:
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
