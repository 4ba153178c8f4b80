"""Judge many systems on the same requests: slices, intervals, paired comparisons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from features.requests.engaged import SLICES, VALUE_LABEL
from features.tables.frames import PAIR
from ranker.compare import PairedResult, clustered_intervals, holm, paired_difference
from ranker.config import EvaluationConfig
from ranker.metrics import per_request
from ranker.tables import Ceiling, Comparisons, Means, PerRequest, with_ids

__all__ = ["Judged", "Window", "by_request", "by_value", "judge", "of_positives", "pooled"]


@dataclass(frozen=True, slots=True)
class Window:
    """Requests of a test window, and their truth.

    Attributes:
        requests: `Requests`: every one.
        truth: `Truth`: every positive; of `ValuedTruth` NDCG is computed by value too.
        had_before: `Pairs`: what the user had engaged with before the as-of.
        cold: Item codes that nobody had engaged with before the window.
    """

    requests: pl.DataFrame
    truth: pl.DataFrame
    had_before: pl.DataFrame
    cold: pl.Series


@dataclass(frozen=True, slots=True)
class Judged:
    """Metrics, intervals and comparisons of the systems on a window.

    Attributes:
        table: `ranker.tables.Means`.
        pairs: `ranker.tables.Comparisons`.
        per_request: `ranker.tables.PerRequest`, and one column a metric.
        ceiling: `ranker.tables.Ceiling`.
    """

    table: pl.DataFrame
    pairs: pl.DataFrame
    per_request: pl.DataFrame
    ceiling: pl.DataFrame

    def row(self, system: str, slice_name: str, metric: str) -> dict[str, float]:
        """One row of the table."""
        wanted = (pl.col("system") == system) & (pl.col("slice") == slice_name) & (pl.col("metric") == metric)
        return self.table.row(by_predicate=wanted, named=True)

    def pair(self, system: str, against: str, slice_name: str, metric: str) -> dict[str, float]:
        """One row of the comparisons."""
        wanted = (pl.col("system") == system) & (pl.col("against") == against) & (pl.col("slice") == slice_name)
        return self.pairs.row(by_predicate=wanted & (pl.col("metric") == metric), named=True)


def judge(
    window: Window,
    systems: Mapping[str, pl.DataFrame],
    *,
    candidates: pl.DataFrame,
    config: EvaluationConfig,
    seed: int,
    compared: Sequence[tuple[str, str]] = (),
) -> Judged:
    """Score every system's lists on every slice.

    Args:
        window: Requests and truth.
        systems: `Scored` of each system; what a list lacks counts as missed.
        candidates: `Pairs` that the rankers could choose from.
        config: Cut-offs and resamples.
        seed: Seed of the bootstrap.
        compared: Pairs (system, against) to compare request by request.

    Raises:
        ContractError: A list has duplicates or scores that are no numbers.
    """
    rows = by_request(window, systems, config)
    return _verdict(rows, _ceiling(window, candidates), config=config, seed=seed, compared=compared)


def by_request(window: Window, systems: Mapping[str, pl.DataFrame], config: EvaluationConfig) -> pl.DataFrame:
    """`Judged.per_request`: what `judge` makes its verdict of.

    Args:
        window: Requests and truth.
        systems: As `judge` takes them.
        config: Cut-offs.

    Raises:
        ContractError: A list has duplicates or scores that are no numbers.
    """
    judged = []
    for slice_name in SLICES:
        truth = _within(window.truth, window, slice_name)
        if truth.is_empty():
            continue
        for system, lists in systems.items():
            metrics = of_positives(window, truth, _within(lists, window, slice_name), config)
            judged.append(metrics.with_columns(system=pl.lit(system), slice=pl.lit(slice_name)))
    names = [f"ndcg@{k}" for k in config.cutoffs] + [f"recall@{k}" for k in config.cutoffs]
    names += [by_value(f"ndcg@{k}") for k in config.cutoffs] if VALUE_LABEL in window.truth.columns else []
    return pl.concat(judged).select(*PerRequest.column_names(), *names)


def of_positives(window: Window, truth: pl.DataFrame, lists: pl.DataFrame, config: EvaluationConfig) -> pl.DataFrame:
    """Metrics of one system's lists by some of the positives.

    Args:
        window: Users of the requests.
        truth: Rows of the window's truth, one or more; requests without any are not judged.
        lists: `Scored`, of the same items as the truth.
        config: Cut-offs.

    Returns:
        request, user and one column a metric.
    """
    metrics = _metrics(with_ids(lists), with_ids(truth), config).rename({"request_id": PerRequest.request.name})
    return metrics.join(window.requests.select("request", "user"), on="request", maintain_order="left")


def pooled(
    windows: Sequence[pl.DataFrame],
    recalls: Sequence[Mapping[str, float | None]],
    *,
    config: EvaluationConfig,
    seed: int,
    compared: Sequence[tuple[str, str]] = (),
) -> Judged:
    """The verdict over several windows as over one: every request counts alike, and a user of several is one cluster.

    Args:
        windows: `Judged.per_request` of each, of the same systems; `user` means the same user in all.
        recalls: Candidates' recall of each by slice, None where it has no request.
        config: As each window was judged by.
        seed: Seed of the bootstrap.
        compared: As `judge` takes them.
    """
    starts = np.cumsum([0, *(int(rows["request"].max() or 0) + 1 for rows in windows)])  # type: ignore[arg-type]
    rows = pl.concat(
        rows.with_columns(pl.col("request") + pl.lit(start, PerRequest.request.dtype))
        for rows, start in zip(windows, starts, strict=False)
    )
    shares = []
    for name in SLICES:
        counts = [part.filter(pl.col("slice") == name)["request"].n_unique() for part in windows]
        retrieved = sum(count * (recall[name] or 0.0) for count, recall in zip(counts, recalls, strict=True))
        shares.append({"slice": name, "recall": retrieved / sum(counts) if sum(counts) else None})
    ceiling = pl.DataFrame(shares, schema=Ceiling.dtypes())
    return _verdict(rows, ceiling, config=config, seed=seed, compared=compared)


def _verdict(
    rows: pl.DataFrame,
    ceiling: pl.DataFrame,
    *,
    config: EvaluationConfig,
    seed: int,
    compared: Sequence[tuple[str, str]],
) -> Judged:
    """Intervals and comparisons from metrics by request."""
    return Judged(
        table=_table(rows, config.resamples, seed),
        pairs=_pairs(rows, compared, config, seed),
        per_request=rows,
        ceiling=ceiling,
    )


def by_value(metric: str) -> str:
    """Name of a metric whose labels are raised by the value of the events: `ndcg@10 (value)`."""
    return f"{metric} (value)"


def _metrics(lists: pl.DataFrame, truth: pl.DataFrame, config: EvaluationConfig) -> pl.DataFrame:
    """`per_request`, and NDCG by value where the truth has labels for it."""
    judged = per_request(lists, truth, cutoffs=config.cutoffs)
    if VALUE_LABEL not in truth.columns:
        return judged
    raised = per_request(lists, truth.with_columns(label=VALUE_LABEL), cutoffs=config.cutoffs)
    return judged.with_columns(raised[f"ndcg@{k}"].alias(by_value(f"ndcg@{k}")) for k in config.cutoffs)


def _within(frame: pl.DataFrame, window: Window, slice_name: str) -> pl.DataFrame:
    """Rows (`Pairs` and more) whose item belongs to the slice."""
    if slice_name == "repeat":
        return frame.join(window.had_before, on=PAIR, how="semi")
    if slice_name == "new-to-user":
        return frame.join(window.had_before, on=PAIR, how="anti")
    if slice_name == "cold item":
        return frame.filter(pl.col("item").is_in(window.cold.implode()))
    return frame


def _table(rows: pl.DataFrame, resamples: int, seed: int) -> pl.DataFrame:
    table = []
    names = [name for name in rows.columns if "@" in name]
    for (system, slice_name), part in rows.group_by("system", "slice", maintain_order=True):
        intervals = clustered_intervals(part.select(names), part["user"], resamples=resamples, seed=seed)
        table += [
            {
                "system": system,
                "slice": slice_name,
                "metric": name,
                "mean": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "requests": interval.n_requests,
                "users": interval.n_clusters,
            }
            for name, interval in intervals.items()
        ]
    return pl.DataFrame(table, schema=Means.dtypes())


def _pairs(
    rows: pl.DataFrame, compared: Sequence[tuple[str, str]], config: EvaluationConfig, seed: int
) -> pl.DataFrame:
    table: list[dict[str, str | float | None]] = []
    metrics = [name for name in rows.columns if name.startswith("ndcg@")]
    parts = rows.sort("request").partition_by("system", "slice", as_dict=True)
    for system, against in compared:
        slices = [name for name in SLICES if (system, name) in parts and (against, name) in parts]
        results = {
            (name, metric): paired_difference(
                parts[system, name][metric],
                parts[against, name][metric],
                parts[system, name]["user"],
                resamples=config.resamples,
                seed=seed,
            )
            for name in slices
            for metric in metrics
        }
        adjusted: dict[tuple[str, str], float] = {}
        for metric in metrics:
            judged = [
                key for key in results if key[1] == metric and results[key].minimal_detectable_effect <= config.effect
            ]
            adjusted |= zip(judged, holm([results[key].p_value for key in judged]), strict=True)
        for (name, metric), result in results.items():
            keys = {"system": system, "against": against, "slice": name, "metric": metric}
            table.append({**keys, **_row_of(result), "p_holm": adjusted.get((name, metric))})
    return pl.DataFrame(table, schema=Comparisons.dtypes())


def _row_of(result: PairedResult) -> dict[str, float]:
    return {
        "difference": result.difference.mean,
        "low": result.difference.low,
        "high": result.difference.high,
        "p_value": result.p_value,
        "wins": result.wins,
        "ties": result.ties,
        "losses": result.losses,
        "detectable": result.minimal_detectable_effect,
    }


def _ceiling(window: Window, candidates: pl.DataFrame) -> pl.DataFrame:
    retrieved = candidates.select(PAIR).with_columns(hit=pl.lit(1.0))
    shares = []
    for slice_name in SLICES:
        truth = _within(window.truth, window, slice_name)
        hits = truth.join(retrieved, on=PAIR, how="left").group_by("request").agg(pl.col("hit").fill_null(0).mean())
        shares.append({"slice": slice_name, "recall": hits["hit"].mean()})
    return pl.DataFrame(shares, schema=Ceiling.dtypes())
