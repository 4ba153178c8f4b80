"""Evaluation: rankings of every system on the requests of one window, judged by the same rules."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from encoders.interest import FINE_TUNED
from features.assemble import POSITION
from features.candidates.recall import CUTOFFS, recall_by_source, seen_items
from features.candidates.union import histories
from features.errors import ConfigError
from features.log.event_log import EventLog, date_of
from features.requests.split import Span
from features.tables.frames import PAIR, Requests, Scored
from pipelines.base.config import Config
from pipelines.base.progress import say, task
from pipelines.evaluation.external import External, coded_scores
from pipelines.evaluation.policy_figures import PolicyFigures
from pipelines.stores.mapped import list_batches
from pipelines.training.chain import Chain
from pipelines.training.labelled import Labelled, behaviour_candidates, label
from pipelines.training.train import Trained
from ranker.baselines import BASELINES
from ranker.beyond_accuracy import BEYOND_CONVENTIONS, beyond_accuracy
from ranker.judge import Judged, Window, judge
from ranker.metrics import CONVENTIONS
from ranker.ranker import Ranker
from ranker.tables import with_ids

__all__ = [
    "ALL_SYSTEMS",
    "AS_SHOWN",
    "BEHAVIOUR_ONLY",
    "FINE_TUNED_TEXT",
    "FULL",
    "OURS",
    "TAKEN",
    "ZERO_SHOT_TEXT",
    "Evaluation",
    "beyond_lists",
    "candidate_recall",
    "chosen_names",
    "chosen_systems",
    "compared_pairs",
    "evaluate",
    "judge_trained",
    "labelled_window",
    "ranked",
    "refuse_empty",
    "version_lists",
    "window_of",
]

FULL = "full system"
BEHAVIOUR_ONLY = "behaviour-only ranker"
FINE_TUNED_TEXT = "fine-tuned text"
ZERO_SHOT_TEXT = "zero-shot text"
OURS = (FULL, BEHAVIOUR_ONLY, FINE_TUNED_TEXT, ZERO_SHOT_TEXT)
"""Systems of a training."""
AS_SHOWN = "as shown"
"""The order that the log showed, where the candidates are its lists."""

ALL_SYSTEMS = "all"
"""Value of `--systems` that chooses every system."""
TAKEN = (ALL_SYSTEMS, *OURS, *BASELINES, AS_SHOWN)
"""Names that no other system may have."""

_NO_HISTORY = -1e9  # text alone ranks nothing for a user without history
_RECALL_REQUESTS = 1000  # whose candidates are held against the truth: the latest


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The evaluation of one window.

    Attributes:
        judged: Tables and comparisons.
        first_day: First day of the window's requests.
        end_day: Day after the last.
        n_requests: Requests that were judged.
        in_window: Requests of the window; more than were judged where whole users were sampled.
        share_distinct: Share of requests whose full-system scores are not all alike.
        beyond: Coverage, novelty and the like of each system: `ranker.beyond_accuracy.BeyondAccuracy.means`.
        ablated: Systems that are the full one without a part, by that part.
        policy: What `promotion` asks beside, of registered versions; empty after a training.
    """

    judged: Judged
    first_day: int
    end_day: int
    n_requests: int
    in_window: int
    share_distinct: float
    beyond: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    ablated: Mapping[str, str] = field(default_factory=dict)
    policy: PolicyFigures = field(default_factory=PolicyFigures)

    def as_json(self) -> dict[str, Any]:
        """Plain values, the conventions included; undefined figures (an interval over a single user) are None."""
        return {
            "window": [str(date_of(self.first_day)), str(date_of(self.end_day - 1))],
            "requests": self.n_requests,
            "requests_in_window": self.in_window,
            "share_drawn": self.n_requests / self.in_window,
            "share_distinct": self.share_distinct,
            "candidate_recall": dict(self.judged.ceiling.rows()),
            "systems": self.judged.table.fill_nan(None).to_dicts(),
            "comparisons": self.judged.pairs.fill_nan(None).to_dicts(),
            **({"ablations": self._ablations()} if self.ablated else {}),
            **self.policy.as_json(),
            "beyond_accuracy": {
                system: {name: None if math.isnan(value) else value for name, value in means.items()}
                for system, means in self.beyond.items()
            },
            "conventions": CONVENTIONS,
            "beyond_conventions": BEYOND_CONVENTIONS,
        }

    def _ablations(self) -> list[dict[str, Any]]:
        """How much better the full system is than without each part, and whether the interval lies above 0."""
        keys = ("slice", "metric", "difference", "low", "high")
        pairs = self.judged.pairs.filter(pl.col("system") == FULL).fill_nan(None)
        return [
            {"without": part, "system": system}
            | {key: row[key] for key in keys}
            | {"loses": row["low"] is not None and row["low"] > 0}
            for part, system in self.ablated.items()
            for row in pairs.filter(pl.col("against") == system).iter_rows(named=True)
        ]


