"""The union of what all generators propose, its filters and its cut: the items that a request is ranked over.

With `candidates.source: logged` the candidates are instead the list that was shown to a logged request, and at night
the supplied list; generators then only add their ranks and scores.

Training, evaluation and the night call `CandidateGenerators.propose` alike, so that a ranker meets at night
what it learned from. Scores are sums of integers, or of terms in one fixed order, so that a request gets the
same candidates to the last bit in whatever batch it stands.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl
import polars.selectors as cs

from features.candidates.catalog import SOURCES, Supplied, generators_of
from features.candidates.cut import CandidateCut, Facts, facts_of, keys_of, teaching_rows
from features.config import CandidatesConfig
from features.log.decay import decay_weights
from features.log.engagements import spread
from features.log.event_log import EventLog
from features.signals.generator import Generator, GeneratorInputs
from features.signals.queries import Queries
from features.signals.top_k import top_k
from features.tables.frames import HistoryItems, LoggedLists, Pairs, Requests, Scored

__all__ = [
    "SOURCES",
    "CandidateGenerators",
    "blocked_items",
    "histories",
    "off_sale",
    "unmatched_ids",
]

_AT_ONCE = 1000  # requests that a cut is fitted on
_CELLS = 1 << 20  # of users, whether they count or not, that are looked through at a time


def histories(
    log: EventLog, requests: pl.DataFrame, config: CandidatesConfig, event_types: Sequence[str] = ()
) -> pl.DataFrame:
    """The history of each request: what its user had engaged with before the as-of day, one row an item.

    Args:
        log: The event log.
        requests: `Requests`.
        config: Half-life of an event's weight.
        event_types: Event types that get a code of their own; all others share code 0.

    Returns:
        `features.tables.frames.HistoryItems`. The code of an event type is its position in `event_types` from 1 on, the
        highest where several have the gain.
    """
    assert (requests["as_of_day"] <= log.end_day).all(), "requests lie after the day on which the log ends"
    start, end = log.starts_of(requests["user"].cast(pl.Int64).to_numpy())
    block = np.cumsum(end - start) // _CELLS
    edges = np.flatnonzero(np.diff(block, prepend=-1, append=-1))
    parts = [_histories(log, requests[first:last], config, event_types) for first, last in pairwise(edges.tolist())]
    engaged = pl.concat([HistoryItems.create_empty(), *parts])
    return engaged.sort(["request", "last_day", "weight", "item"], descending=[False, True, True, False])


def _histories(
    log: EventLog, requests: pl.DataFrame, config: CandidatesConfig, event_types: Sequence[str]
) -> pl.DataFrame:
    """`histories` in any order, of so few requests that all cells of their users fit side by side."""
    user, as_of_day = (requests[name].cast(pl.Int64).to_numpy() for name in ("user", "as_of_day"))
    cells = _cells_before(log, user, as_of_day, event_types)
    starts = np.flatnonzero(np.diff(cells.pair, prepend=-1))
    if not len(starts):
        return HistoryItems.create_empty()
    of_request = cells.request[starts]
    age = as_of_day[cells.request] - cells.day
    codes = len(event_types) + 1
    highest = np.maximum.reduceat(cells.highest, starts)
    new_day = np.diff(cells.day, prepend=-1) != 0
    new_day[starts] = True
    last = np.append(starts[1:], len(cells.day)) - 1
    return HistoryItems.of(
        request=requests["request"].gather(of_request),
        item=cells.item[starts],
        as_of_day=as_of_day[of_request],
        count=np.add.reduceat(cells.n, starts),
        last_day=cells.day[last],
        gain=highest // codes,
        event_type=highest % codes,
        weight=np.add.reduceat(cells.n * decay_weights(config.half_life_days)[age], starts),
        first_day=cells.day[starts],
        days=np.add.reduceat(new_day.astype(np.int64), starts),
    )


@dataclass(frozen=True, slots=True)
class _CellsBefore:
    """The cells that count of each request's user before its day, by (request, item, day).

    Attributes:
        request: Row of the request in the table of requests.
        pair: A number of the request and the item, ascending.
        item: Item codes.
        day: Day numbers.
        n: Events.
        highest: Gain, and the code of its event type below.
    """

    request: npt.NDArray[np.int64]
    pair: npt.NDArray[np.int64]
    item: npt.NDArray[np.int64]
    day: npt.NDArray[np.int64]
    n: npt.NDArray[np.int64]
    highest: npt.NDArray[np.int64]


def _cells_before(
    log: EventLog, user: npt.NDArray[np.int64], as_of_day: npt.NDArray[np.int64], event_types: Sequence[str]
) -> _CellsBefore:
    cells = log.cells
    positions, begins = spread(*log.starts_of(user))
    request = np.repeat(np.arange(len(user)), np.diff(begins))
    item, day, kind = cells.taken(positions)
    gain_K = np.array([log.gains.get(name, 0) for name in cells.kinds], np.int64)
    code = {name: at + 1 for at, name in enumerate(event_types)}
    code_K = np.array([code.get(name, 0) for name in cells.kinds], np.int64)
    before = (day < as_of_day[request]) & (gain_K[kind] > 0)
    request, item, day, kind = (part[before] for part in (request, item, day, kind))
    highest = (gain_K * (len(event_types) + 1) + code_K)[kind]
    return _CellsBefore(request, request * cells.n_items + item, item, day, cells.counts[positions[before]], highest)


def blocked_items(item_ids: pl.Series, blocked: Sequence[str | int]) -> npt.NDArray[np.bool_]:
    """(items,) which items are blocked: those of a blocked id as text, and of whole numbers those of its value."""
    return item_ids.is_in(_ids_like(item_ids, blocked).implode()).to_numpy()


def off_sale(items: pl.DataFrame, as_of: datetime) -> pl.Series:
    """(items,) which items the catalogue says are not on sale at an instant, by available_from and available_until."""
    instant = pl.lit(as_of).cast(pl.Datetime("us", "UTC"))
    shut = (pl.col("available_from") > instant) | (pl.col("available_until") <= instant)
    return items.select(shut.fill_null(value=False)).to_series()


def unmatched_ids(item_ids: pl.Series, blocked: Sequence[str | int]) -> int:
    """How many blocked ids, each once, are of no item of the catalogue."""
    ids = _ids_like(item_ids, blocked)
    return ids.null_count() + int((~ids.drop_nulls().unique().is_in(item_ids.implode())).sum())


def _ids_like(item_ids: pl.Series, blocked: Sequence[str | int]) -> pl.Series:
    """Distinct blocked ids in the type of the catalogue's, null where they cannot be of it."""
    ids = pl.Series([str(name) for name in blocked], dtype=pl.String).unique()
    return ids.cast(item_ids.dtype, strict=False)


