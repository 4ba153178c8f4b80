"""What the policy of a promotion asks beside the evaluation's own tables: further slices, gaps between groups, cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from features.errors import ConfigError
from features.log.event_log import EventLog
from pipelines.base.config import Config
from pipelines.base.promotion_config import NEW_USER, PromotionConfig, column_of, nearest
from ranker.beyond_accuracy import exposure
from ranker.compare import Interval, clustered_interval, paired_difference
from ranker.judge import Judged, Window, of_positives
from ranker.tables import with_ids

__all__ = ["PolicyFigures", "SliceFigures", "metric_of", "policy_figures", "refuse_unknown_values"]

_NO_VALUE = "(no value)"


@dataclass(frozen=True, slots=True)
class SliceFigures:
    """A version in one slice.

    Attributes:
        level: Mean of the metric; None where no request of the window has a positive in the slice.
        lift: Mean difference from the champion on the same requests; None without a champion.
    """

    level: Interval | None
    lift: Interval | None = None


@dataclass(frozen=True, slots=True)
class PolicyFigures:
    """Figures that `promotion` asks for; what it does not ask for is empty.

    Attributes:
        slices: By slice.
        ndcg: Mean of the metric and number of requests of each group of users, by attribute.
        exposure: Share of the exposure and share of the positives of each group of items, by attribute.
        request_ms: Mean milliseconds from a request's candidates to its scores; None where that was not measured.
        memory_gb: Peak memory of the process when the version had scored the window; None likewise.
    """

    slices: Mapping[str, SliceFigures] = field(default_factory=dict)
    ndcg: Mapping[str, Mapping[str, tuple[float, int]]] = field(default_factory=dict)
    exposure: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    request_ms: float | None = None
    memory_gb: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Slices and groups as plain values; nothing where none is asked for."""
        slices = {
            name: {
                "requests": 0 if figures.level is None else figures.level.n_requests,
                "level": _limits(figures.level),
                "lift": _limits(figures.lift),
            }
            for name, figures in self.slices.items()
        }
        groups = {
            by: {group: dict(zip(names, values, strict=True)) for group, values in of_groups.items()}
            for names, of_attribute in ((("mean", "requests"), self.ndcg), (("exposure", "positives"), self.exposure))
            for by, of_groups in of_attribute.items()
        }
        return ({"policy_slices": slices} if slices else {}) | ({"policy_groups": groups} if groups else {})


def _limits(interval: Interval | None) -> list[float | None] | None:
    """Mean and 95 % interval, whose ends are None over a single user."""
    if interval is None:
        return None
    return [None if math.isnan(value) else value for value in (interval.mean, interval.low, interval.high)]


def metric_of(config: Config) -> str:
    """The metric that a promotion is decided by."""
    return config.promotion.metric or f"ndcg@{config.evaluation.cutoffs[-1]}"


def refuse_unknown_values(policy: PromotionConfig, log: EventLog) -> None:
    """Refuse slices of values that no row has.

    Raises:
        ConfigError: Names all of them, each with the nearest value.
    """
    faults = []
    for each in policy.slices:
        table, column, value = column_of(each.slice)
        if value is not None and not _is_value(_table(log, table)[column], value).any():
            values = _as_text(_table(log, table)[column]).drop_nulls().value_counts(sort=True)[column].to_list()
            faults.append(f"promotion.slices: no row of {table} has the {column} {value!r}. {nearest(value, values)}")
    if faults:
        raise ConfigError("\n".join(faults))


def policy_figures(
    judged: Judged,
    window: Window,
    lists: Mapping[str, pl.DataFrame],
    log: EventLog,
    config: Config,
    *,
    systems: Sequence[str],
) -> PolicyFigures:
    """The figures of slices and groups that the policy names.

    Args:
        judged: The systems on the window.
        window: Its requests and truth.
        lists: `Scored` of each system.
        log: Attributes of items and users.
        config: The policy, cut-offs and resamples.
        systems: The challenger, and the champion if there is one.
    """
    metric, policy = metric_of(config), config.promotion
    groups = [column_of(each.by)[:2] for each in policy.groups]
    every = judged.per_request.filter((pl.col("slice") == "all") & (pl.col("system") == systems[0]))
    return PolicyFigures(
        slices={
            each.slice: _compared(
                [_rows(each.slice, judged, window, log, config, system, lists[system]) for system in systems],
                metric,
                config,
            )
            for each in policy.slices
        },
        ndcg={f"users.{column}": _means(every, log, column, metric) for table, column in groups if table == "users"},
        exposure={
            f"items.{column}": _shares(lists[systems[0]], window, log, column, metric)
            for table, column in groups
            if table == "items"
        },
    )


