"""Verb `train`: fine-tune prequentially, train the rankers, judge every system, keep it all as one bundle."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from encoders.data import Examples
from encoders.fit import Lesson
from encoders.interest import FINE_TUNED, ZERO_SHOT
from encoders.items import CodedItems
from encoders.model import InterestModel
from features.candidates import SOURCES, TEXT_SOURCES, histories
from features.cut import CandidateCut
from features.errors import ConfigError, ContractError, listed
from features.families.registry import short_windows
from features.families.supply import Supply
from features.recall import seen_items
from features.requests import VALUE_LABEL
from features.schemas import TrainingTable
from features.split import Span, Split
from features.timeline import EventLog, date_of
from pipelines.chain import Catalogue, Chain
from pipelines.config import Config
from pipelines.features import plan_of
from pipelines.lessons import Lessons, Watch
from pipelines.progress import say, task
from pipelines.requests import request_source, requests_summary
from pipelines.rows import keep_rows, kept_rows
from pipelines.windows import refuse_unretrieved, refuse_unteachable
from ranker.lambdamart import LambdaMart
from ranker.listnet_fit import fit_listnet, steps_of
from ranker.metrics import per_request
from ranker.ranker import Ranker

__all__ = [
    "VALID_NDCG",
    "Labelled",
    "Predecessor",
    "Trained",
    "fit_ranker",
    "found_by_behaviour",
    "label",
    "recent",
    "refuse_unknown_features",
    "train",
]

VALID_NDCG = "encoder.new_to_user_ndcg_at_10"
"""What the encoder's score reaches after each block, as it is tracked."""

_NEW_LISTS = 2  # lists of new items a whole one that the ranker learns from: they are half as long
_IS_NEW = ~(pl.col("pair_events_all") > 0)  # the user never had the item


@dataclass(frozen=True, slots=True)
class Labelled:
    """Requests with their rows and what turned out true.

    Attributes:
        requests: request, user, as_of_day, and what logged requests have beside.
        truth: request, item, label, is_new, perhaps `VALUE_LABEL`: every positive, retrieved or not.
        rows: Candidates with features, label (0 for none; by value where the truth has that), encoder_digest and
            encoder_day (its cut-off).
        given: Whether the candidates are lists that were given, and not what generators found.
    """

    requests: pl.DataFrame
    truth: pl.DataFrame
    rows: pl.DataFrame
    given: bool = False


@dataclass(frozen=True, slots=True)
class Predecessor:
    """A version that a training goes on from.

    Attributes:
        name: `model/number`.
        digest: sha256 of its bundle's manifest.
        model: Its interest model; is trained further in place.
        encoder_day: Day before which everything lies that its encoder saw.
        features: What its ranker reads, in the order of its feature manifest.
        supply: What the log of its training had.
        cut: What its candidates are cut by.
        rows: What `pipelines.rows.keep_rows` kept its ranker's rows under.
    """

    name: str
    digest: str
    model: InterestModel
    encoder_day: int
    features: tuple[str, ...]
    supply: Supply
    cut: CandidateCut | None
    rows: str