def evaluate(
    log: EventLog,
    config: Config,
    labelled: Labelled,
    *,
    lists: Mapping[str, pl.DataFrame],
    first_day: int,
    vectors: npt.NDArray[np.int16] | None = None,
    chosen: str = ALL_SYSTEMS,
    ablated: Mapping[str, str] | None = None,
) -> Evaluation:
    """Judge systems and the baselines on a window's requests.

    Where the candidates are logged lists, the baselines rank these items too, and the logged order is one more system.

    Args:
        log: The log the window lies in.
        config: Cut-offs, resamples, seed.
        labelled: The window's requests, truth and candidates.
        lists: `Scored` of each system beside the baselines; the first is the one that is compared.
        first_day: First day of the window.
        vectors: (items, D) text vectors by item code, for the diversity of lists; None leaves it out.
        chosen: Names of the systems to judge, commas between them; the first system that is left is compared.
        ablated: Names in `lists` of the full system without a part, by that part: they and the full system are judged
            whatever is chosen.

    Raises:
        ConfigError: The window has no request, or a name is unknown.
    """
    log_days = f"{date_of(log.first_day)} to {date_of(log.last_day)}"
    refuse_empty(labelled, "the window", remedy=f"Choose other days: the log is of {log_days}.")
    shown = [AS_SHOWN] if labelled.logged_lists and labelled.rows[POSITION].count() else []
    available, without = [*lists, *BASELINES, *shown], dict(ablated or {})
    wanted = {*chosen_systems(chosen, available), *without.values(), *((FULL,) if without else ())}
    names = [name for name in available if name in wanted]
    systems = {name: lists[name] for name in names if name in lists}
    by_baseline = [name for name in names if name in BASELINES]
    if by_baseline:
        with task("Ranking by baselines", len(by_baseline), "systems") as advance:
            requests = labelled.requests.select(Requests.column_names())
            for name in by_baseline:
                ranking = BASELINES[name](log, requests)
                systems[name] = _of_logged_lists(labelled.rows, ranking) if labelled.logged_lists else ranking
                advance(1)
    if AS_SHOWN in names:
        systems[AS_SHOWN] = _as_shown(labelled.rows)
    window = window_of(log, config, labelled, first_day)
    with task("Judging systems", 1) as advance:
        judged = judge(
            window,
            systems,
            candidates=labelled.rows,
            config=config.evaluation,
            seed=config.seed,
            compared=compared_pairs(names),
        )
        advance(1)
    beyond = beyond_lists(systems, log, config, first_day=first_day, vectors=vectors)
    scores = systems[names[0]].group_by("request").agg(distinct=pl.col("score").n_unique(), rows=pl.len())
    days = labelled.requests["as_of_day"]
    return Evaluation(
        judged=judged,
        first_day=first_day,
        end_day=int(days.max()) + 1,  # type: ignore[arg-type]
        n_requests=labelled.requests.height,
        in_window=labelled.in_window,
        share_distinct=float((scores["distinct"] > 1).sum() / max(scores.height, 1)),
        beyond=beyond,
        ablated=without,
    )


