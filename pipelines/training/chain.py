"""From a log and an interest model to a ranker's rows: the one path of training, evaluation and the nightly batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from encoders.data import QUERY
from encoders.interest import FINE_TUNED, INTEREST_COLUMNS, OF_QUERY, InterestScorer
from encoders.model import InterestModel, Which
from features.assemble import KEYS, POSITION, Assembler, Portion
from features.candidates.cut import CandidateCut
from features.config import TextFieldConfig
from features.log.event_log import EventLog
from features.log.inventory import FeatureInventory
from features.requests.engaged import RequestSource
from features.signals.family import ColumnGroup
from features.tables.text import item_texts
from pipelines.base.config import Config
from pipelines.base.progress import task
from pipelines.stores.vectors import VectorStore
from pipelines.training.feature_plan import plan_of
from pipelines.training.memory import Memory
from pipelines.training.request_source import request_source

__all__ = ["Catalogue", "Chain", "interest_group", "store_vectors"]


def interest_group(*, queries: bool) -> ColumnGroup:
    """The columns that the interest model adds to the features; one more where it reads queries of requests."""
    names = (*INTEREST_COLUMNS, OF_QUERY) if queries else INTEREST_COLUMNS
    columns = {name: f"{name.replace('_', ' ')}: see encoders.interest" for name in names}
    return ColumnGroup(name="interest", columns=columns, text=frozenset(names))


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The distinct texts of the catalogue and the distinct queries of requests.

    Attributes:
        texts: Distinct texts, sorted.
        text_of_item: (items,) position of each item's text, by item code.
        queries: Distinct queries, sorted; their positions go on from those of the texts.
    """

    texts: list[str]
    text_of_item: npt.NDArray[np.int64]
    queries: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, log: EventLog, fields: Sequence[TextFieldConfig]) -> "Catalogue":
        """From the configured text fields."""
        texts = item_texts(log.items, fields)
        distinct = texts.unique().sort()
        position = distinct.to_frame("text").with_row_index("position")
        positions = texts.to_frame("text").join(position, on="text", maintain_order="left")
        return cls(distinct.to_list(), positions["position"].to_numpy().astype(np.int64))

    def with_queries(self, requests: pl.DataFrame) -> "Catalogue":
        """The same with the queries of some requests."""
        return replace(self, queries=_queries_of(requests).drop_nulls().unique().sort().to_list())

    @property
    def text_of_unit(self) -> npt.NDArray[np.int64]:
        """Position of the text of each item, by item code, and then of each query."""
        return np.concatenate([self.text_of_item, len(self.texts) + np.arange(len(self.queries))])

    def placed(self, requests: pl.DataFrame, *, by_item: bool = False) -> pl.DataFrame:
        """Requests with the column `QUERY`, the position of their query; -1 for none, and for one the catalogue lacks.

        Without queries in the catalogue the requests come back as they are.

        Args:
            requests: The requests.
            by_item: Whether positions of queries go on from items, and not from texts.
        """
        if not self.queries:
            return requests
        first = len(self.text_of_item) if by_item else len(self.texts)
        positions = {query: first + at for at, query in enumerate(self.queries)}
        placed = _queries_of(requests).replace_strict(positions, default=-1, return_dtype=pl.Int64)
        return requests.with_columns(placed.fill_null(-1).alias(QUERY))


