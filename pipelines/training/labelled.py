"""Requests with their rows and what turned out true of them: of a window that is judged, of a block that is learned."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from encoders.data import Examples
from encoders.interest import FINE_TUNED
from features.assemble import Portion
from features.candidates.union import SOURCES, TEXT_SOURCES
from features.requests.engaged import VALUE_LABEL
from features.requests.split import Span
from pipelines.base.config import Config
from pipelines.stores.mapped import mapped, picked
from pipelines.training.chain import Catalogue, Chain
from pipelines.training.draw import Quota, Round, in_hash_order, whole_users
from ranker.groups import with_a_positive

__all__ = [
    "IS_NEW",
    "Block",
    "Labelled",
    "Lists",
    "Pupil",
    "found_by_behaviour",
    "label",
    "latest_lists",
    "one_after_the_other",
    "rows_of",
    "visit",
]

IS_NEW = ~(pl.col("pair_events_all") > 0)
"""The user never had the item."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Requests with their rows and what turned out true.

    Attributes:
        requests: request, user, as_of_day, and what logged requests have beside.
        truth: request, item, label, is_new, perhaps `VALUE_LABEL`: every positive, retrieved or not.
        rows: Candidates with features, label (0 for none; by value where the truth has that), encoder_digest and
            encoder_day (its cut-off).
        given: Whether the candidates are lists that were given, and not what generators found.
        left_out: The window's requests that were not drawn, of users none of whose requests were; None for none.
    """

    requests: pl.DataFrame
    truth: pl.DataFrame
    rows: pl.DataFrame
    given: bool = False
    left_out: pl.DataFrame | None = None

    @property
    def in_window(self) -> int:
        """How many requests the window has, drawn or not."""
        return self.requests.height + (0 if self.left_out is None else self.left_out.height)


def label(
    chain: Chain, config: Config, span: Span, *, name: str, encoder_day: int, most: int | None = None
) -> Labelled:
    """Rows and truth of a span's requests, under the chain's present model.

    Args:
        chain: The chain.
        config: Candidates.
        span: Days of requests; only those whose labels have closed are taken.
        name: What progress is called.
        encoder_day: Day before which everything lies that the present model has seen.
        most: Requests that suffice: whole users are drawn until there are so many; None takes all.
    """
    requests, left_out = whole_users(chain.asked.between(span.start, span.closed_end), chain.log, most)
    truth = chain.asked.truth(requests)
    rows = rows_of(chain, config, requests, truth, name=name, encoder_day=encoder_day)
    return Labelled(requests, truth, rows, config.candidates.source == "logged", left_out)


def rows_of(
    chain: Chain, config: Config, requests: pl.DataFrame, truth: pl.DataFrame, *, name: str, encoder_day: int
) -> pl.DataFrame:
    """`Labelled.rows` of some requests, in a file that is mapped into memory."""
    told = _Labels.of(chain, truth, encoder_day)
    return mapped((told.on(rows) for rows in chain.rows(requests, name=name)), config)


@dataclass(frozen=True, slots=True)
class _Labels:
    """Puts labels on rows, and what scored them."""

    told: pl.DataFrame
    encoder: dict[str, pl.Expr]

    @classmethod
    def of(cls, chain: Chain, truth: pl.DataFrame, encoder_day: int) -> "_Labels":
        learned = VALUE_LABEL if VALUE_LABEL in truth.columns else "label"
        encoder = {"encoder_digest": pl.lit(chain.digest), "encoder_day": pl.lit(encoder_day, pl.Int32)}
        return cls(truth.select("request", "item", label=learned), encoder)

    def on(self, rows: pl.DataFrame) -> pl.DataFrame:
        joined = rows.join(self.told, on=["request", "item"], how="left", maintain_order="left")
        return joined.with_columns(pl.col("label").fill_null(0), **self.encoder)


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists that a ranker may learn from: requests with a positive among their candidates.

    Attributes:
        rows: As `Labelled.rows`; of some requests only what is new to the user.
        place: request, place: those of lower place are kept first.
    """

    rows: pl.DataFrame
    place: pl.DataFrame

    @classmethod
    def latest_first(cls, rows: pl.DataFrame) -> "Lists":
        """Rows whose requests are numbered in the order of time."""
        place = -pl.col("request").cast(pl.Int64)
        return cls(rows, rows.select(pl.col("request").unique()).select("request", place=place))

    def first(self, quota: Quota, config: Config) -> tuple[pl.DataFrame, Quota]:
        """Rows of the first lists of both kinds, and how many lists that is.

        Of a list that is too late to be kept whole, what is new to the user is kept where that has a positive and is
        early enough: those are few, and every one is worth having.
        """
        positive = self.rows.lazy().select("request", "label", is_new=IS_NEW).filter(pl.col("label") > 0)
        found = positive.group_by("request").agg(pl.col("is_new").any()).collect()
        found = found.join(self.place, on="request").sort("place", "request")
        whole = found["request"].head(quota.whole)
        new = found.filter("is_new")["request"].head(quota.new)
        used = Quota(len(whole), len(new))
        if len(whole) == self.rows["request"].n_unique():
            return self.rows, used
        kept_whole, kept_new = (pl.col("request").is_in(some.implode()) for some in (whole, new))
        kept = kept_whole | (kept_new & IS_NEW)
        return picked(self.rows, lambda rows: rows.filter(kept), config), used