def refuse_empty(labelled: Labelled, what: str, *, remedy: str) -> None:
    """Refuse a window without anything to judge.

    Args:
        labelled: Requests and truth.
        what: How the message calls the window.
        remedy: Sentence that says what to do.

    Raises:
        ConfigError: No request has a positive.
    """
    if labelled.requests.is_empty() or labelled.truth.is_empty():
        raise ConfigError(f"evaluation: {what} has no request with a positive. {remedy}")


def window_of(log: EventLog, config: Config, labelled: Labelled, first_day: int) -> Window:
    """The window for the judge: requests and truth, the items that each user had before, and cold items."""
    had_before = histories(log, labelled.requests, config.candidates).select(PAIR)
    seen = seen_items(log, first_day)
    cold = log.items.filter(~pl.col("item").is_in(seen.implode()))["item"]
    return Window(labelled.requests, labelled.truth, had_before, cold)


def compared_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of systems to compare: the first with each other one, and fine-tuned with zero-shot text."""
    pairs = [(names[0], other) for other in names[1:]]
    return pairs + ([(FINE_TUNED_TEXT, ZERO_SHOT_TEXT)] if {FINE_TUNED_TEXT, ZERO_SHOT_TEXT} <= {*names} else [])


def judge_trained(
    trained: Trained, config: Config, external: External = MappingProxyType({})
) -> tuple[Labelled, Evaluation]:
    """Judge a training on its test window; returns that window's labelled requests too.

    Args:
        trained: Result of the training.
        config: Everything configured.
        external: Scores of other systems on these requests, which are judged too.

    Raises:
        ConfigError: Another system is called as one of ours.
        ContractError: Other systems' scores are not of these requests: see
            `pipelines.evaluation.external.coded_scores`.
    """
    span, chain = trained.split.test, trained.chain
    labelled = labelled_window(chain, config, span, name="Scoring the test window", encoder_day=trained.encoder_day)
    lists = version_lists(labelled, trained.ranker, trained.behaviour_ranker, trained.pooling)
    lists |= coded_scores(external, labelled, chain.log, taken=TAKEN)
    vectors = chain.zero_shot
    return labelled, evaluate(chain.log, config, labelled, lists=lists, first_day=span.start, vectors=vectors)


def labelled_window(chain: Chain, config: Config, span: Span, *, name: str, encoder_day: int) -> Labelled:
    """The labelled requests of a window; of a window above `evaluation.max_requests`, those of sampled users.

    Args:
        chain: The chain.
        config: `evaluation.max_requests`.
        span: The window.
        name: What progress is called.
        encoder_day: Day before which everything lies that the present model has seen.
    """
    labelled = label(chain, config, span, name=name, encoder_day=encoder_day, most=config.evaluation.max_requests)
    say(name, requests=labelled.requests.height, of=labelled.in_window)
    return labelled


def chosen_systems(names: str, available: Sequence[str]) -> list[str]:
    """The available systems that `--systems` chooses, in the order of `available`; `ALL_SYSTEMS` chooses each.

    Raises:
        ConfigError: A name is unknown, or the text is empty.

    >>> chosen_systems("ItemKNN, popularity, 14 days", ["popularity", "popularity, 14 days", "ItemKNN"])
    ['popularity, 14 days', 'ItemKNN']
    """
    if names.strip() == ALL_SYSTEMS:
        return list(available)
    return chosen_names(names, available, unknown="--systems: {} is no system here", further="; or all")


def chosen_names(text: str, available: Sequence[str], *, unknown: str, further: str = "") -> list[str]:
    """The available names that a comma-separated text chooses, in the order of `available`; a name may hold commas.

    Args:
        text: The names, separated by commas.
        available: All names that may be chosen.
        unknown: Start of the message about a name that is not available; `{}` stands for the name.
        further: Appended to the list of choices in that message.

    Raises:
        ConfigError: A name is unknown (the nearest is suggested), or the text is empty.
    """
    parts = [part.strip() for part in text.split(",")]
    chosen: set[str] = set()
    while parts:
        joined = [", ".join(parts[:end]) for end in range(len(parts), 0, -1)]
        name = next((name for name in joined if name in available), None)
        if name is None:
            near = difflib.get_close_matches(parts[0], available, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise ConfigError(f"{unknown.format(repr(parts[0]))}. {hint}Choose of: {'; '.join(available)}{further}.")
        chosen.add(name)
        parts = parts[len(name.split(",")) :]
    return [name for name in available if name in chosen]


def beyond_lists(
    systems: Mapping[str, pl.DataFrame],
    log: EventLog,
    config: Config,
    *,
    first_day: int,
    vectors: npt.NDArray[np.int16] | None = None,
) -> dict[str, dict[str, float]]:
    """Coverage, novelty and diversity of each system's lists: `Evaluation.beyond`.

    How popular an item is, and how many users there are, is counted before the window's first day.
    """
    had = log.interactions.frame.filter(pl.col("day") < first_day).select("user", "item").unique()
    users = log.items.select("item").join(had.group_by("item").agg(users=pl.len()), on="item", how="left")
    catalogue = users.sort("item").select(item_id="item", users=pl.col("users").fill_null(0))
    means = {}
    for system, lists in systems.items():
        judged = beyond_accuracy(
            with_ids(lists),
            catalogue,
            n_users=max(had["user"].n_unique(), 1),
            vectors=vectors,
            cutoffs=config.evaluation.cutoffs,
        )
        means[system] = judged.means()
    return means


def _of_logged_lists(rows: pl.DataFrame, ranking: pl.DataFrame) -> pl.DataFrame:
    """Logged lists in a baseline's order; shown items that the baseline does not list come last."""
    ranked = rows.select(PAIR).join(ranking, on=PAIR, how="left", maintain_order="left")
    return ranked.with_columns(pl.col("score").fill_null(-1.0))  # theirs are above 0


