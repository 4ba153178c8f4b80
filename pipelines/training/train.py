"""Training: fine-tune the encoder block by block, score each block before it is learned, then train the rankers."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from encoders.data import Examples
from encoders.fit import BlockTraining
from encoders.interest import FINE_TUNED, ZERO_SHOT
from encoders.items import CodedItems
from encoders.model import InterestModel
from features.candidates.cut import CandidateCut
from features.candidates.recall import seen_items
from features.candidates.union import histories
from features.errors import ConfigError, ContractError, listed
from features.families.registry import short_windows
from features.log.event_log import EventLog, date_of
from features.log.inventory import FeatureInventory
from features.requests.engaged import NUMBERED
from features.requests.split import Span, Split
from features.tables.frames import PAIR, Requests, RowLabels
from features.tables.schemas import TrainingTable
from pipelines.base.config import Config
from pipelines.base.progress import say
from pipelines.stores.mapped import list_batches, picked
from pipelines.stores.rows import keep_rows, kept_rows
from pipelines.training.block_training import BlockTrainer, Watch
from pipelines.training.chain import Catalogue, Chain
from pipelines.training.draw import Quota, block_quotas, in_hash_order
from pipelines.training.feature_plan import plan_of
from pipelines.training.fitting import fit_ranker
from pipelines.training.labelled import (
    IS_NEW,
    Block,
    ExampleCollector,
    Labelled,
    Lists,
    behaviour_candidates,
    label,
    label_block,
    latest_lists,
)
from pipelines.training.memory import Memory
from pipelines.training.request_source import request_source, requests_summary
from pipelines.training.windows import refuse_unretrieved, refuse_unteachable
from ranker.metrics import per_request
from ranker.ranker import Ranker
from ranker.tables import with_ids

__all__ = [
    "VALID_NDCG",
    "Predecessor",
    "Trained",
    "best_pooling",
    "coded_items",
    "engaged_before",
    "ndcg_of_new_items",
    "refuse_unknown_features",
    "train",
    "validation",
]

VALID_NDCG = "encoder.new_to_user_ndcg_at_10"
"""Name of the tracked series: validation NDCG@10 on items new to the user, after each block."""

_SHARE = (0.2, 0.05)  # expected share of usable lists, whole and new ones, before any was seen; rather too low


@dataclass(frozen=True, slots=True)
class Predecessor:
    """A registered version that a training continues.

    Attributes:
        name: `model/number`.
        digest: sha256 of its bundle's manifest.
        model: Its interest model; is trained further in place.
        encoder_day: Day before which everything lies that its encoder saw.
        features: What its ranker reads, in the order of its feature manifest.
        inventory: What the log of its training had.
        cut: What its candidates are cut by.
        rows: What `pipelines.stores.rows.keep_rows` kept its ranker's rows under.
    """

    name: str
    digest: str
    model: InterestModel
    encoder_day: int
    features: tuple[str, ...]
    inventory: FeatureInventory
    cut: CandidateCut | None
    rows: str


@dataclass(slots=True)
class Trained:
    """The result of a training.

    Attributes:
        model: The interest model at the start of validation.
        ranker: The full ranker.
        behaviour_ranker: The ranker that sees no text.
        pooling: The best zero-shot pooling on validation.
        split: How the log was cut.
        encoder_day: Day before which everything lies that the encoder saw.
        ranker_day: The same for the whole version: labels up to the end of validation chose its trees.
        block_trainings: What came of fine-tuning on each block.
        chain: The chain under the final model.
        rows: What `pipelines.stores.rows.keep_rows` kept the ranker's rows under.
        continues: The version that it went on from, None where it began from the pretrained encoder.
        valid_ndcg: Validation NDCG@10 of the interest score after each block.
    """

    model: InterestModel
    ranker: Ranker
    behaviour_ranker: Ranker
    pooling: str
    split: Split
    encoder_day: int
    ranker_day: int
    chain: Chain
    rows: str
    continues: Predecessor | None = None
    block_trainings: list[BlockTraining] = field(default_factory=list)
    valid_ndcg: list[float] = field(default_factory=list)

    def cutoff(self) -> datetime:
        """Instant before which everything lies that this version has seen."""
        return self.chain.log.calendar.as_of(self.ranker_day)

    def lineage(self) -> dict[str, Any]:
        """The version it went on from, and NDCG@10 on requests of before, before and after each block; or nothing."""
        if self.continues is None:
            return {}
        old = [[training.old_before, training.old_after] for training in self.block_trainings]
        return {"continues": self.continues.name, "earlier_requests_ndcg_at_10": old}


@dataclass(slots=True)
class _Begun:
    """The state of a training before its first block.

    Attributes:
        split: How the log was cut.
        trainer: Takes the model from block to block.
        chain: The chain under the model as it stands.
        examples: What the model learns first.
        lists: What the ranker learns of the time before `split.blocks`.
        quotas: Lists that each of `split.blocks` is to give.
        share: Of requests with a positive, and with a new one, those that have it among their candidates.
    """

    split: Split
    trainer: BlockTrainer
    chain: Chain
    examples: Examples
    lists: list[Lists]
    quotas: list[Quota]
    share: tuple[float, float]


def train(
    log: EventLog, config: Config, watch: Watch | None = None, *, continues: Predecessor | None = None
) -> Trained:
    """Train both models over the log's blocks.

    Args:
        log: The event log.
        config: Everything configured.
        watch: Called with the encoder's losses and checks as they grow (`pipelines.registry.tracking.Run.series`).
        continues: Go on from this version's encoder: the days that it has not learned are the next block (several, if
            they are many), scored by it, then learned; the ranker learns from its rows and theirs.

    Raises:
        ConfigError: The log is shorter than the timeline, or the configuration names what is not there; or nothing in
            the log is new to the version, or its rows are not there.
        ContractError: No request has a positive, a leak check fails, or the version is of another log, or of other
            features.
        IntegrityError: The version's rows were altered.
    """
    memory = Memory.of(log, config)  # refuses before anything is read
    if continues is None:
        begun = _from_start(log, config, memory, watch)
    else:
        begun = _from_version(log, config, memory, watch, continues)
    split, trainer, chain = begun.split, begun.trainer, begun.chain
    examples, lists = begun.examples, begun.lists
    encoder_day = split.warm_up.start if continues is None else continues.encoder_day
    prequential = config.encoder.schedule == "prequential"
    valid_ndcg: list[float] = []
    scored = None
    for number, (block, quota) in enumerate(zip((*split.blocks, split.valid), (*begun.quotas, None), strict=True)):
        if number == 0 or prequential:
            chain.refresh(trainer.teach(examples, coded_items(chain, block.start)))
            encoder_day = block.start
        if quota is None:
            labelled = validation(chain, config, block, encoder_day)
        else:
            collector = ExampleCollector(chain) if prequential else None
            name = f"Scoring block {number + 1}"
            scored = label_block(
                chain, config, block, quota, begun.share, name=name, encoder_day=encoder_day, collector=collector
            )
            _report(name, scored)
            labelled = scored.labelled
            lists.append(scored.lists)
            if scored.examples is not None:
                examples = scored.examples
        valid_ndcg.append(ndcg_of_new_items(labelled, FINE_TUNED))
        if watch is not None:
            watch(VALID_NDCG, valid_ndcg)
    trainer.end()
    fitted = latest_lists(lists, _most_lists(chain), config)
    del begun, scored, lists, examples  # what the rankers do not need
    _check_no_leak(log, fitted)
    rows = keep_rows(fitted, log, config)
    pooling = best_pooling(labelled)
    valid = labelled.rows
    ranker = fit_ranker("full ranker", chain.features, fitted, valid, config)
    if not labelled.logged_lists:
        fitted, valid = (picked(some, behaviour_candidates, config) for some in (fitted, valid))
    behaviour_ranker = fit_ranker("behaviour-only ranker", chain.behaviour_features, fitted, valid, config)
    trainer.forget()
    return Trained(
        model=chain.model,
        ranker=ranker,
        behaviour_ranker=behaviour_ranker,
        pooling=pooling,
        split=split,
        encoder_day=encoder_day,
        ranker_day=split.test.start,
        chain=chain,
        rows=rows,
        continues=continues,
        block_trainings=trainer.trainings,
        valid_ndcg=valid_ndcg,
    )


def _report(name: str, block: Block) -> None:
    """A progress line on how much of a block was computed, and how well the interest score ranks its new items."""
    say(
        name,
        requests=block.labelled.requests.height,
        of=block.requests,
        lists=block.usable.whole,
        lists_of_new_items=block.usable.new,
        taught=None if block.examples is None else len(block.examples),
        new_to_user_ndcg_at_10=round(ndcg_of_new_items(block.labelled, FINE_TUNED), 4),
    )


def validation(chain: Chain, config: Config, span: Span, encoder_day: int) -> Labelled:
    """The labelled validation window, by which rankers stop early, and a progress line with its size."""
    name, most = "Scoring validation", config.validation.max_requests
    labelled = label(chain, config, span, name=name, encoder_day=encoder_day, most=most)
    ndcg = round(ndcg_of_new_items(labelled, FINE_TUNED), 4)
    say(name, requests=labelled.requests.height, of=labelled.in_window, new_to_user_ndcg_at_10=ndcg)
    return labelled


def best_pooling(labelled: Labelled) -> str:
    """The pooling of `encoders.interest.ZERO_SHOT` that ranks new items best by NDCG@10; of equals the first."""
    return max(ZERO_SHOT, key=lambda pooling: ndcg_of_new_items(labelled, pooling))


def _from_start(log: EventLog, config: Config, memory: Memory, watch: Watch | None) -> _Begun:
    """Begin with the pretrained encoder: it learns the warm-up first, on which the candidate cut is fitted too."""
    split = Split.of(log, config.timeline, config.labels)
    refuse_unteachable(log, config, split)
    inventory = plan_of(log.before(split.test.start), config).inventory
    queries = config.requests.mode == "online" and inventory.has(["events.query"])
    model = InterestModel.start(config.encoder, event_types=event_types_with_prior(inventory, config), queries=queries)
    catalogue = Catalogue.of(log, config.data.items.text)
    if queries:
        learned = request_source(log, config).between(split.warm_up.start, split.valid.start)
        catalogue = catalogue.with_queries(learned)
    if config.encoder.item_embeddings is not None:
        model.embed_items(config.encoder.item_embeddings, log.items, engaged_before(log, split.valid.start))
    trainer = BlockTrainer(model, catalogue, config, watch, memory=memory)
    chain = Chain(log, config, model, inventory, catalogue=catalogue)
    _warn_of_short_windows(chain, split)
    refuse_unknown_features(chain.features, config)
    for facts in requests_summary(chain.request_source).values():
        say("logged requests", **facts)
    requests = _latest(chain, split.warm_up, config)
    truth = chain.request_source.truth(requests)
    examples, share = _warm_up(chain, requests, truth)
    chain.fit_cut(requests, truth)
    refuse_unretrieved(chain, split)
    quotas = _planned(chain, split.blocks, share)
    return _Begun(split, trainer, chain, examples, [], quotas, share)


def _warm_up(chain: Chain, requests: pl.DataFrame, truth: pl.DataFrame) -> tuple[Examples, tuple[float, float]]:
    """The encoder's examples of the warm-up, and the share of requests with their positive among the candidates.

    The share has two parts: of requests with a positive, and of those with a positive that is new to the user.
    """
    collector = ExampleCollector(chain)
    with_positive = requests.join(truth.select("request").unique(), on="request", how="semi", maintain_order="left")
    _, usable = collector.add_candidates(with_positive, truth, name="Preparing the warm-up")
    of = Quota(with_positive.height, truth.filter("is_new")["request"].n_unique())
    share = (
        usable.whole / of.whole if of.whole else _SHARE[0],
        usable.new / of.new if of.new else _SHARE[1],
    )
    return collector.examples(), share


def _planned(chain: Chain, blocks: Sequence[Span], share: tuple[float, float]) -> list[Quota]:
    """How many lists the ranker wants of each block, planned from the numbers of requests with a positive."""
    wanted, most = chain.config.ranker.max_requests, _most_lists(chain)
    if most < wanted:
        say("max_memory_gb lets the ranker learn from fewer lists", whole_lists=most, ranker_max_requests=wanted)
    sizes = []
    for block in blocks:
        truth = chain.request_source.truth(chain.request_source.between(block.start, block.closed_end))
        sizes.append(Quota(truth["request"].n_unique(), truth.filter("is_new")["request"].n_unique()))
    return block_quotas(most, sizes, share)


def _most_lists(chain: Chain) -> int:
    """How many whole lists the ranker may learn from, at most what memory allows."""
    return chain.memory.lists(len(chain.features))


def _from_version(log: EventLog, config: Config, memory: Memory, watch: Watch | None, version: Predecessor) -> _Begun:
    """Begin with a version's encoder, cut and kept rows: the days it has not learned are scored first, then learned."""
    split = Split.of(log, config.timeline, config.labels).after(version.encoder_day)
    refuse_unteachable(log, config, split, continues=True)
    # NOTE: what a version with `schedule: holdout` scored after its encoder's last day is scored and learned anew.
    learned = pl.col("as_of_day") < version.encoder_day
    old = picked(kept_rows(version.rows, log, config), lambda some: some.filter(learned), config)
    requests = old.select(Requests.column_names()).unique(maintain_order=True).tail(config.encoder.max_requests)
    catalogue = Catalogue.of(log, config.data.items.text)
    past = _reminders(log, config, version, catalogue, requests, old)
    trainer = BlockTrainer(version.model, catalogue, config, watch, past=past, memory=memory)
    chain = Chain(log, config, version.model, version.inventory, cut=version.cut, catalogue=catalogue)
    if chain.features != version.features:
        other = sorted({*chain.features} ^ {*version.features})
        raise ContractError(
            f"{version.name} learned from other features than this nightrank makes, or in another order "
            f"({listed(other)}). Train from the start, without --continue."
        )
    refuse_unknown_features(chain.features, config)
    blocks = (split.warm_up, *split.blocks)
    first, *quotas = _planned(chain, blocks, _SHARE)
    collector = ExampleCollector(chain)
    name, day = "Scoring what is new", version.encoder_day
    scored = label_block(chain, config, split.warm_up, first, _SHARE, name=name, encoder_day=day, collector=collector)
    _report(name, scored)
    assert scored.examples is not None  # a collector was passed
    lists = [Lists.latest_first(old), scored.lists]
    return _Begun(split, trainer, chain, scored.examples, lists, quotas, _SHARE)