def _rows(
    name: str, judged: Judged, window: Window, log: EventLog, config: Config, system: str, lists: pl.DataFrame
) -> pl.DataFrame:
    """The metrics of a system on the requests of a slice, by request."""
    table, column, value = column_of(name)
    if table == "items" and value is not None:
        items = log.items.filter(_is_value(log.items[column], value))["item"].implode()
        truth = window.truth.filter(pl.col("item").is_in(items))
        if truth.is_empty():
            return judged.per_request.clear()
        return of_positives(window, truth, lists.filter(pl.col("item").is_in(items)), config.evaluation).sort("request")
    rows = judged.per_request.filter(pl.col("system") == system).sort("request")
    if name == NEW_USER:
        return rows.filter(pl.col("slice") == "all").join(window.had_before, on="request", how="anti")
    if value is None:
        return rows.filter(pl.col("slice") == name)
    users = _table(log, table).with_row_index("user").filter(_is_value(_table(log, table)[column], value))
    return rows.filter(pl.col("slice") == "all", pl.col("user").is_in(users["user"].implode()))


def _compared(rows: Sequence[pl.DataFrame], metric: str, config: Config) -> SliceFigures:
    """Level of the first system's rows, and its lift over the second's."""
    first = rows[0].sort("request")
    if first.is_empty():
        return SliceFigures(None)
    resampled = {"resamples": config.evaluation.resamples, "seed": config.seed}
    level = clustered_interval(first[metric].to_numpy(), first["user"], **resampled)
    lift = None
    if len(rows) > 1:
        other = rows[1].sort("request")[metric].to_numpy()
        lift = paired_difference(first[metric].to_numpy(), other, first["user"], **resampled).difference
    return SliceFigures(level, lift)


def _means(rows: pl.DataFrame, log: EventLog, column: str, metric: str) -> dict[str, tuple[float, int]]:
    """Mean of the metric, and requests, of the users with each value of an attribute."""
    users = _table(log, "users").select(value=_as_text(_table(log, "users")[column]).fill_null(_NO_VALUE))
    by_value = rows.join(users.with_row_index("user"), on="user").group_by("value").agg(pl.col(metric).mean(), pl.len())
    return {value: (mean, count) for value, mean, count in by_value.sort("value").iter_rows()}


def _shares(
    lists: pl.DataFrame, window: Window, log: EventLog, column: str, metric: str
) -> dict[str, tuple[float, float]]:
    """Share of the exposure, and of the positives, of the items with each value of an attribute.

    Source: Biega, Gummadi & Weikum, "Equity of Attention" (SIGIR 2018): over many lists, attention should be in
    proportion to relevance. Attention is here a place among the first K, and relevance a positive.
    """
    k = int(metric.partition("@")[2].split(" ")[0])
    shown = exposure(with_ids(lists), log.items["item"], k=k)
    engaged = window.truth.group_by("item").len("positives")
    counted = (
        log.items.select("item", value=_as_text(log.items[column]).fill_null(_NO_VALUE))
        .with_columns(shown["exposure"])
        .join(engaged, on="item", how="left", maintain_order="left")
        .group_by("value")
        .agg(pl.col("exposure").sum(), pl.col("positives").sum())
        .sort("value")
    )
    shares = counted.with_columns(pl.col("exposure", "positives") / pl.col("exposure", "positives").sum())
    return {value: (exposed, merited) for value, exposed, merited in shares.fill_nan(0.0).iter_rows()}


def _table(log: EventLog, table: str) -> pl.DataFrame:
    """The catalogue, or the attributes of users in the order of their codes."""
    if table == "items":
        return log.items
    assert log.users is not None  # columns of users that are not there were refused when the tables were read
    return log.users


def _is_value(column: pl.Series, value: str) -> pl.Series:
    """Which rows have a value that is written so."""
    if column.dtype.is_numeric():
        try:
            return (column == float(value)).fill_null(value=False)
        except ValueError:
            return pl.Series(np.zeros(len(column), dtype=bool))
    return (column.cast(pl.String) == value).fill_null(value=False)


def _as_text(column: pl.Series) -> pl.Series:
    """Values as they are written in the configuration: whole numbers without a point."""
    if column.dtype.is_float() and (column.drop_nulls() % 1 == 0).all():
        column = column.cast(pl.Int64)
    return column.cast(pl.String)