def _as_shown(rows: pl.DataFrame) -> pl.DataFrame:
    """Shown items by their position in the log; items without a position come last."""
    position = pl.col(POSITION).fill_null(pl.col(POSITION).max() + 1)
    return rows.select(*PAIR, score=-position.cast(Scored.score.dtype))


def version_lists(
    labelled: Labelled, ranker: Ranker, behaviour_ranker: Ranker, pooling: str
) -> dict[str, pl.DataFrame]:
    """The lists of the systems that a training makes, the full system first."""
    rows = labelled.rows

    def text(column: str) -> pl.DataFrame:
        return rows.select(*PAIR, score=pl.col(column).fill_nan(_NO_HISTORY).cast(Scored.score.dtype))

    def by_behaviour() -> pl.DataFrame:
        if labelled.logged_lists:
            return ranked(behaviour_ranker, rows)
        return pl.concat(ranked(behaviour_ranker, behaviour_candidates(some)) for some in list_batches(rows))

    return {
        FULL: ranked(ranker, rows),
        BEHAVIOUR_ONLY: by_behaviour(),
        FINE_TUNED_TEXT: text(FINE_TUNED),
        ZERO_SHOT_TEXT: text(pooling),
    }


def ranked(ranker: Ranker, rows: pl.DataFrame) -> pl.DataFrame:
    """The list of a ranker: `Scored`."""
    scores = [pl.Series("score", ranker.predict(some)) for some in list_batches(rows)]
    return rows.select(PAIR).with_columns(pl.concat(scores))


def candidate_recall(trained: Trained, config: Config) -> pl.DataFrame:
    """Recall of each generator and of all on the latest test requests: `features.candidates.recall.recall_by_source`.

    At `features.candidates.recall.CUTOFFS` and at `candidates.max_per_request`, where the ranker's list ends.
    """
    chain, span = trained.chain, trained.split.test
    requests = chain.request_source.between(span.start, span.closed_end).tail(_RECALL_REQUESTS)
    history = histories(chain.log, requests, config.candidates)
    return recall_by_source(
        requests,
        history,
        chain.assembler.generators.scored_union(requests, history),
        chain.request_source.truth(requests),
        sorted({*CUTOFFS, config.candidates.max_per_request}),
        seen=seen_items(chain.log, span.start),
    )
