"""Verb `score`: tonight's rankings of every user, from the champion, published in one step."""

import hashlib
import json
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from features.candidates import top_per_request
from features.errors import BlockedError, ConfigError, ContractError
from features.requests import requests_tonight
from features.schemas import Rankings
from features.timeline import EventLog, batch_day, date_of
from pipelines.bundle import Bundle
from pipelines.chain import Chain
from pipelines.check import Inputs
from pipelines.config import TABLES, Config
from pipelines.progress import say, task
from pipelines.publish import Attempt
from pipelines.versions import working_config
from ranker.explain import reasons
from ranker.ranker import Ranker

__all__ = ["Night", "score"]

Night = dict[str, Any]
"""What a night reports: date, version, attempt, users, rows, shards_written, texts_encoded, published."""


def score(inputs: Inputs, config: Config, *, when: date, version: str, bundle: Bundle, dry_run: bool = False) -> Night:
    """Rank every user as of the cut-off that opens a day, and publish.

    The same date, version, configuration and input files make the same attempt folder: a rerun finds its shards,
    writes what is missing, and moves the pointer only if it is not there yet.

    Args:
        inputs: The checked tables.
        config: Today's configuration.
        when: The day that the rankings are for.
        version: Name of the version, as the rankings carry it.
        bundle: The version.
        dry_run: Say what would be done, and write nothing.

    Raises:
        ConfigError: The version ranks at request time, or re-ranks given lists and none are configured.
        BlockedError: The log has nothing before the day, or ends long before it.
        ContractError: What would be published breaks the rankings' contract.
    """
    own = working_config(config, bundle)
    _refuse_unanswerable(own, version)
    day = batch_day(when)
    log = inputs.log.before(day)
    _refuse_stale(inputs.log, day, config)
    users = _users(inputs, log)
    shards = [users.slice(start, own.night.shard_users) for start in range(0, len(users), own.night.shard_users)]
    attempt = Attempt(Path(config.output) / "rankings", f"{when}-{_identity(inputs, own, when, version, bundle)}")
    facts: Night = {"date": str(when), "version": version, "users": len(users), "shards": len(shards)}
    if dry_run:
        return {**facts, "attempt": str(attempt.folder), "dry_run": True}
    parts = [f"shard-{number:05d}" for number in range(len(shards))]
    missing = [number for number, part in enumerate(parts) if not attempt.has(part)]
    written, encoded = 0, 0
    has_fallback = attempt.has("fallback")
    if missing or not has_fallback:
        chain = Chain(log, own, bundle.model, bundle.features.supply, cut=bundle.cut)
        encoded = chain.encoded["tuned"]
        unlisted = 0
        with task("Ranking users", sum(len(shards[number]) for number in missing), "users") as advance:
            for number in missing:
                rankings = _rank(chain, own, shards[number], day, version, bundle)
                attempt.write(parts[number], rankings)
                unlisted += len(shards[number]) - rankings["user_id"].n_unique()
                written += 1
                advance(len(shards[number]))
        if unlisted:
            say("users without candidates get no list", users=unlisted)
        if not has_fallback:
            attempt.write("fallback", _fallback(chain, own, day, version, bundle.ranker))
    attempt.finish([*parts, "fallback"], {**facts, "bundle": bundle.digest, "data": dict(inputs.fingerprints)})
    manifest = attempt.verify()
    moved = attempt.publish()
    return {
        **facts,
        "attempt": str(attempt.folder),
        "rows": sum(told["rows"] for part, told in manifest["parts"].items() if part != "fallback"),
        "shards_written": written,
        "texts_encoded": encoded,
        "pointer_moved": moved,
    }


def _users(inputs: Inputs, log: EventLog) -> pl.Series:
    """Codes of all users who have an event before the day or a row in `Users`, ascending."""
    coded = log.active_users
    if "users" in inputs.tables:
        listed = inputs.tables["users"].good["user_id"].cast(log.user_ids.dtype)
        codes = log.user_ids.to_frame("user_id").with_row_index("user")
        coded = pl.concat([coded, codes.filter(pl.col("user_id").is_in(listed.implode()))["user"]]).unique()
    return coded.sort()


def _rank(chain: Chain, config: Config, users: pl.Series, day: int, version: str, bundle: Bundle) -> pl.DataFrame:
    """The published rows of some users."""
    ranker, most = bundle.ranker, config.night.reasons
    requests = requests_tonight(users, day)
    parts = []
    for portion in chain.assembler.portions(requests):
        rows = chain.with_interest(portion)
        scored = rows.select("request", "user", "item").with_columns(pl.Series("score", ranker.predict(rows)))
        best = top_per_request(scored.with_row_index("row"), config.night.top)
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
        raise ContractError(f"rankings: {failure.counts()} rows break the contract; nothing was published.")
    return good.with_columns(best["reasons"]) if most else good


def _fallback(chain: Chain, config: Config, day: int, version: str, ranker: Ranker) -> pl.DataFrame:
    """The list for a user that nobody has seen: what the same ranker makes of no history at all."""
    nobody = pl.Series([chain.log.user_ids.len()], dtype=pl.UInt32)
    rows = chain.with_interest(chain.assembler.portion(requests_tonight(nobody, day)))
    scored = rows.select("request", "user", "item").with_columns(pl.Series("score", ranker.predict(rows)))
    best = top_per_request(scored, config.night.top)
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


def _refuse_stale(log: EventLog, day: int, config: Config) -> None:
    last = log.before(day).latest_day
    if last is None:
        raise BlockedError(
            f"no event lies before the cut-off of {date_of(day)}; the log starts on {date_of(log.first_day)}."
        )
    behind = day - 1 - last
    if behind > config.night.max_days_behind:
        raise BlockedError(
            f"the latest event before {date_of(day)} is of {date_of(last)}, {behind} days short of the eve; "
            f"night.max_days_behind allows {config.night.max_days_behind}. Deliver the missing extracts, or raise it."
        )


def _identity(inputs: Inputs, config: Config, when: date, version: str, bundle: Bundle) -> str:
    """Hash of everything that decides what is published."""
    resolved = config.resolved()
    for table in TABLES:
        if resolved["data"][table] is not None:
            resolved["data"][table].pop("path")
    resolved["features"].pop("max_memory_gb")  # it decides how, not what
    for aside in ("output", "tracking", "promotion", "evaluation"):
        resolved.pop(aside)
    told = [str(when), version, bundle.digest, dict(inputs.fingerprints), resolved]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
