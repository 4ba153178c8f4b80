"""The lists of a night: ranked shard by shard, and where a deadline passes the fallback list for everybody else."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from features.errors import ContractError
from features.log.event_log import EventLog
from features.requests.engaged import requests_tonight
from features.signals.top_k import top_k
from features.tables.schemas import Rankings
from pipelines.base.config import Config
from pipelines.base.progress import say, task
from pipelines.night.columns import ColumnSample
from pipelines.registry.bundle import Bundle
from pipelines.stores.publish import Attempt
from pipelines.stores.storage import read_parquet
from pipelines.training.chain import Chain
from ranker.explain import reasons

__all__ = ["FALLBACK", "Lists", "Written", "cut_short", "rank_users"]

FALLBACK = "fallback"
"""The part of an attempt that holds the list for users whom no night has seen."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was done for an attempt.

    Attributes:
        shards: How many shards were missing and written.
        texts: How many texts were encoded.
        late: The shards that the deadline left out.
    """

    shards: int
    texts: int
    late: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lists:
    """What the lists of a night are made by.

    Attributes:
        log: The log, ended at the day.
        config: What the night follows.
        day: The batch day.
        version: Name of the version.
        bundle: The version.
    """

    log: EventLog
    config: Config
    day: int
    version: str
    bundle: Bundle

    def write(self, attempt: Attempt, shards: Mapping[str, pl.Series], ends: datetime | None = None) -> Written:
        """Write what an attempt lacks: the fallback list, and then one shard of users after the other.

        Args:
            attempt: Where to.
            shards: Codes of the users of each part.
            ends: When no further shard is begun; None for never.
        """
        missing = {part: users for part, users in shards.items() if not attempt.has(part)}
        has_fallback = attempt.has(FALLBACK)
        if not missing and has_fallback:
            return Written(0, 0)
        chain = Chain(self.log, self.config, self.bundle.model, self.bundle.features.inventory, cut=self.bundle.cut)
        if not has_fallback:
            attempt.write(FALLBACK, self.fallback(chain))
        late: list[str] = []
        unlisted, sample = 0, ColumnSample(attempt, self.bundle.ranker.features)
        with task("Ranking users", sum(len(users) for users in missing.values()), "users") as advance:
            for part, users in missing.items():
                if ends is not None and datetime.now(UTC) >= ends:
                    late.append(part)
                    continue
                rankings = rank_users(chain, self.config, users, self.day, self.version, self.bundle, watch=sample.add)
                sample.keep()  # first, so that a kill in between leaves what an undisturbed night would
                attempt.write(part, rankings)
                unlisted += len(users) - rankings["user_id"].n_unique()
                advance(len(users))
        if unlisted:
            say("users without candidates get no list", users=unlisted)
        return Written(len(missing) - len(late), chain.encoded["tuned"], tuple(late))

    def fallback(self, chain: Chain) -> pl.DataFrame:
        """The list for unknown users: the same ranker's, for a user without any history."""
        nobody = pl.Series([chain.log.user_ids.len()], dtype=pl.UInt32)
        rows = chain.with_interest(chain.assembler.portion(requests_tonight(nobody, self.day)))
        scores = pl.Series("score", self.bundle.ranker.predict(rows))
        best = top_k(rows.select("request", "user", "item").with_columns(scores), self.config.night.top)
        return best.select(
            "rank",
            chain.log.items["item_id"].gather(best["item"]).alias("item_id"),
            "score",
            pl.lit(self.version).alias("model_version"),
        )


def rank_users(
    chain: Chain,
    config: Config,
    users: pl.Series,
    day: int,
    version: str,
    bundle: Bundle,
    *,
    watch: Callable[[pl.DataFrame], None] | None = None,
) -> pl.DataFrame:
    """The published rows of some users; `watch` sees the feature rows of each portion."""
    ranker, most = bundle.ranker, config.night.reasons
    requests = requests_tonight(users, day)
    parts = []
    for portion in chain.assembler.portions(requests):
        rows = chain.with_interest(portion)
        if watch is not None:
            watch(rows)
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
    good = _by_contract(rankings)
    return good.with_columns(best["reasons"]) if most else good


def _by_contract(rankings: pl.DataFrame) -> pl.DataFrame:
    """Rows to be published, in the types of their contract.

    Raises:
        ContractError: Some break it.
    """
    good, failure = Rankings.filter(rankings, cast=True)
    if len(failure):
        raise ContractError(
            f"rankings: {failure.counts()} rows break the contract, so nothing was published. Please report it."
        )
    return good


def cut_short(attempt: Attempt, shards: Mapping[str, pl.Series], late: Sequence[str], lists: Lists) -> Attempt:
    """An attempt beside one that a deadline ended: what was ranked, and the fallback list for all other users.

    Its name differs, so that the next run of the night finds the whole attempt unfinished, and publishes over this one.

    Args:
        attempt: The whole one, with some shards and the fallback list.
        shards: Codes of the users of each of its parts.
        late: The parts that it lacks.
        lists: What they would have been made by.
    """
    digest = hashlib.sha256(json.dumps([attempt.name, *late]).encode()).hexdigest()[:16]
    beside = Attempt(attempt.root, f"{attempt.day}-{digest}-cut-short")
    beside.drop_damaged([*shards, FALLBACK])
    fallback = read_parquet(attempt.folder / f"{FALLBACK}.parquet")
    for part in [*(part for part in shards if part not in late), FALLBACK]:
        if not beside.has(part):
            beside.write(part, read_parquet(attempt.folder / f"{part}.parquet"))
    for part in late:
        if not beside.has(part):
            users = lists.log.user_ids.gather(shards[part]).alias("user_id").to_frame()
            rows = _by_contract(users.join(fallback, how="cross", maintain_order="left_right"))
            if lists.config.night.reasons:
                rows = rows.with_columns(reasons=pl.lit([], pl.List(pl.String)))
            beside.write(part, rows)
    return beside
