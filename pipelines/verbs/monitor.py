"""Verb `monitor`: how good the published nights turned out, how good tonight's will be, and what drifts."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from rich.table import Table

from features.errors import ConfigError
from features.log.event_log import EventLog, batch_day
from pipelines.base.config import Config
from pipelines.monitor.nights import judged_nights, nights_of
from pipelines.monitor.realised import ALL, BIASED, FALLBACK, NEW_ITEMS, Realised, SliceNdcg

__all__ = ["Monitored", "monitor", "nights_table"]


@dataclass(frozen=True)
class Monitored:
    """What was seen of the published nights.

    Attributes:
        day: Tonight: the latest night that was looked at.
        nights: What became of each night, oldest first.
        cutoff: The k of NDCG@k.
    """

    day: date
    nights: list[Realised]
    cutoff: int

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "date": str(self.day),
            "metric": f"ndcg@{self.cutoff}",
            "caution": BIASED,
            "nights": [night.as_json() for night in self.nights],
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
    judged = [result for _, result in judged_nights(nights, log, config, end_day=end_day)]
    return Monitored(nights[-1].day, judged, config.evaluation.cutoffs[-1])


def nights_table(monitored: Monitored) -> Table:
    """What became of each night, for people."""
    k = monitored.cutoff
    title = f"Realised NDCG@{k} of the published nights [95 % interval]"
    table = Table("night", "version", ALL, "users", FALLBACK, NEW_ITEMS, title=title, caption=BIASED)
    for night in monitored.nights:
        cells = [_cell(night.slices.get(name)) for name in (ALL, FALLBACK, NEW_ITEMS)]
        users = str(night.slices[ALL].users) if ALL in night.slices else "-"
        if night.state != "closed":
            cells[0] = "its labels have not closed yet" if night.state == "open" else night.state
        table.add_row(str(night.day), night.version, cells[0], users, *cells[1:])
    return table


def _cell(ndcg: SliceNdcg | None) -> str:
    if ndcg is None:
        return "-"
    limits = "-" if ndcg.low is None else f"{ndcg.low:.3f}, {ndcg.high:.3f}"
    return f"{ndcg.mean:.4f} [{limits}]"
