"""Verb `train`: fine-tune prequentially, train the rankers, judge every system, keep it all as one bundle."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np
import polars as pl
from torch import Tensor

from encoders.data import Examples
from encoders.embed import is_out_of_memory
from encoders.fit import fit_block, recomputed
from encoders.interest import FINE_TUNED, ZERO_SHOT
from encoders.model import LEAST_AGREEMENT, InterestModel
from encoders.tokenize import TokenisedTexts
from features.candidates import SOURCES, TEXT_SOURCES, histories
from features.errors import ContractError, TryAgainError
from features.families.registry import short_windows
from features.schemas import TrainingTable
from features.split import Span, Split
from features.timeline import EventLog, date_of
from pipelines.chain import Catalogue, Chain, store_vectors
from pipelines.config import Config
from pipelines.features import plan_of
from pipelines.progress import say, task
from pipelines.requests import requests_summary
from ranker.lambdamart import LambdaMart
from ranker.metrics import per_request

__all__ = ["Labelled", "Trained", "found_by_behaviour", "label", "train"]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Requests with their rows and what turned out true.

    Attributes:
        requests: request, user, as_of_day, and what logged requests have beside.
        truth: request, item, label, is_new: every positive, retrieved or not.
        rows: Candidates with features, label (0 for none), encoder_digest and encoder_day (its cut-off).
        given: Whether the candidates are lists that were given, and not what generators found.
    """

    requests: pl.DataFrame
    truth: pl.DataFrame
    rows: pl.DataFrame
    given: bool = False


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
        losses: Loss of every step of each block.
        chain: The chain under the final model.
        valid_ndcg: Validation NDCG@10 of the interest score after each block.
    """

    model: InterestModel
    ranker: LambdaMart
    behaviour_ranker: LambdaMart
    pooling: str
    split: Split
    encoder_day: int
    ranker_day: int
    chain: Chain
    losses: list[list[float]] = field(default_factory=list)
    valid_ndcg: list[float] = field(default_factory=list)

    def cutoff(self) -> datetime:
        """Instant before which everything lies that this version has seen."""
        return self.chain.log.calendar.as_of(self.ranker_day)


def train(log: EventLog, config: Config) -> Trained:
    """Train both models over the log's blocks.

    Raises:
        ConfigError: The log is shorter than the timeline.
        ContractError: No request has a positive, or a leak check fails.
    """
    split = Split.of(log, config.timeline, config.labels)
    model = InterestModel.start(config.encoder)
    catalogue = Catalogue.of(log, config.data.items.text)
    tokenised = model.tokenise(catalogue.texts)
    _settle_precision(model, tokenised, config)
    with (
        task("Reading texts (frozen layers)", len(catalogue.texts), "texts") as advance,
        _room(model.hidden_bytes(tokenised), config) as file,
    ):
        lower = model.read_lower(tokenised, progress=advance, file=file)
    with task("Reading texts (upper layers)", len(catalogue.texts), "texts") as advance:
        pooled = model.pool("zero_shot", tokenised, lower=lower, progress=advance)
    store_vectors(config, model, "zero_shot", catalogue, model.project("zero_shot", pooled))
    supply = plan_of(log.before(split.test.start), config).supply
    chain = Chain(log, config, model, supply)
    _warn_of_short_windows(chain, split)
    for facts in requests_summary(chain.asked).values():
        say("logged requests", **facts)
    losses: list[list[float]] = []
    valid_ndcg: list[float] = []
    lesson = label(
        chain,
        config,
        _latest(chain, split.warm_up, config),
        name="Preparing the warm-up",
        encoder_day=split.warm_up.start,
    )
    chain.fit_cut(lesson.requests, lesson.truth)
    fitted = lesson.rows.clear()
    for number, block in enumerate((*split.blocks, split.valid)):
        examples = Examples.of(
            lesson.requests,
            histories(log, lesson.requests, config.candidates),
            lesson.rows,
            catalogue.text_of_item,
            config.encoder,
        )
        del lesson  # its rows, hundreds of MiB: before the next block's are made
        losses.append(_fit(model, examples, tokenised, lower, pooled, config, number))
        pooled = model.pool("tuned", tokenised, lower=lower)
        store_vectors(config, model, "tuned", catalogue, model.project("tuned", pooled))
        chain.refresh()
        name = f"Scoring block {number + 1}" if block is not split.valid else "Scoring validation"
        lesson = label(chain, config, block, name=name, encoder_day=block.start)
        valid_ndcg.append(_ndcg(lesson, FINE_TUNED))
        say(name, requests=lesson.requests.height, new_to_user_ndcg_at_10=round(valid_ndcg[-1], 4))
        if block is not split.valid:
            fitted = _recent(fitted, lesson.rows, most=config.ranker.max_requests)
    del lower, pooled  # room for the rankers' tables
    _check_no_leak(log, fitted)
    pooling = max(ZERO_SHOT, key=lambda pooling: _ndcg(lesson, pooling))
    valid = lesson.rows
    ranker = _rank("full ranker", chain.features, fitted, valid, config)
    if not lesson.given:
        fitted, valid = found_by_behaviour(fitted), found_by_behaviour(valid)
    behaviour_ranker = _rank("behaviour-only ranker", chain.behaviour_features, fitted, valid, config)
    return Trained(
        model=model,
        ranker=ranker,
        behaviour_ranker=behaviour_ranker,
        pooling=pooling,
        split=split,
        encoder_day=split.valid.start,
        ranker_day=split.test.start,
        chain=chain,
        losses=losses,
        valid_ndcg=valid_ndcg,
    )


def _settle_precision(model: InterestModel, tokenised: TokenisedTexts, config: Config) -> None:
    """Leave bfloat16 to float32 where `auto` chose it and the catalogue's vectors do not bear it."""
    if config.encoder.precision == "auto" and model.bf16:
        cosine = model.agreement(tokenised)
        model.bf16 = cosine >= LEAST_AGREEMENT
        say("precision", bf16=model.bf16, least_cosine_to_fp32=round(cosine, 6))