@dataclass(slots=True)
class CandidateGenerators:
    """All generators over one log, their union, its filters and its cut.

    Args:
        log: The event log.
        config: Quotas and windows.
        text_vectors: (items, width) int16 on the grid of 1/GRID in the order of item codes, or None for no
            text.
        cut: What the union is cut by; None cuts by the best rank over the sources.
        queries: How the log's queries are read, or None for no queries.
    """

    log: EventLog
    config: CandidatesConfig
    text_vectors: npt.NDArray[np.int16] | None = None
    cut: CandidateCut | None = None
    queries: Queries | None = None
    _inputs: GeneratorInputs = field(init=False)
    _generators: tuple[Generator, ...] = field(init=False)
    _blocked: npt.NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self._blocked = blocked_items(self.log.items["item_id"], self.config.blocked)
        self._inputs = GeneratorInputs(self.log, self.config, self.text_vectors, self.queries)
        self._generators = tuple(generator(self._inputs) for generator in generators_of(self.config))
        if self.logged_lists:  # the ranker must not learn which of two systems made a list
            self._generators = tuple(made for made in self._generators if not isinstance(made, Supplied))

    @property
    def logged_lists(self) -> bool:
        """Whether candidates are the logged (or supplied) lists, to which generators add ranks and scores only."""
        return self.config.source == "logged"

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:
        """What all generators propose, filtered and cut to `max_per_request`; logged lists as they are.

        Args:
            requests: `Requests`, or `LoggedLists`.
            history: `HistoryItems` of these requests.

        Returns:
            `Pairs` by (request, item), and for each generator its `_rank` (Int32) and
            `_score` (Float64), null where that generator did not propose the item. Items that are not
            available yet at the request's as-of, or no longer, are left out, but of lists that the log says were shown.
        """
        if self.logged_lists:
            return self.union(requests, history)
        union = self.scored_union(requests, history)
        is_new = ~_among(keys_of(union), keys_of(history))
        rows = union.select(Scored.column_names()).with_columns(new=pl.Series(is_new)).with_row_index("row")
        kept = top_k(self._with_share_for_new(rows), self.config.max_per_request)
        return union.drop("score")[kept["row"].sort()]

    def _with_share_for_new(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows without the repeats that would leave items new to the user less than `new_share` of the list."""
        most = self.config.max_per_request
        n_new = pl.col("new").sum().over("request").clip(upper_bound=round(most * self.config.new_share))
        ordered = rows.sort(["request", "score", "item"], descending=[False, True, False])
        repeat_rank = (~pl.col("new")).cum_sum().over("request")
        return ordered.filter(pl.col("new") | (repeat_rank.cast(pl.Int64) + n_new.cast(pl.Int64) <= most))

    def scored_union(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:
        """The same before the cut, with the `score` that it is cut by."""
        union = self.union(requests, history)
        if self.cut is None:
            best = pl.min_horizontal(cs.ends_with("_rank"))
            return union.with_columns(score=-best.cast(pl.Float64).fill_null(np.inf))
        facts = facts_of(union, requests, history, self._inputs.cache)
        return union.with_columns(score=pl.Series(self.cut.score(facts)))

    def union(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:
        """What all generators propose, filtered; or the logged lists unfiltered, or the supplied lists filtered."""
        asking = requests.select(cs.by_name(*Requests.column_names(), "query", require_all=False))
        active = [made for made in self._generators if made.most]
        sources = [made.name for made in active]
        parts = [made.propose(asking, history) for made in active]
        keys = [keys_of(part) for part in parts]
        wanted = [self._listed_keys(requests)] if self.logged_lists else keys
        union = _distinct(np.concatenate([np.empty(0, np.int64), *wanted]))
        if not (self.logged_lists and LoggedLists.shown.name in requests.columns):
            union = union[self._allowed(union, requests, history)]
        proposed = dict(zip(sources, zip(keys, parts, strict=True), strict=True))
        columns: dict[str, pl.Series] = {}
        for source in (generator.name for generator in generators_of(self.config)):
            columns |= _spread(union, source, *proposed.get(source, (np.empty(0, np.int64), None)))
        return Pairs.of(request=union >> 32, item=union & 0xFFFFFFFF).with_columns(**columns)

    def _listed_keys(self, requests: pl.DataFrame) -> npt.NDArray[np.int64]:
        """Keys of the lists: what was shown, or what the supplied table names."""
        if LoggedLists.shown.name in requests.columns:
            return keys_of(requests.select("request", item="shown").explode("item"))
        return keys_of(Supplied(self._inputs).lists(requests))

    def fit_cut(self, requests: pl.DataFrame, truth: pl.DataFrame, *, most: int = 2000) -> CandidateCut | None:
        """Fit the cut on requests whose labels have closed; use it for later ones only.

        What teaches it, and with what weight: `features.candidates.cut.teaching_rows`.

        Args:
            requests: `Requests`.
            truth: `Truth` of these.
            most: Requests that teach it: the latest.

        Returns:
            The cut; None where no request's union has a positive, or candidates are logged lists, which are never cut.
        """
        if self.logged_lists:
            return None
        requests = requests.sort("as_of_day", "request").tail(most).sort("request")
        examples = [
            example
            for start in range(0, requests.height, _AT_ONCE)
            if (example := self._example(requests.slice(start, _AT_ONCE), truth)) is not None
        ]
        if not examples:
            return None
        names = examples[0][0].names
        facts = Facts({name: np.concatenate([example[0].columns[name] for example in examples]) for name in names})
        positive, weight = (np.concatenate([example[part] for example in examples]) for part in (1, 2))
        return CandidateCut.fit(facts, positive, weight, n_requests=sum(example[3] for example in examples))

    def _example(
        self, requests: pl.DataFrame, truth: pl.DataFrame
    ) -> tuple[Facts, npt.NDArray[np.bool_], npt.NDArray[np.float64], int] | None:
        """Facts, whether positive, and weight of the rows that teach the cut; and of how many requests."""
        history = histories(self.log, requests, self.config)
        union = self.union(requests, history)
        keys = keys_of(union)
        positive = _among(keys, keys_of(truth))
        rows, weight = teaching_rows(keys, positive)
        if not len(rows):
            return None
        facts = facts_of(union[rows], requests, history, self._inputs.cache)
        return facts, positive[rows], weight, union[rows]["request"].n_unique()

    def _allowed(
        self, union: npt.NDArray[np.int64], requests: pl.DataFrame, history: pl.DataFrame
    ) -> npt.NDArray[np.bool_]:
        """Which keys the filters let pass."""
        allowed = self._on_sale(union, requests)
        if self.config.already_bought == "drop":
            allowed &= ~_among(union, keys_of(history))
        if self._blocked.any():
            allowed &= ~self._blocked[union & 0xFFFFFFFF]
        return allowed

    def _on_sale(self, union: npt.NDArray[np.int64], requests: pl.DataFrame) -> npt.NDArray[np.bool_]:
        """Which items the catalogue does not say are not on sale at the request's as-of."""
        sale = self.log.items.select("available_from", "available_until")
        allowed = np.ones(len(union), bool)
        if sale["available_from"].is_null().all() and sale["available_until"].is_null().all():
            return allowed
        items = union & 0xFFFFFFFF
        for day in requests["as_of_day"].unique().sort():
            is_shut = off_sale(sale, self.log.calendar.as_of(day)).to_numpy()
            of_day = requests.filter(pl.col("as_of_day") == day)["request"].to_numpy()
            allowed &= ~(np.isin(union >> 32, of_day) & is_shut[items])
        return allowed


def _distinct(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Keys ascending, each once. Sorting whole numbers takes a fraction of the hashing that `np.unique` does."""
    ordered = np.sort(keys)
    return ordered[np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))]


def _among(union: npt.NDArray[np.int64], keys: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which of a union's keys, ascending and distinct, are among others."""
    is_among = np.zeros(len(union), np.bool_)
    if len(union):
        position = np.minimum(np.searchsorted(union, keys), len(union) - 1)
        is_among[position[union[position] == keys]] = True
    return is_among


def _spread(
    union: npt.NDArray[np.int64], source: str, keys: npt.NDArray[np.int64], part: pl.DataFrame | None
) -> dict[str, pl.Series]:
    """A source's rank and score on the rows of the union, null where it did not propose the item."""
    rank, score = np.zeros(len(union), np.int32), np.zeros(len(union), np.float64)
    if part is not None and len(union):
        position = np.minimum(np.searchsorted(union, keys), len(union) - 1)
        kept = union[position] == keys
        rank[position[kept]] = part["rank"].to_numpy()[kept]
        score[position[kept]] = part["score"].to_numpy()[kept]
    columns = pl.DataFrame({f"{source}_rank": rank, f"{source}_score": score})
    shown = columns.select(pl.when(pl.Series(rank > 0)).then(pl.all()))
    return {column.name: column for column in shown}