class Chain:
    """Makes ranker rows for requests over one log, under one state of the interest model.

    Args:
        log: The event log.
        config: Everything configured.
        model: The interest model; `refresh` after it was trained further.
        inventory: What the log of the version's training had; None for a training, which takes what `log` has.
        cut: The fitted cut of candidates, which `fit_cut` makes. None cuts by the best rank over the generators.
        catalogue: The log's texts and the queries of training requests; None makes it of the log, without queries.

    Attributes:
        features: What the full ranker reads, in the order of the feature manifest.
        behaviour_features: What the behaviour-only ranker reads: nothing that knows a text.
        memory: What the log leaves of `max_memory_gb`, which portions are sized by.

    Raises:
        ConfigError: `max_memory_gb` is too little for the log.
        ContractError: The log lacks part of the inventory, or queries that the model reads.
    """

    def __init__(
        self,
        log: EventLog,
        config: Config,
        model: InterestModel,
        inventory: FeatureInventory | None = None,
        *,
        cut: CandidateCut | None = None,
        catalogue: Catalogue | None = None,
    ) -> None:
        self.log = log
        self.config = config
        self.memory = Memory.of(log, config)
        self.model = model
        self.catalogue = catalogue or Catalogue.of(log, config.data.items.text)
        self.encoded: dict[Which, int] = {"zero_shot": 0, "tuned": 0}
        self.zero_shot = self._vectors("zero_shot")
        self.assembler = Assembler(
            log,
            config.candidates,
            self.zero_shot,
            plan_of(log, config, inventory),
            cut=cut,
            event_types=model.event_types,
        )
        if model.queries:
            self.assembler.plan.inventory.require(log, ["events.query"])
        assembled = self.assembler.features
        self.interest = interest_group(queries=model.queries)
        self.features = (*assembled, *self.interest.columns)
        self.behaviour_features = tuple(name for name in assembled if name not in self.assembler.text_features)
        self.assembler.at_once = self.memory.requests_at_once(len(self.features))
        self.refresh()

    def refresh(self, vectors: npt.NDArray[np.int16] | None = None) -> None:
        """Take over the model's present weights; call it after the model was trained further.

        Args:
            vectors: (texts, D) tuned vectors of the catalogue's texts under these weights, if they are in memory; None
                takes them from the vector store, and encodes texts that it lacks.
        """
        self.digest = self.model.interest_digest()
        of_items = self._vectors("tuned") if vectors is None else vectors[self.catalogue.text_of_item]
        tuned = self.model.item_vectors(of_items, self.log.items)
        self._scorer = InterestScorer(self.model.user_tower, tuned, self.zero_shot, self.config.encoder.history_items)
        if self.model.queries:
            self._query_digest = self.model.digest("tuned", queries=True)

    @cached_property
    def request_source(self) -> RequestSource:
        """The requests and labels of the log, by `requests.source`; a night makes requests of its own."""
        return request_source(self.log, self.config)

    @property
    def cut(self) -> CandidateCut | None:
        """The fitted cut of candidates; None cuts by the best rank."""
        return self.assembler.generators.cut

    def fit_cut(self, requests: pl.DataFrame, truth: pl.DataFrame) -> None:
        """Fit the cut on requests whose labels have closed, for the later ones."""
        generators = self.assembler.generators
        generators.cut = generators.fit_cut(requests, truth)

    def portions(
        self, requests: pl.DataFrame, *, name: str, holding: pl.DataFrame | None = None
    ) -> Iterator[tuple[Portion, pl.DataFrame]]:
        """Requests portion by portion, each with its rows; see `rows`, and `features.assemble.Assembler.portion`."""
        with task(name, requests.height, "requests") as advance:
            for portion in self.assembler.portions(requests, holding=holding):
                yield portion, self.with_interest(portion)
                advance(portion.requests.height)

    def rows(self, requests: pl.DataFrame, *, name: str) -> Iterator[pl.DataFrame]:
        """All rows of some requests, by (request, item), portion by portion; one without rows for no requests.

        Returns:
            `CandidateRows`, or `ShownRows`, with `features` and the raw `interest`.
        """
        if requests.is_empty():
            yield self.with_interest(self.assembler.portion(requests))
        for _, rows in self.portions(requests, name=name):
            yield rows

    def candidates(self, requests: pl.DataFrame, *, name: str) -> Iterator[Portion]:
        """Requests portion by portion with the keys of their rows alone: `features.assemble.Assembler.candidates`."""
        with task(name, requests.height, "requests") as advance:
            for portion in self.assembler.portions(requests, features=False):
                yield portion
                advance(portion.requests.height)

    def with_interest(self, portion: Portion) -> pl.DataFrame:
        """A portion's rows with the interest columns of the present model."""
        interest = self.interest_of(portion)
        named = [name for name in (*KEYS, POSITION) if name in portion.rows.columns]
        return pl.concat([portion.rows, interest], how="horizontal").select(*named, *self.features, FINE_TUNED)

    def interest_of(self, portion: Portion) -> pl.DataFrame:
        """The interest columns of a portion's rows, and the raw `interest`."""
        query_RD = self._query_vectors(portion.requests) if self.model.queries else None
        return self._scorer.columns(portion.requests, portion.history, portion.rows, query_RD)

    def _vectors(self, which: Which) -> npt.NDArray[np.int16]:
        """(items, D) vectors of all items, by item code; only texts that the store lacks are encoded."""
        store = VectorStore(_root(self.config), self.model.digest(which))

        def encode(texts: list[str]) -> npt.NDArray[np.int16]:
            tokenised = self.model.tokenise(texts)
            with task(f"Encoding texts ({which.replace('_', '-')})", len(texts), "texts") as advance:
                return self.model.embed(which, tokenised, progress=advance)

        vectors = store.vectors(self.catalogue.texts, encode)
        self.encoded[which] += store.encoded
        return vectors[self.catalogue.text_of_item]

    def _query_vectors(self, requests: pl.DataFrame) -> npt.NDArray[np.int16] | None:
        """Vectors of the requests' queries, 0 where there is none; None where no request has one.

        Each distinct query is encoded once, and only if the store lacks it.
        """
        queries = _queries_of(requests)
        distinct = queries.drop_nulls().unique().sort().to_list()
        if not distinct:
            return None

        def encode(texts: list[str]) -> npt.NDArray[np.int16]:
            return self.model.embed("tuned", self.model.tokenise(texts, queries=True))

        store = VectorStore(_root(self.config), self._query_digest)
        vectors = store.vectors(distinct, encode)
        self.encoded["tuned"] += store.encoded
        position = queries.replace_strict(distinct, range(len(distinct)), default=len(distinct), return_dtype=pl.Int64)
        with_none = np.concatenate([vectors, np.zeros_like(vectors[:1])])
        of_requests: npt.NDArray[np.int16] = with_none[position.fill_null(len(distinct)).to_numpy()]
        return of_requests


def store_vectors(
    config: Config, model: InterestModel, which: Which, catalogue: Catalogue, vectors: npt.NDArray[np.int16]
) -> None:
    """Keep the vectors of a catalogue's distinct texts, and those of its queries, where a `Chain` will look for them.

    Args:
        config: Where the store is.
        model: What made the vectors.
        which: Its tower; only of the tuned one vectors of queries are kept.
        catalogue: The texts.
        vectors: Of the texts and then of the queries.
    """
    texts, queries = np.split(vectors, [len(catalogue.texts)])
    VectorStore(_root(config), model.digest(which)).put(catalogue.texts, texts)
    if which == "tuned" and catalogue.queries:
        VectorStore(_root(config), model.digest(which, queries=True)).put(catalogue.queries, queries)


def _queries_of(requests: pl.DataFrame) -> pl.Series:
    """The requests' own queries, null for none: an empty one is none, and so is white space."""
    if "query" not in requests.columns:
        return pl.Series([None] * requests.height, dtype=pl.String)
    query = pl.col("query")
    return requests.select(pl.when(query.str.strip_chars() != "").then(query)).to_series()


def _root(config: Config) -> Path:
    return Path(config.output) / "vectors"
