"""Labelled requests: candidates with features and labels, for a window to judge or a block to learn from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from encoders.data import Examples
from encoders.interest import FINE_TUNED
from features.assemble import Portion
from features.candidates.catalog import behaviour_ranks
from features.requests.engaged import VALUE_LABEL
from features.requests.split import Span
from features.tables.frames import PAIR, CandidateRows, RowLabels
from pipelines.base.config import Config
from pipelines.stores.mapped import mapped, picked
from pipelines.training.chain import Chain
from pipelines.training.draw import Quota, Round, in_hash_order, whole_users
from ranker.groups import with_a_positive

__all__ = [
    "IS_NEW",
    "Block",
    "ExampleCollector",
    "Labelled",
    "Lists",
    "behaviour_candidates",
    "label",
    "label_block",
    "latest_lists",
    "one_after_the_other",
    "rows_of",
]

IS_NEW = ~(pl.col("pair_events_all") > 0)
"""Expression: the user has no event with the item before the as-of."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Requests with their candidate rows and their positives.

    Attributes:
        requests: `Requests`, or `LoggedLists`.
        truth: `Truth`, or `ValuedTruth`: every positive, retrieved or not.
        rows: `CandidateRows`, or `ShownRows`, with features, interest and `RowLabels`.
        logged_lists: Whether the candidates are the lists that the log showed, rather than what generators propose.
        left_out: The window's requests that were not drawn, of users none of whose requests were; None for none.
    """

    requests: pl.DataFrame
    truth: pl.DataFrame
    rows: pl.DataFrame
    logged_lists: bool = False
    left_out: pl.DataFrame | None = None

    @property
    def in_window(self) -> int:
        """How many requests the window has, drawn or not."""
        return self.requests.height + (0 if self.left_out is None else self.left_out.height)


def label(
    chain: Chain, config: Config, span: Span, *, name: str, encoder_day: int, most: int | None = None
) -> Labelled:
    """Rows and positives of a span's requests, under the chain's present model.

    Args:
        chain: The chain.
        config: Candidates.
        span: Days of requests; only those whose labels have closed are taken.
        name: What progress is called.
        encoder_day: Day before which everything lies that the present model has seen.
        most: Requests that suffice: whole users are drawn until there are so many; None takes all.
    """
    requests, left_out = whole_users(chain.request_source.between(span.start, span.closed_end), chain.log, most)
    truth = chain.request_source.truth(requests)
    rows = rows_of(chain, config, requests, truth, name=name, encoder_day=encoder_day)
    return Labelled(requests, truth, rows, config.candidates.source == "logged", left_out)


def rows_of(
    chain: Chain, config: Config, requests: pl.DataFrame, truth: pl.DataFrame, *, name: str, encoder_day: int
) -> pl.DataFrame:
    """`Labelled.rows` of some requests, in a file that is mapped into memory."""
    labels = _Labels.of(chain, truth, encoder_day)
    return mapped((labels.on(rows) for rows in chain.rows(requests, name=name)), config)


@dataclass(frozen=True, slots=True)
class _Labels:
    """Adds labels to rows, and the digest and cut-off of the encoder that scored them."""

    labels: pl.DataFrame
    encoder: dict[str, pl.Expr]

    @classmethod
    def of(cls, chain: Chain, truth: pl.DataFrame, encoder_day: int) -> "_Labels":
        encoder = {
            RowLabels.encoder_digest.name: pl.lit(chain.digest),
            RowLabels.encoder_day.name: pl.lit(encoder_day, RowLabels.encoder_day.dtype),
        }
        return cls(_learned(truth), encoder)

    def on(self, rows: pl.DataFrame) -> pl.DataFrame:
        return _with_labels(rows, self.labels).with_columns(**self.encoder)


def _learned(truth: pl.DataFrame, *further: str) -> pl.DataFrame:
    """`Pairs` of positives, further columns, and the label that is learned: by value where the truth has that."""
    return truth.select(*PAIR, *further, label=VALUE_LABEL if VALUE_LABEL in truth.columns else "label")


def _with_labels(rows: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Candidates with their labels, 0 for none."""
    joined = rows.join(labels, on=PAIR, how="left", maintain_order="left")
    return joined.with_columns(pl.col("label").fill_null(0))


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists that a ranker may learn from: requests with a positive among their candidates.

    Attributes:
        rows: As `Labelled.rows`; of some requests only what is new to the user.
        order: request, order: lists of lower order are kept first.
    """

    rows: pl.DataFrame
    order: pl.DataFrame

    @classmethod
    def latest_first(cls, rows: pl.DataFrame) -> "Lists":
        """Lists of rows whose requests are numbered in the order of time: the latest come first."""
        order = -pl.col("request").cast(pl.Int64)
        return cls(rows, rows.select(pl.col("request").unique()).select("request", order=order))

    def first(self, quota: Quota, config: Config) -> tuple[pl.DataFrame, Quota]:
        """Rows of the first lists of both kinds, and how many lists that is.

        Of a list beyond the quota of whole lists, the items that are new to the user are kept if one of them is
        positive and the quota of new lists is not full: such lists are rare.
        """
        positive = self.rows.lazy().select("request", "label", is_new=IS_NEW).filter(pl.col("label") > 0)
        usable = positive.group_by("request").agg(pl.col("is_new").any()).collect()
        usable = usable.join(self.order, on="request").sort("order", "request")
        whole = usable["request"].head(quota.whole)
        new = usable.filter("is_new")["request"].head(quota.new)
        used = Quota(len(whole), len(new))
        if len(whole) == self.rows["request"].n_unique():
            return self.rows, used
        kept_whole, kept_new = (pl.col("request").is_in(some.implode()) for some in (whole, new))
        kept = kept_whole | (kept_new & IS_NEW)
        return picked(self.rows, lambda rows: rows.filter(kept), config), used


def latest_lists(parts: Sequence[Lists], most: int, config: Config) -> pl.DataFrame:
    """The rows that a ranker learns from: the `most` latest lists, and twice as many of new items.

    Args:
        parts: Of spans of time one after the other.
        most: Whole lists.
        config: The output folder.

    Returns:
        Rows of all of them, the requests numbered on from part to part.
    """
    left, kept = Quota.of(most), []
    for part in reversed(parts):
        rows, used = part.first(left, config)
        kept.append(rows)
        left = left.less(used)
    return one_after_the_other(kept[::-1])


def one_after_the_other(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """All rows, requests of a later part numbered on so that they stay apart."""
    renumbered, first = [], 0
    for rows in parts:
        renumbered.append(rows.with_columns(pl.col("request") + pl.lit(first, CandidateRows.request.dtype)))
        first += int(rows["request"].max() or 0) + 1  # type: ignore[arg-type]
    return pl.concat(renumbered)


@dataclass(slots=True)
class ExampleCollector:
    """Collects training examples for the encoder, portion by portion of requests.

    Args:
        chain: The chain; its catalogue holds the queries that are learned from.
    """

    chain: Chain
    parts: list[Examples] = field(default_factory=list)

    def add(self, portion: Portion, rows: pl.DataFrame) -> int:
        """Add a portion with its labelled rows; returns how many of its requests give an example."""
        by_item = self.chain.model.item_embeddings is not None
        catalogue = self.chain.catalogue
        requests = catalogue.placed(portion.requests, by_item=by_item)
        units = np.arange(len(catalogue.text_of_item)) if by_item else catalogue.text_of_item
        made = Examples.of(requests, portion.history, rows, units, self.chain.config.encoder)
        self.parts.append(made)
        return len(made)

    def add_candidates(self, requests: pl.DataFrame, truth: pl.DataFrame, *, name: str) -> tuple[int, Quota]:
        """Add requests that only the encoder learns from: their candidates are made without features.

        Returns:
            How many give an example; how many lists have a positive, and how many a new one.
        """
        taught, usable = 0, Quota(0, 0)
        labels = _learned(truth, "is_new")
        for portion in self.chain.candidates(requests, name=name):
            rows = _with_labels(portion.rows, labels)
            if self.chain.config.encoder.hard_negatives:
                rows = rows.with_columns(self.chain.interest_of(portion)[FINE_TUNED])
            taught += self.add(portion, rows)
            usable = usable.plus(_usable(rows, pl.col("is_new")))
        return taught, usable

    def examples(self) -> Examples:
        """All examples that were added; none are of no requests, but have the right shapes."""
        if not self.parts:
            nothing = self.chain.assembler.candidates(self.chain.request_source.between(0, 0))
            self.add(nothing, nothing.rows.with_columns(label=pl.lit(0, pl.Int32)))
        joined = self.parts[0]
        for part in self.parts[1:]:
            joined = joined.joined(part)
        return joined


@dataclass(frozen=True, slots=True)
class Block:
    """A block of the ranker's days, as far as it was computed.

    Attributes:
        labelled: Requests that were drawn, with their truth; rows of those that have a positive among their candidates.
        lists: The same as lists that a ranker may learn from.
        examples: What the encoder learns of the block; None if it learns nothing.
        requests: How many the block has.
        usable: Lists of both kinds that were found.
    """

    labelled: Labelled
    lists: Lists
    examples: Examples | None
    requests: int
    usable: Quota


def label_block(
    chain: Chain,
    config: Config,
    span: Span,
    quota: Quota,
    share: tuple[float, float],
    *,
    name: str,
    encoder_day: int,
    collector: ExampleCollector | None,
) -> Block:
    """Compute the rows and examples of a block, under the chain's present model.

    Requests with a positive are drawn in the order of a hash, in rounds, until the quota of usable lists is full. A
    list is usable if a positive is among its candidates, which is known only once they are made. If the encoder wants
    more examples than that gave, further requests follow, with candidates but without features.

    Args:
        chain: The chain.
        config: Candidates, and what the encoder learns of a block.
        span: Days of the block; only requests whose labels have closed are taken.
        quota: Lists that the ranker wants of it.
        share: Of requests with a positive, and with a new one, that are expected to have it among their candidates.
        name: What progress is called.
        encoder_day: Day before which everything lies that the present model has seen.
        collector: Collects the encoder's examples; None where the encoder learns nothing of the block.
    """
    requests = chain.request_source.between(span.start, span.closed_end)
    truth = chain.request_source.truth(requests)
    is_new = truth.group_by("request").agg(pl.col("is_new").any())
    ordered = in_hash_order(requests.join(is_new, on="request", maintain_order="left"), chain.log)
    rounds = Round.of(ordered.select("request", "is_new"), quota, share)
    draw = _BlockDraw(chain, requests, truth, _Labels.of(chain, truth, encoder_day), rounds, collector, name)
    rows = mapped(draw.rows(), config)
    examples = None
    if collector is not None:
        _top_up(collector, draw)
        examples = collector.examples()
    drawn = ordered["request"].filter(pl.Series(rounds.drawn))
    labelled = Labelled(_some(requests, drawn), _some(truth, drawn), rows, config.candidates.source == "logged")
    order = ordered.select("request", order=pl.int_range(pl.len()))
    return Block(labelled, Lists(rows, order), examples, requests.height, rounds.usable)


@dataclass(slots=True)
class _BlockDraw:
    """Draws a block's requests and makes their rows, round by round.

    Attributes:
        chain: The chain.
        requests: The block's requests.
        truth: Their positives.
        labels: Adds these to rows.
        rounds: Chooses the requests of each round.
        collector: Collects the encoder's examples; None where the encoder learns nothing of the block.
        name: What progress is called.
        taught: Requests that gave the encoder an example.
    """

    chain: Chain
    requests: pl.DataFrame
    truth: pl.DataFrame
    labels: _Labels
    rounds: Round
    collector: ExampleCollector | None
    name: str
    taught: int = 0

    def rows(self) -> Iterator[pl.DataFrame]:
        """Rows that a ranker may learn from, portion by portion; one frame without rows where nothing is drawn.

        Features are made only for requests with a positive among their candidates, since others teach nothing.
        """
        while not (drawn := self.rounds.next()).is_empty():
            usable, whole = Quota(0, 0), self.rounds.usable.whole < self.rounds.quota.whole
            holding = self.truth if whole else self.truth.filter("is_new")
            some = _some(self.requests, drawn)
            for portion, plain in self.chain.portions(some, name=self.name, holding=holding):
                rows = self.labels.on(plain)
                if self.collector is not None:
                    self.taught += self.collector.add(portion, rows)
                usable = usable.plus(_usable(rows, IS_NEW))
                yield _teaching(rows, whole=whole)
            self.rounds.record(usable)
        if not self.rounds.drawn.any():
            yield self.labels.on(next(self.chain.rows(self.requests.clear(), name=self.name)))


def _top_up(collector: ExampleCollector, draw: _BlockDraw) -> None:
    """Collect examples of requests that were not drawn, until the encoder has `encoder.max_requests` of the block."""
    rounds, name = draw.rounds, f"{draw.name}: for the encoder alone"
    wanted = max(collector.chain.config.encoder.max_requests - draw.taught, 0)
    left = rounds.requests.filter(~pl.Series(rounds.drawn) & rounds.requests["is_new"])
    further = Round.of(left, Quota(0, wanted), (0.0, rounds.share[1]))
    while not (drawn := further.next()).is_empty():
        taught, _ = collector.add_candidates(_some(draw.requests, drawn), _some(draw.truth, drawn), name=name)
        further.record(Quota(0, taught))


def _some(frame: pl.DataFrame, requests: pl.Series) -> pl.DataFrame:
    """Rows of some requests, in their order."""
    return frame.filter(pl.col("request").is_in(requests.implode()))


def _usable(rows: pl.DataFrame, is_new: pl.Expr) -> Quota:
    """How many requests have a positive among their rows, and a new one."""
    positive = rows.lazy().select("request", "label", is_new=is_new).filter(pl.col("label") > 0).collect()
    return Quota(positive["request"].n_unique(), positive.filter("is_new")["request"].n_unique())


def _teaching(rows: pl.DataFrame, *, whole: bool) -> pl.DataFrame:
    """Rows of the requests with a positive; unless `whole`, only their new items, of requests with a new positive."""
    if not whole:
        rows = rows.filter(IS_NEW)
    return with_a_positive(rows)


def behaviour_candidates(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows whose candidate was proposed by a generator that reads no text."""
    return rows.filter(pl.any_horizontal(pl.col(behaviour_ranks(rows.columns)).is_not_nan()))