@dataclass(slots=True)
class Trained:
    """Everything a training made.

    Attributes:
        model: The interest model at the start of validation.
        ranker: The full ranker.
        behaviour_ranker: The ranker that sees no text.
        pooling: The best zero-shot pooling on validation.
        split: How the log was cut.
        encoder_day: Day before which everything lies that the encoder saw.
        ranker_day: The same for the whole version: labels up to the end of validation chose its trees.
        lessons: What came of fine-tuning on each block.
        chain: The chain under the final model.
        rows: What `pipelines.rows.keep_rows` kept the ranker's rows under.
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
    lessons: list[Lesson] = field(default_factory=list)
    valid_ndcg: list[float] = field(default_factory=list)

    def cutoff(self) -> datetime:
        """Instant before which everything lies that this version has seen."""
        return self.chain.log.calendar.as_of(self.ranker_day)

    def lineage(self) -> dict[str, Any]:
        """The version it went on from, and NDCG@10 on requests of before, before and after each lesson; or nothing."""
        if self.continues is None:
            return {}
        old = [[lesson.old_before, lesson.old_after] for lesson in self.lessons]
        return {"continues": self.continues.name, "earlier_requests_ndcg_at_10": old}


@dataclass(slots=True)
class _Begun:
    """A training before its first lesson.

    Attributes:
        split: How the log was cut.
        lessons: Takes the model from block to block.
        chain: The chain under the model as it stands.
        catalogue: The texts, and the queries that are learned from.
        lesson: What the model learns first.
        fitted: What the ranker learns of the time before `split.blocks`.
    """

    split: Split
    lessons: Lessons
    chain: Chain
    catalogue: Catalogue
    lesson: Labelled
    fitted: pl.DataFrame


def train(
    log: EventLog, config: Config, watch: Watch | None = None, *, continues: Predecessor | None = None
) -> Trained:
    """Train both models over the log's blocks.

    Args:
        log: The event log.
        config: Everything configured.
        watch: Told of the encoder's losses and measures while they come (`pipelines.tracking.Run.series`).
        continues: Go on from this version's encoder: the days that it has not learned are the next block (several, if
            they are many), scored by it, then learned; the ranker learns from its rows and theirs.

    Raises:
        ConfigError: The log is shorter than the timeline, or the configuration names what is not there; or nothing in
            the log is new to the version, or its rows are not there.
        ContractError: No request has a positive, a leak check fails, or the version is of another log, or of other
            features.
        IntegrityError: The version's rows were altered.
    """
    begun = _from_start(log, config, watch) if continues is None else _from_version(log, config, watch, continues)
    split, lessons, chain, lesson, fitted = begun.split, begun.lessons, begun.chain, begun.lesson, begun.fitted
    catalogue = begun.catalogue
    del begun  # it would keep what the loop lets go
    encoder_day = split.warm_up.start if continues is None else continues.encoder_day
    valid_ndcg: list[float] = []
    for number, block in enumerate((*split.blocks, split.valid)):
        if number == 0 or config.encoder.schedule == "prequential":
            examples, items = _examples(log, config, chain.model, catalogue, lesson, block.start)
            del lesson  # hundreds of MiB: before the next block's are made
            lessons.teach(examples, items)
            chain.refresh()
            encoder_day = block.start
        name = f"Scoring block {number + 1}" if block is not split.valid else "Scoring validation"
        lesson = label(chain, config, block, name=name, encoder_day=encoder_day)
        valid_ndcg.append(_ndcg(lesson, FINE_TUNED))
        if watch is not None:
            watch(VALID_NDCG, valid_ndcg)
        say(name, requests=lesson.requests.height, new_to_user_ndcg_at_10=round(valid_ndcg[-1], 4))
        if block is not split.valid:
            fitted = recent(fitted, lesson.rows, most=config.ranker.max_requests)
    lessons.end()
    _check_no_leak(log, fitted)
    rows = keep_rows(fitted, log, config)
    pooling = max(ZERO_SHOT, key=lambda pooling: _ndcg(lesson, pooling))
    valid = lesson.rows
    ranker = fit_ranker("full ranker", chain.features, fitted, valid, config)
    if not lesson.given:
        fitted, valid = found_by_behaviour(fitted), found_by_behaviour(valid)
    behaviour_ranker = fit_ranker("behaviour-only ranker", chain.behaviour_features, fitted, valid, config)
    lessons.forget()
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
        lessons=lessons.held,
        valid_ndcg=valid_ndcg,
    )


def _from_start(log: EventLog, config: Config, watch: Watch | None) -> _Begun:
    """From the pretrained encoder: the warm-up is learned first, and the cut of candidates is fitted on it."""
    split = Split.of(log, config.timeline, config.labels)
    refuse_unteachable(log, config, split)
    supply = plan_of(log.before(split.test.start), config).supply
    queries = config.requests.mode == "online" and supply.has(["events.query"])
    model = InterestModel.start(config.encoder, event_types=_told_apart(supply, config), queries=queries)
    catalogue = Catalogue.of(log, config.data.items.text)
    if queries:
        learned = request_source(log, config).between(split.warm_up.start, split.valid.start)
        catalogue = catalogue.with_queries(learned)
    if config.encoder.item_embeddings is not None:
        model.embed_items(config.encoder.item_embeddings, log.items, _engaged(log, split.valid.start))
    lessons = Lessons(model, catalogue, config, watch)
    chain = Chain(log, config, model, supply)
    _warn_of_short_windows(chain, split)
    refuse_unknown_features(chain.features, config)
    for facts in requests_summary(chain.asked).values():
        say("logged requests", **facts)
    span, name = _latest(chain, split.warm_up, config), "Preparing the warm-up"
    lesson = label(chain, config, span, name=name, encoder_day=split.warm_up.start)
    chain.fit_cut(lesson.requests, lesson.truth)
    refuse_unretrieved(chain, split)
    return _Begun(split, lessons, chain, catalogue, lesson, fitted=lesson.rows.clear())


def _from_version(log: EventLog, config: Config, watch: Watch | None, version: Predecessor) -> _Begun:
    """From a version's encoder, cut and rows: what it has not learned yet is scored by it, and learned first."""
    split = Split.of(log, config.timeline, config.labels).after(version.encoder_day)
    refuse_unteachable(log, config, split, continues=True)
    # NOTE: what a version with `schedule: holdout` scored after its encoder's last day is scored and learned anew.
    old = kept_rows(version.rows, log, config).filter(pl.col("as_of_day") < version.encoder_day)
    asked = old.select("request", "user", "as_of_day").unique(maintain_order=True).tail(config.encoder.max_requests)
    learned = Labelled(asked, old.clear(), old.filter(pl.col("request").is_in(asked["request"].implode())))
    catalogue = Catalogue.of(log, config.data.items.text)
    past, _ = _examples(log, config, version.model, catalogue, learned, version.encoder_day)
    lessons = Lessons(version.model, catalogue, config, watch, past=past)
    chain = Chain(log, config, version.model, version.supply, cut=version.cut)
    if chain.features != version.features:
        other = sorted({*chain.features} ^ {*version.features})
        raise ContractError(
            f"{version.name} learned from other features than this nightrank makes, or in another order "
            f"({listed(other)}). Train from the start, without --continue."
        )
    refuse_unknown_features(chain.features, config)
    name = "Scoring what is new"
    lesson = label(chain, config, split.warm_up, name=name, encoder_day=version.encoder_day)
    say(name, requests=lesson.requests.height, new_to_user_ndcg_at_10=round(_ndcg(lesson, FINE_TUNED), 4))
    fitted = recent(old, lesson.rows, most=config.ranker.max_requests)
    return _Begun(split, lessons, chain, catalogue, lesson, fitted)