@contextmanager
def _room(size: int, config: Config) -> Iterator[IO[bytes] | None]:
    """None where so many bytes may stay in memory, else a file without a name, which goes with its last user."""
    if size <= config.encoder.cache_gb * 1e9:
        yield None
        return
    folder = Path(config.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as file:
            yield file
    except OSError as error:
        raise TryAgainError(
            f"{folder} cannot hold {size / 1e9:.1f} GB of hidden states ({error.strerror}). Free the disk, or allow "
            "more memory (encoder.cache_gb)."
        ) from error


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
    told = truth.select("request", "item", "label")
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


def _rank(
    name: str, features: tuple[str, ...], fitted: pl.DataFrame, valid: pl.DataFrame, config: Config
) -> LambdaMart:
    """A ranker of labelled rows."""
    with task(f"Training the {name}", config.ranker.max_trees, "trees") as advance:
        return LambdaMart.fit(
            _taught_twice(fitted),
            _taught_twice(valid),
            features=features,
            config=config.ranker,
            seed=config.seed,
            report=lambda _, score: advance(1, note=f"ndcg@10 {score:.4f}"),
        )


def _fit(
    model: InterestModel,
    examples: Examples,
    tokenised: TokenisedTexts,
    lower: Sequence[Tensor],
    pooled: Tensor,
    config: Config,
    number: int,
) -> list[float]:
    """Train a block; where memory does not suffice, again from its start with less kept, to the same bits.

    Raises:
        TryAgainError: That does not suffice either.
    """
    steps = config.encoder.head_steps + config.encoder.steps if len(examples) else 0

    def fit() -> list[float]:
        with task(f"Fine-tuning, lesson {number + 1}", steps, "steps") as advance:
            return fit_block(
                model,
                examples,
                texts=tokenised,
                lower=lower,
                pooled=pooled,
                config=config.encoder,
                seed=config.seed * 1000 + number,
                report=lambda _, loss: advance(1, note=f"loss {loss:.3f}"),
            )

    before = model.weights()
    try:
        return fit()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    say("out of memory", lesson=number + 1, again="with the layers' inner values computed twice")
    model.restore(before)
    try:
        with recomputed(model.tuned.upper):
            return fit()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise TryAgainError(
            "memory does not suffice for a training batch. Free some, or make batches smaller: "
            "encoder.requests_per_batch, encoder.candidates_per_request or encoder.max_tokens."
        ) from error


def _ndcg(labelled: Labelled, column: str) -> float:
    """Mean NDCG@10 of one score on new-to-user items: what text is there for."""
    names = {"request": "request_id", "item": "item_id"}
    new = labelled.rows.filter(~(pl.col("pair_events_all") > 0))
    lists = new.select("request", "item", score=pl.col(column).fill_nan(-1e9).cast(pl.Float64)).rename(names)
    truth = labelled.truth.filter("is_new").select("request", "item", "label").rename(names)
    if truth.is_empty():
        return float("nan")
    return float(np.mean(per_request(lists, truth, cutoffs=(10,))["ndcg@10"].to_numpy()))


def _one_after_the_other(rows: pl.DataFrame, later: pl.DataFrame) -> pl.DataFrame:
    """Both, the later requests numbered on so that they stay apart."""
    offset = int(rows["request"].max() or 0) + 1  # type: ignore[arg-type]
    return pl.concat([rows, later.with_columns(pl.col("request") + pl.lit(offset, pl.UInt32))])


def _recent(rows: pl.DataFrame, later: pl.DataFrame, *, most: int) -> pl.DataFrame:
    """The rows of the `most` latest requests that have a positive among their candidates."""
    latest = _with_positive(later, most)
    return _one_after_the_other(_with_positive(rows, most - latest["request"].n_unique()), latest)


def _with_positive(rows: pl.DataFrame, most: int) -> pl.DataFrame:
    """The rows of the `most` latest requests that have a positive among their candidates."""
    useful = rows.filter(pl.col("label") > 0)["request"].unique().sort(descending=True).head(most)
    return rows.filter(pl.col("request").is_in(useful.implode()))


def _taught_twice(rows: pl.DataFrame) -> pl.DataFrame:
    """Each request as it is, and once more with what is new to the user alone.

    What a user had before fills the top of most lists, and with it the gradient; the second list is where the order of
    new items is learned.
    """
    new = rows.filter(~(pl.col("pair_events_all") > 0)).filter((pl.col("label").max() > 0).over("request"))
    return _one_after_the_other(rows, new)


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
