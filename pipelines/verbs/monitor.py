"""Verb `monitor`: how good the published nights turned out, how good tonight's will be, and what drifts."""

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from features.errors import BlockedError, ConfigError
from features.log.event_log import EventLog, batch_day
from pipelines.base.config import Config
from pipelines.monitor.drift import Drift, drift_of
from pipelines.monitor.estimate import LEAST_NIGHTS, Estimate, estimate, mean_of_last
from pipelines.monitor.nights import judged_nights, nights_of, watched
from pipelines.monitor.prometheus import metrics_text
from pipelines.monitor.realised import ALL, BIASED, FALLBACK, NEW_ITEMS, Realised, SliceNdcg
from pipelines.monitor.trends import trends_page
from pipelines.night.measures import Measures
from pipelines.stores.storage import atomic_writer

__all__ = [
    "Monitored",
    "drift_table",
    "estimate_words",
    "monitor",
    "nights_table",
    "refuse_drifted",
    "write_metrics",
    "write_page",
]


@dataclass(frozen=True)
class Monitored:
    """What was seen of the published nights.

    Attributes:
        day: Tonight: the latest night that was looked at.
        nights: What became of each night, oldest first.
        estimate: Of tonight's NDCG, before its labels are there; None with too few past nights.
        mean_of_last: The mean of the last 14 nights, for comparison.
        drift: How far tonight has moved from the good nights before.
        measures: What was measured of the nights, oldest first.
        k: Of NDCG@k.
        opened: The cut-off that opened tonight's day.
    """

    day: date
    nights: list[Realised]
    estimate: Estimate | None
    mean_of_last: Estimate | None
    drift: list[Drift]
    measures: list[Measures]
    k: int
    opened: datetime

    @property
    def metric(self) -> str:
        """How it is called."""
        return f"ndcg@{self.k}"

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "date": str(self.day),
            "metric": self.metric,
            "caution": BIASED,
            "nights": [night.as_json() for night in self.nights],
            "estimate": None if self.estimate is None else self.estimate.as_json(),
            "mean_of_last": None if self.mean_of_last is None else self.mean_of_last.as_json(),
            "drift": [drift.as_json() for drift in self.drift],
        }


def monitor(log: EventLog, config: Config, *, until: date | None = None) -> Monitored:
    """Look at the published nights.

    Args:
        log: The log, with the events that labels are made of.
        config: Everything configured.
        until: Look at things as they were when this day's night was live; None: the night that is live.

    Raises:
        ConfigError: Nothing was published up to then.
    """
    nights = nights_of(Path(config.output) / "rankings", until=until, most=config.monitor.nights)
    if not nights:
        up_to = "" if until is None else f" up to {until}"
        raise ConfigError(f"nothing was published{up_to}, so there is nothing to watch: nightrank score --date DAY.")
    end_day = log.last_day + 1 if until is None else batch_day(until)
    judged = list(judged_nights(nights, log, config, end_day=end_day))
    past, (_, tonight) = [users for became, users in judged[:-1] if became.state == "closed"], judged[-1]
    return Monitored(
        day=nights[-1].day,
        nights=[became for became, _ in judged],
        estimate=estimate(past, tonight),
        mean_of_last=mean_of_last(past),
        drift=drift_of(watched(nights, config), config.monitor.drift),
        measures=[night.measures for night in nights if night.measures is not None],
        k=config.evaluation.cutoffs[-1],
        opened=log.calendar.cutoff(batch_day(nights[-1].day)),
    )


def refuse_drifted(monitored: Monitored) -> None:
    """Stop where tonight moved further than a check of level `block` allows.

    Raises:
        BlockedError: It did; every such check is named.
    """
    blocked = [drift for drift in monitored.drift if drift.verdict == "blocked"]
    if blocked:
        words = "; ".join(f"{drift.check}: {drift.words}" for drift in blocked)
        raise BlockedError(
            f"the night of {monitored.day} moved too far from the nights before: {words}. What is live stays live. "
            "Look into its inputs; `nightrank live` goes back to an earlier night, and monitor.drift has the limits."
        )


def write_metrics(monitored: Monitored, path: Path) -> None:
    """Write a Prometheus textfile, whole or not at all: the collector may read it at any time."""
    text = metrics_text(
        monitored.nights, monitored.drift, monitored.estimate, opened_seconds=monitored.opened.timestamp()
    )
    with atomic_writer(path) as file:
        file.write(text.encode())


def write_page(monitored: Monitored, path: Path) -> None:
    """Write the page of trends."""
    page = trends_page(
        monitored.nights, monitored.drift, monitored.measures, monitored.estimate, metric=monitored.metric
    )
    with atomic_writer(path) as file:
        file.write(page.encode())


def nights_table(monitored: Monitored) -> Table:
    """What became of each night, for people."""
    k = monitored.k
    title = f"Realised NDCG@{k} of the published nights [95 % interval]"
    table = Table("night", "version", ALL, "users", FALLBACK, NEW_ITEMS, title=title, caption=BIASED)
    for night in monitored.nights:
        cells = [_cell(night.slices.get(name)) for name in (ALL, FALLBACK, NEW_ITEMS)]
        users = str(night.slices[ALL].users) if ALL in night.slices else "-"
        if night.state != "closed":
            cells[0] = "its labels have not closed yet" if night.state == "open" else night.state
        table.add_row(str(night.day), night.version, cells[0], users, *cells[1:])
    return table


def estimate_words(monitored: Monitored) -> str:
    """What tonight's NDCG will be, in a sentence."""
    k, of = monitored.k, monitored.estimate
    if of is None:
        return f"NDCG@{k} of {monitored.day} is estimated once {LEAST_NIGHTS} nights before it have closed."
    limits = f"[{of.low:.3f}, {of.high:.3f}]"
    words = f"Estimated NDCG@{k} of {monitored.day}, before its labels are there: {of.value:.4f} {limits}"
    mean = monitored.mean_of_last
    return words + ("." if mean is None else f"; the mean of the last {mean.nights} nights is {mean.value:.4f}.")


def drift_table(monitored: Monitored) -> Table:
    """Every check with what it allows and what it saw."""
    table = Table("check", "verdict", "limit", "seen", title=f"Drift of the night of {monitored.day}")
    for drift in monitored.drift:
        style = {"blocked": "bold red", "warned": "yellow"}.get(drift.verdict)
        table.add_row(drift.check, drift.verdict, f"{drift.limit:g}", drift.words, style=style)
    return table


def _cell(ndcg: SliceNdcg | None) -> str:
    if ndcg is None:
        return "-"
    limits = "-" if ndcg.low is None else f"{ndcg.low:.3f}, {ndcg.high:.3f}"
    return f"{ndcg.mean:.4f} [{limits}]"
