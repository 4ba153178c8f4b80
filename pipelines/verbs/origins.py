"""Rolling origin: the whole training is repeated and judged on several windows, each as if the log ended with it.

Each origin's log ends where the test window of the next later one opens. Results of an origin are kept under
`output`/origins, so that a killed run goes on at the origin where it stopped.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import accumulate, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl

from features.errors import ConfigError, IntegrityError
from features.log.event_log import EventLog, date_of, day_of
from features.requests.engaged import SLICES
from features.requests.split import Split
from features.tables.frames import Pairs
from pipelines.base.config import Config
from pipelines.base.progress import say
from pipelines.evaluation.evaluate import (
    ALL_SYSTEMS,
    AS_SHOWN,
    OURS,
    TAKEN,
    Evaluation,
    beyond_lists,
    chosen_systems,
    compared_pairs,
    judge_trained,
    refuse_empty,
    window_of,
)
from pipelines.evaluation.external import External, coded_scores
from pipelines.inputs.check import Inputs
from pipelines.registry.bundle import library_versions
from pipelines.registry.register import metrics_of, series_of
from pipelines.registry.tracking import Tracking
from pipelines.stores.storage import read_json, read_parquet, sha256_of, write_json, write_parquet
from pipelines.training.draw import whole_users
from pipelines.training.labelled import Labelled
from pipelines.training.request_source import request_source
from pipelines.training.train import train
from pipelines.training.windows import refuse_unteachable
from ranker.baselines import BASELINES
from ranker.judge import by_request, pooled

__all__ = ["RollingOrigin", "judge_external", "origins_of", "rolling_origin", "windows_of"]


@dataclass(frozen=True, slots=True)
class RollingOrigin:
    """Evaluations of several windows.

    Attributes:
        origins: Each window by itself, the earliest first.
        pooled: All requests of all windows; intervals are clustered by user over them all.
    """

    origins: tuple[Evaluation, ...]
    pooled: Evaluation

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"origins": [origin.as_json() for origin in self.origins], "pooled": self.pooled.as_json()}


@dataclass(frozen=True, slots=True)
class _Kept:
    """Results of an origin: `Evaluation.as_json`, and `ranker.judge.Judged.per_request`."""

    facts: dict[str, Any]
    per_request: pl.DataFrame

    def beside(self, others: "_Others | None", path: Path) -> "_Kept":
        """The same with other systems, judged on the same requests; they stand after ours, before the baselines.

        Raises:
            IntegrityError: What is kept is of other requests: another version of nightrank made it.
        """
        if others is None:
            return self
        keys = ["slice", "request", "user"]
        one, other = (rows.filter(system=rows["system"][0]).select(keys) for rows in (self.per_request, others.rows))
        if not one.sort(keys).equals(other.sort(keys)):
            raise IntegrityError(
                f"{path} is of other requests than today's. Remove it, so that the origin is judged again."
            )
        is_ours = pl.col("system").is_in(OURS)
        parts = [self.per_request.filter(is_ours), others.rows, self.per_request.filter(~is_ours)]
        rows = pl.concat(parts).sort(pl.col("slice").cast(pl.Enum(SLICES)), maintain_order=True)
        return _Kept({**self.facts, "beyond_accuracy": {**self.facts["beyond_accuracy"], **others.beyond}}, rows)


@dataclass(frozen=True, slots=True)
class _Others:
    """Results of other systems in a window: `ranker.judge.Judged.per_request`, `Evaluation.beyond`."""

    rows: pl.DataFrame
    beyond: dict[str, dict[str, float]]


def rolling_origin(
    inputs: Inputs,
    config: Config,
    count: int,
    *,
    chosen: str = ALL_SYSTEMS,
    external: External = MappingProxyType({}),
) -> RollingOrigin:
    """Train and judge as of several origins, and pool their results.

    Each training is a run of its own in MLflow; nothing is registered.

    Args:
        inputs: The tables.
        config: Everything configured; each origin is trained by it from the pretrained encoder.
        count: How many origins, counted back from the log's end.
        chosen: Names of the systems to judge, as `pipelines.evaluation.evaluate.evaluate` takes them.
        external: Scores of other systems on the requests of all windows, judged too; they are not kept.

    Raises:
        ConfigError: The log is too short for so many, a window has no request, a system is unknown, or another one is
            called as one of ours.
        ContractError: Other systems' scores are not of these requests: see
            `pipelines.evaluation.external.coded_scores`.
        IntegrityError: What is kept of an origin was altered, or is of other requests.
        TryAgainError: A training of the same configuration is under way in the output folder.
    """
    kept = []
    cuts = origins_of(inputs.log, config, count)
    # What cannot be judged is refused before anything is trained.
    windows = windows_of(cuts, config)
    chosen_systems(chosen, [*OURS, *external, *BASELINES, *((AS_SHOWN,) if windows[0].logged_lists else ())])
    others = judge_external(external, cuts, windows, config) if external else [None] * count
    folder = Path(config.output) / "origins" / _key(inputs, config)
    for number, ((log, split), beside) in enumerate(zip(cuts, others, strict=True), start=1):
        first_day = str(date_of(split.test.start))
        path = folder / f"{first_day}.json"
        say("origin", number=number, of=count, test_from=first_day, kept=path.exists())
        if not path.exists():
            _judge(log, inputs, config, path)
        kept.append(_read(path).beside(beside, path))
    kept.reverse()
    return RollingOrigin(
        tuple(_evaluation([one], config, chosen) for one in kept), pooled=_evaluation(kept, config, chosen)
    )


def origins_of(log: EventLog, config: Config, count: int) -> list[tuple[EventLog, Split]]:
    """The log of each origin and its split, the latest first.

    Raises:
        ConfigError: The log is too short for so many; the message says how many fit.
    """
    origins: list[tuple[EventLog, Split]] = []
    while len(origins) < count:
        try:
            split = Split.of(log, config.timeline, config.labels)
        except ConfigError as error:
            if not origins:
                raise
            raise ConfigError(
                f"--origins {count}: {len(origins)} fit into this log, since each further one ends "
                f"timeline.test_days ({config.timeline.test_days}) earlier. For one more, {error}"
            ) from error
        origins.append((log, split))
        log = log.until(split.test.start)
    return origins


def windows_of(cuts: Sequence[tuple[EventLog, Split]], config: Config) -> list[Labelled]:
    """Each origin's requests and truth, and the shown pairs where the candidates are logged lists.

    Raises:
        ConfigError: A window has no request with a positive.
        ContractError: The training as of an origin has none; see `refuse_unteachable`.
    """
    windows = []
    for log, split in cuts:
        source = request_source(log, config)
        in_window = source.between(split.test.start, split.test.closed_end)
        requests, left_out = whole_users(in_window, log, config.evaluation.max_requests)
        logged_lists = config.candidates.source == "logged"
        pairs: pl.DataFrame = Pairs.create_empty()
        if logged_lists:
            pairs = requests.select("request", item="shown").explode("item")
        window = Labelled(requests, source.truth(requests), pairs, logged_lists, left_out)
        days = f"the window from {date_of(split.test.start)} to {date_of(split.test.end - 1)}"
        refuse_empty(window, days, remedy="Ask for fewer origins, or set timeline.test_days.")
        refuse_unteachable(log, config, split)
        windows.append(window)
    return windows


def judge_external(
    external: External, cuts: Sequence[tuple[EventLog, Split]], windows: Sequence[Labelled], config: Config
) -> list[_Others]:
    """Results of other systems in each window.

    A file of scores covers all windows, so that requests are numbered on from window to window.
    """
    starts = list(accumulate((window.requests.height for window in windows), initial=0))
    together = Labelled(
        pl.concat(_moved(window.requests, start) for window, start in zip(windows, starts, strict=False)),
        windows[0].truth.clear(),
        pl.concat(_moved(window.rows, start) for window, start in zip(windows, starts, strict=False)),
        windows[0].logged_lists,
        pl.concat(others) if (others := [one.left_out for one in windows if one.left_out is not None]) else None,
    )
    coded = coded_scores(external, together, cuts[0][0], taken=TAKEN)
    judged = []
    for (log, split), window, (start, end) in zip(cuts, windows, pairwise(starts), strict=True):
        within = pl.col("request").is_between(start, end, closed="left")
        lists = {name: _moved(rows.filter(within), -start) for name, rows in coded.items()}
        judged_window = window_of(log, config, window, split.test.start)
        judged.append(
            _Others(
                by_request(judged_window, lists, config.evaluation),
                beyond_lists(lists, log, config, first_day=split.test.start),
            )
        )
    return judged


def _moved(rows: pl.DataFrame, by: int) -> pl.DataFrame:
    """The same rows with request numbers shifted."""
    return rows.with_columns((pl.col("request").cast(pl.Int64) + by).cast(Pairs.request.dtype))


def _judge(log: EventLog, inputs: Inputs, config: Config, path: Path) -> None:
    """Train on a log, judge its test window, and keep the results."""
    with Tracking(config).run() as run:
        trained = train(log, config, run.series)
        _, evaluation = judge_trained(trained, config)
        write_parquet(evaluation.judged.per_request, path.with_suffix(".parquet"))
        record = {"evaluation": evaluation.as_json(), "per_request": sha256_of(path.with_suffix(".parquet"))}
        run.record(
            f"origin {path.stem}",
            metrics=metrics_of(evaluation),
            series=series_of(trained),
            tags={
                "cutoff": trained.cutoff().isoformat(),
                **{f"data.{name}": fingerprint for name, fingerprint in inputs.fingerprints.items()},
            },
            artefacts={},
        )
        write_json(record, path)  # last: an origin is done where this file is


def _read(path: Path) -> _Kept:
    table = path.with_suffix(".parquet")
    record = read_json(path, what="origin")
    if not table.is_file() or sha256_of(table) != record.get("per_request"):
        raise IntegrityError(f"{table} is missing or was altered. Remove {path}, so that the origin is judged again.")
    return _Kept(record["evaluation"], read_parquet(table))


def _evaluation(kept: Sequence[_Kept], config: Config, chosen: str) -> Evaluation:
    """The evaluation of one window, or of several pooled."""
    names = chosen_systems(chosen, kept[0].per_request["system"].unique(maintain_order=True).to_list())
    judged = pooled(
        [one.per_request.filter(pl.col("system").is_in(names)) for one in kept],
        [one.facts["candidate_recall"] for one in kept],
        config=config.evaluation,
        seed=config.seed,
        compared=compared_pairs(names),
    )
    requests = [one.facts["requests"] for one in kept]
    distinct = sum(count * one.facts["share_distinct"] for count, one in zip(requests, kept, strict=True))
    beyond = kept[0].facts["beyond_accuracy"] if len(kept) == 1 else {}
    return Evaluation(
        judged=judged,
        first_day=day_of(date.fromisoformat(kept[0].facts["window"][0])),
        end_day=day_of(date.fromisoformat(kept[-1].facts["window"][1])) + 1,
        n_requests=sum(requests),
        in_window=sum(one.facts.get("requests_in_window", one.facts["requests"]) for one in kept),
        share_distinct=distinct / sum(requests),
        beyond={
            system: {name: math.nan if value is None else value for name, value in means.items()}
            for system, means in beyond.items()
            if system in names
        },
    )


def _key(inputs: Inputs, config: Config) -> str:
    """Hash of everything that the results of origins depend on."""
    parts = [config.digest(), dict(inputs.fingerprints), library_versions()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