def _reminders(
    log: EventLog,
    config: Config,
    version: Predecessor,
    catalogue: Catalogue,
    requests: pl.DataFrame,
    rows: pl.DataFrame,
) -> Examples:
    """Training examples of earlier requests, made of the rows that a version kept; they are replayed."""
    history = histories(log, requests, config.candidates, version.model.event_types)
    few = rows.lazy().select(*PAIR, "label", FINE_TUNED)
    kept = few.filter(pl.col("request").is_in(requests["request"].implode())).collect()
    by_item = version.model.item_embeddings is not None
    units = np.arange(log.items.height) if by_item else catalogue.text_of_item
    return Examples.of(catalogue.placed(requests, by_item=by_item), history, kept, units, config.encoder)


def refuse_unknown_features(features: Sequence[str], config: Config) -> None:
    """Refuse names in `ranker.monotone` that are no features.

    Raises:
        ConfigError: It does; the nearest feature is named.
    """
    unknown = sorted(set(config.ranker.monotone) - set(features))
    if unknown:
        near = difflib.get_close_matches(unknown[0], features, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "features.json of a version lists the names."
        raise ConfigError(f"ranker.monotone names what is no feature: {listed(unknown)}. {hint}")


def event_types_with_prior(inventory: FeatureInventory, config: Config) -> tuple[str, ...]:
    """Event types that get a learned prior in the user tower: those with a gain, if there are two or more."""
    counting = tuple(kind for kind in inventory.kinds if kind in config.labels.gains)
    return counting if len(counting) > 1 else ()


def engaged_before(log: EventLog, day: int) -> npt.NDArray[np.bool_]:
    """(items,) whether anybody engaged with the item before a day."""
    engaged = np.zeros(log.items.height, np.bool_)
    engaged[seen_items(log, day).to_numpy()] = True
    return engaged


def coded_items(chain: Chain, day: int) -> CodedItems | None:
    """Text and item codes of each position, for a block that ends before a day; None without item embeddings.

    An item that nobody engaged with by then gets id 0: an id of its own would reveal that somebody will.
    """
    model, log, catalogue = chain.model, chain.log, chain.catalogue
    if model.item_embeddings is None:
        return None
    code_UN = np.zeros((len(catalogue.text_of_unit), len(model.item_embeddings.tables)), np.int64)
    code_UN[: log.items.height] = model.item_embeddings.codes(log.items)
    if "item_id" in model.item_embeddings.vocabularies:
        code_UN[: log.items.height][~engaged_before(log, day), 0] = 0  # the id stands first
    return CodedItems(catalogue.text_of_unit, code_UN)


def _warn_of_short_windows(chain: Chain, split: Split) -> None:
    """Report the feature windows that are longer than the log before the first request, and when they fill up."""
    log, first = chain.log, split.blocks[0].start
    windows = short_windows(chain.assembler.plan, log.first_day, first)
    if windows:
        say(
            "windows reach before the data",
            windows_days=list(windows),
            first_event=str(date_of(log.first_day)),
            first_request=str(date_of(first)),
            whole_from=str(date_of(log.first_day + windows[-1])),
        )


def _latest(chain: Chain, span: Span, config: Config) -> pl.DataFrame:
    """The latest requests of a span, by whole days up to `encoder.max_requests`; of one larger day, a sample."""
    most = config.encoder.max_requests
    requests = chain.request_source.between(span.start, span.closed_end)
    daily = requests["as_of_day"].value_counts().sort("as_of_day", descending=True)
    kept = daily.filter(pl.col("count").cum_sum() <= most)["as_of_day"]
    first = kept.min() if len(kept) else daily["as_of_day"].max()
    days = pl.col("as_of_day") >= (span.start if first is None else first)
    latest = requests.filter(days).with_columns(NUMBERED)
    return latest if latest.height <= most else in_hash_order(latest, chain.log).head(most).sort("request")


def ndcg_of_new_items(labelled: Labelled, column: str) -> float:
    """Mean NDCG@10 of one score over the items that are new to the user, where text matters most.

    Args:
        labelled: Requests of a window. Only new items of each list are ranked; a positive outside the list is a miss.
        column: The score's column; NaN ranks last.

    Returns:
        The mean over requests with a new positive; NaN where there is none.
    """
    score = pl.col(column).fill_nan(-1e9).cast(pl.Float64)
    new = labelled.rows.lazy().filter(IS_NEW).select(*PAIR, score=score)
    lists = with_ids(new.collect())
    truth = with_ids(labelled.truth.filter("is_new").select(*PAIR, "label"))
    if truth.is_empty():
        return float("nan")
    return float(np.mean(per_request(lists, truth, cutoffs=(10,))["ndcg@10"].to_numpy()))


def _check_no_leak(log: EventLog, rows: pl.DataFrame) -> None:
    """Check the ranker's table against its contract: no row was scored by an encoder that saw the row's future.

    Raises:
        ContractError: One did.
    """
    for some in list_batches(rows, about=1_000_000):
        days = pl.concat([some["as_of_day"], some["encoder_day"]]).unique().sort()
        instants = pl.Series([log.calendar.as_of(day) for day in days], dtype=TrainingTable.as_of.dtype)
        table = with_ids(some.select(*PAIR, "as_of_day", *RowLabels.column_names())).with_columns(
            as_of=pl.col("as_of_day").replace_strict(days, instants),
            encoder_cutoff=pl.col("encoder_day").replace_strict(days, instants),
        )
        _, failure = TrainingTable.filter(table.select(TrainingTable.column_names()))
        if len(failure):
            raise ContractError(f"training table: {failure.counts()} rows break the contract.")