def latest_lists(parts: Sequence[Lists], most: int, config: Config) -> pl.DataFrame:
    """What a ranker learns from: the `most` latest lists, and twice as many of new items.

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
    found, first = [], 0
    for rows in parts:
        found.append(rows.with_columns(pl.col("request") + pl.lit(first, pl.UInt32)))
        first += int(rows["request"].max() or 0) + 1  # type: ignore[arg-type]
    return pl.concat(found)


@dataclass(slots=True)
class Pupil:
    """Collects what the encoder learns of requests, portion by portion.

    Args:
        chain: The chain.
        catalogue: The texts, and the queries that are learned from.
        config: Length of histories, and whether scores of the encoder before are needed.
    """

    chain: Chain
    catalogue: Catalogue
    config: Config
    parts: list[Examples] = field(default_factory=list)

    def learn(self, portion: Portion, rows: pl.DataFrame) -> int:
        """Take a portion up, with its labelled rows; returns how many of its requests teach something."""
        by_item = self.chain.model.item_embeddings is not None
        asked = self.catalogue.placed(portion.requests, by_item=by_item)
        items = len(self.catalogue.text_of_item)
        units = np.arange(items) if by_item else self.catalogue.text_of_item
        made = Examples.of(asked, portion.history, rows, units, self.config.encoder)
        self.parts.append(made)
        return len(made)

    def learn_candidates(self, requests: pl.DataFrame, truth: pl.DataFrame, *, name: str) -> tuple[int, Quota]:
        """Take requests up of which the ranker learns nothing: without features.

        Returns:
            How many teach the encoder something; how many lists have a positive, and a new one.
        """
        taught, usable = 0, Quota(0, 0)
        told = truth.select("request", "item", "is_new", label=VALUE_LABEL if VALUE_LABEL in truth.columns else "label")
        for portion in self.chain.candidates(requests, name=name):
            rows = portion.rows.join(told, on=["request", "item"], how="left", maintain_order="left")
            rows = rows.with_columns(pl.col("label").fill_null(0))
            if self.config.encoder.hard_negatives:
                rows = rows.with_columns(self.chain.interest_of(portion)[FINE_TUNED])
            taught += self.learn(portion, rows)
            usable = usable.plus(_usable(rows, pl.col("is_new")))
        return taught, usable

    def examples(self) -> Examples:
        """All that was taken up."""
        if not self.parts:
            nothing = self.chain.assembler.candidates(self.chain.asked.between(0, 0))
            self.learn(nothing, nothing.rows.with_columns(label=pl.lit(0, pl.Int32)))
        found = self.parts[0]
        for part in self.parts[1:]:
            found = found.joined(part)
        return found


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


def visit(
    chain: Chain,
    config: Config,
    span: Span,
    quota: Quota,
    share: tuple[float, float],
    *,
    name: str,
    encoder_day: int,
    pupil: Pupil | None,
) -> Block:
    """Compute of a block what is learned from, under the chain's present model.

    Requests that have a positive are drawn in the order of a hash, in rounds, until so many lists are usable as wanted:
    which are is known only when their candidates are. Then, for the encoder alone, until it has what it learns of a
    block, candidates without features.

    Args:
        chain: The chain.
        config: Candidates, and what the encoder learns of a block.
        span: Days of the block; only requests whose labels have closed are taken.
        quota: Lists that the ranker wants of it.
        share: Of requests with a positive, and with a new one, that are expected to have it among their candidates.
        name: What progress is called.
        encoder_day: Day before which everything lies that the present model has seen.
        pupil: Is taught; None where the encoder learns nothing of the block.
    """
    asked = chain.asked.between(span.start, span.closed_end)
    truth = chain.asked.truth(asked)
    is_new = truth.group_by("request").agg(pl.col("is_new").any())
    ordered = in_hash_order(asked.join(is_new, on="request", maintain_order="left"), chain.log)
    rounds = Round.of(ordered.select("request", "is_new"), quota, share)
    drawing = _Drawing(chain, asked, truth, _Labels.of(chain, truth, encoder_day), rounds, pupil, name)
    rows = mapped(drawing.rows(), config)
    examples = None
    if pupil is not None:
        _top_up(pupil, drawing)
        examples = pupil.examples()
    drawn = ordered["request"].filter(pl.Series(rounds.drawn))
    labelled = Labelled(_some(asked, drawn), _some(truth, drawn), rows, config.candidates.source == "logged")
    place = ordered.select("request", place=pl.int_range(pl.len()))
    return Block(labelled, Lists(rows, place), examples, asked.height, rounds.usable)


@dataclass(slots=True)
class _Drawing:
    """A block's requests, computed round by round.

    Attributes:
        chain: The chain.
        asked: The block's requests.
        truth: What turned out true of them.
        labels: Puts that on rows.
        rounds: Draws them.
        pupil: Is taught; None where the encoder learns nothing of the block.
        name: What progress is called.
        taught: Requests that taught the encoder something.
    """

    chain: Chain
    asked: pl.DataFrame
    truth: pl.DataFrame
    labels: _Labels
    rounds: Round
    pupil: Pupil | None
    name: str
    taught: int = 0

    def rows(self) -> Iterator[pl.DataFrame]:
        """What a ranker may learn from, portion by portion; one without rows where nothing is drawn.

        Features are made of requests that have a positive among their candidates; the others teach nothing.
        """
        while not (drawn := self.rounds.next()).is_empty():
            usable, whole = Quota(0, 0), self.rounds.usable.whole < self.rounds.quota.whole
            holding = self.truth if whole else self.truth.filter("is_new")
            some = _some(self.asked, drawn)
            for portion, plain in self.chain.portions(some, name=self.name, holding=holding):
                rows = self.labels.on(plain)
                if self.pupil is not None:
                    self.taught += self.pupil.learn(portion, rows)
                usable = usable.plus(_usable(rows, IS_NEW))
                yield _teaching(rows, whole=whole)
            self.rounds.found(usable)
        if not self.rounds.drawn.any():
            yield self.labels.on(next(self.chain.rows(self.asked.clear(), name=self.name)))


def _top_up(pupil: Pupil, drawing: _Drawing) -> None:
    """Teach the encoder of requests that were not drawn, until it has what it learns of a block."""
    rounds, name = drawing.rounds, f"{drawing.name}: for the encoder alone"
    wanted = max(pupil.config.encoder.max_requests - drawing.taught, 0)
    left = rounds.requests.filter(~pl.Series(rounds.drawn) & rounds.requests["is_new"])
    further = Round.of(left, Quota(0, wanted), (0.0, rounds.share[1]))
    while not (drawn := further.next()).is_empty():
        taught, _ = pupil.learn_candidates(_some(drawing.asked, drawn), _some(drawing.truth, drawn), name=name)
        further.found(Quota(0, taught))


def _some(frame: pl.DataFrame, requests: pl.Series) -> pl.DataFrame:
    """Rows of some requests, in their order."""
    return frame.filter(pl.col("request").is_in(requests.implode()))


def _usable(rows: pl.DataFrame, is_new: pl.Expr) -> Quota:
    """How many requests have a positive among their rows, and a new one."""
    positive = rows.lazy().select("request", "label", is_new=is_new).filter(pl.col("label") > 0).collect()
    return Quota(positive["request"].n_unique(), positive.filter("is_new")["request"].n_unique())


def _teaching(rows: pl.DataFrame, *, whole: bool) -> pl.DataFrame:
    """Rows of the requests that have a positive among them; or of what is new to the user, where that has one."""
    if not whole:
        rows = rows.filter(IS_NEW)
    return with_a_positive(rows)


def found_by_behaviour(rows: pl.DataFrame) -> pl.DataFrame:
    """The candidates that a generator without text proposed."""
    sources = [f"{source}_rank" for source in SOURCES if source not in TEXT_SOURCES]
    return rows.filter(pl.any_horizontal(pl.col(name).is_not_nan() for name in sources))