def _examples(
    log: EventLog, config: Config, model: InterestModel, catalogue: Catalogue, lesson: Labelled, day: int
) -> tuple[Examples, CodedItems | None]:
    """What labelled rows teach the encoder, by a day, and what positions in that mean where items are told apart."""
    history = histories(log, lesson.requests, config.candidates, model.event_types)
    items = _coded(model, log, catalogue, day)
    asked = catalogue.placed(lesson.requests, by_item=items is not None)
    unit_of_item = catalogue.text_of_item if items is None else np.arange(log.items.height)
    return Examples.of(asked, history, lesson.rows, unit_of_item, config.encoder), items


def refuse_unknown_features(features: Sequence[str], config: Config) -> None:
    """Stop where `ranker.monotone` names what is no feature.

    Raises:
        ConfigError: It does; the nearest feature is named.
    """
    unknown = sorted(set(config.ranker.monotone) - set(features))
    if unknown:
        near = difflib.get_close_matches(unknown[0], features, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "features.json of a version lists the names."
        raise ConfigError(f"ranker.monotone names what is no feature: {listed(unknown)}. {hint}")


def _told_apart(supply: Supply, config: Config) -> tuple[str, ...]:
    """Event types that the user tower tells apart: those that count, where there are several."""
    counting = tuple(kind for kind in supply.kinds if kind in config.labels.gains)
    return counting if len(counting) > 1 else ()


def _engaged(log: EventLog, day: int) -> npt.NDArray[np.bool_]:
    """(items,) with which of them users engaged before a day."""
    engaged = np.zeros(log.items.height, np.bool_)
    engaged[seen_items(log, day).to_numpy()] = True
    return engaged


def _coded(model: InterestModel, log: EventLog, catalogue: Catalogue, day: int) -> CodedItems | None:
    """What positions mean in a lesson that ends before a day; None where items are not told apart.

    An item that nobody engaged with by then has no id: else having one would tell that somebody will.
    """
    if model.item_embeddings is None:
        return None
    code_UN = np.zeros((len(catalogue.text_of_unit), len(model.item_embeddings.tables)), np.int64)
    code_UN[: log.items.height] = model.item_embeddings.codes(log.items)
    if "item_id" in model.item_embeddings.vocabularies:
        code_UN[: log.items.height][~_engaged(log, day), 0] = 0  # the id stands first
    return CodedItems(catalogue.text_of_unit, code_UN)


def _warn_of_short_windows(chain: Chain, split: Split) -> None:
    """Say once which windows reach before the first event, and from when on they are whole."""
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


def label(chain: Chain, config: Config, span: Span, *, name: str, encoder_day: int) -> Labelled:
    """Rows and truth of a span's requests, under the chain's present model.

    Args:
        chain: The chain.
        config: Candidates.
        span: Days of requests; only those whose labels have closed are taken.
        name: What progress is called.
        encoder_day: Day before which everything lies that the present model has seen.
    """
    requests = chain.asked.between(span.start, span.closed_end)
    truth = chain.asked.truth(requests)
    learned = VALUE_LABEL if VALUE_LABEL in truth.columns else "label"
    told = truth.select("request", "item", label=learned)
    encoder = {"encoder_digest": pl.lit(chain.digest), "encoder_day": pl.lit(encoder_day, pl.Int32)}
    # NOTE: portion by portion, since a join of them all would hold every row twice.
    rows = pl.concat(
        rows.join(told, on=["request", "item"], how="left", maintain_order="left").with_columns(
            pl.col("label").fill_null(0), **encoder
        )
        for rows in chain.rows(requests, name=name)
    )
    return Labelled(requests, truth, rows, config.candidates.source == "logged")


def _latest(chain: Chain, span: Span, config: Config) -> Span:
    """The last days of a span that hold about `encoder.max_requests` requests."""
    daily = (
        chain.asked.between(span.start, span.closed_end)["as_of_day"].value_counts().sort("as_of_day", descending=True)
    )
    kept = daily.filter(pl.col("count").cum_sum() <= config.encoder.max_requests)["as_of_day"]
    first = kept.min() if len(kept) else daily["as_of_day"].max()
    return Span(first if isinstance(first, int) else span.start, span.end, span.closed_end)


def fit_ranker(
    name: str, features: tuple[str, ...], fitted: pl.DataFrame, valid: pl.DataFrame, config: Config
) -> Ranker:
    """A ranker of labelled rows."""
    told, stop_at = config.ranker, config.evaluation.cutoffs[-1]
    fitted, valid = _taught_twice(fitted), _taught_twice(valid)
    with task(f"Training the {name}", told.max_trees, "trees") as advance:
        forest = LambdaMart.fit(
            fitted,
            valid,
            features=features,
            config=told,
            seed=config.seed,
            stop_at=stop_at,
            report=lambda _, score: advance(1, note=f"ndcg@{stop_at} {score:.4f}"),
        )
    network = None
    if told.learns_network:
        with task(f"Training the {name}'s network", steps_of(told, fitted), "steps") as advance:
            network = fit_listnet(
                fitted,
                features=features,
                config=told,
                seed=config.seed,
                report=lambda _, loss: advance(1, note=f"loss {loss:.3f}"),
            )
    ranker = Ranker.of(forest, network, valid, gain=told.gain, stop_at=stop_at)
    say(name, trees=forest.trees, network_share=ranker.share)
    return ranker


def _ndcg(labelled: Labelled, column: str) -> float:
    """Mean NDCG@10 of one score on new-to-user items: what text is there for."""
    names = {"request": "request_id", "item": "item_id"}
    new = labelled.rows.filter(_IS_NEW)
    lists = new.select("request", "item", score=pl.col(column).fill_nan(-1e9).cast(pl.Float64)).rename(names)
    truth = labelled.truth.filter("is_new").select("request", "item", "label").rename(names)
    if truth.is_empty():
        return float("nan")
    return float(np.mean(per_request(lists, truth, cutoffs=(10,))["ndcg@10"].to_numpy()))


def _one_after_the_other(rows: pl.DataFrame, later: pl.DataFrame) -> pl.DataFrame:
    """Both, the later requests numbered on so that they stay apart."""
    offset = int(rows["request"].max() or 0) + 1  # type: ignore[arg-type]
    return pl.concat([rows, later.with_columns(pl.col("request") + pl.lit(offset, pl.UInt32))])


def recent(rows: pl.DataFrame, later: pl.DataFrame, *, most: int) -> pl.DataFrame:
    """What a ranker learns from, old rows and later ones: the `most` latest lists, and twice as many of new items.

    A list is a request with a positive among its candidates; of one that is too old to be kept whole, what is new to
    the user is kept where that has a positive: those are few, and every one is worth having.
    """
    latest, whole, new = _latest_lists(later, most, _NEW_LISTS * most)
    older, _, _ = _latest_lists(rows, most - whole, _NEW_LISTS * most - new)
    return _one_after_the_other(older, latest)


def _latest_lists(rows: pl.DataFrame, whole: int, new: int) -> tuple[pl.DataFrame, int, int]:
    """Rows of the latest lists, and how many lists of both kinds that is."""
    positive = rows.filter(pl.col("label") > 0).select("request", is_new=_IS_NEW)
    of_all = positive["request"].unique().sort(descending=True).head(whole)
    of_new = positive.filter("is_new")["request"].unique().sort(descending=True).head(new)
    kept_whole, kept_new = (pl.col("request").is_in(some.implode()) for some in (of_all, of_new))
    kept = rows.filter(kept_whole | (kept_new & _IS_NEW))
    return kept, len(of_all), len(of_new)


def _taught_twice(rows: pl.DataFrame) -> pl.DataFrame:
    """Each request as it is, and once more with what is new to the user alone, where that is not all of it.

    What a user had before fills the top of most lists, and with it the gradient; the second list is where the order of
    new items is learned.
    """
    teaches = (pl.col("label").filter(_IS_NEW).max() > 0).over("request") & ~_IS_NEW.all().over("request")
    return _one_after_the_other(rows, rows.filter(teaches).filter(_IS_NEW))


def found_by_behaviour(rows: pl.DataFrame) -> pl.DataFrame:
    """The candidates that a generator without text proposed."""
    sources = [f"{source}_rank" for source in SOURCES if source not in TEXT_SOURCES]
    return rows.filter(pl.any_horizontal(pl.col(name).is_not_nan() for name in sources))


def _check_no_leak(log: EventLog, rows: pl.DataFrame) -> None:
    """Hold the ranker's table against its contract: no row's encoder ended after the row's as-of.

    Raises:
        ContractError: One did.
    """
    days = pl.concat([rows["as_of_day"], rows["encoder_day"]]).unique().sort()
    instants = pl.Series([log.calendar.as_of(day) for day in days], dtype=pl.Datetime("us", "UTC"))
    table = rows.select(
        pl.col("request").alias("request_id"),
        pl.col("item").alias("item_id"),
        "label",
        pl.col("as_of_day").replace_strict(days, instants).alias("as_of"),
        "encoder_digest",
        pl.col("encoder_day").replace_strict(days, instants).alias("encoder_cutoff"),
    )
    _, failure = TrainingTable.filter(table)
    if len(failure):
        raise ContractError(f"training table: {failure.counts()} rows break the contract.")
