"""Verb `features`: lists all columns, and describes their statistics and their drift from a reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import TypeAdapter, ValidationError

from features.assemble import Assembler
from features.config import CandidatesConfig, FeaturesConfig, RequestsConfig
from features.errors import ConfigError, IntegrityError
from features.families.registry import FAMILIES, chosen
from features.families.request import source_group
from features.families.statistics import ColumnStatistics, drifts, statistics_of
from features.log.event_log import EventLog, date_of
from features.log.inventory import FeatureInventory
from features.requests.split import Span, Split
from features.signals.family import Plan
from pipelines.base.config import Config
from pipelines.base.progress import task
from pipelines.stores.storage import read_json, write_json
from pipelines.training.feature_plan import plan_of
from pipelines.training.request_source import request_source

__all__ = [
    "Described",
    "catalogue_of_columns",
    "describe",
    "read_reference",
    "write_reference",
]

_MOST_REQUESTS = 2000  # latest requests of the window that are looked at
_REFERENCE = TypeAdapter(dict[str, ColumnStatistics])


@dataclass(frozen=True, slots=True)
class Described:
    """Statistics of the feature columns over some requests.

    Attributes:
        first_day: First day of the requests looked at.
        last_day: Last day.
        requests: How many.
        columns: Statistics of each column.
        psi: Population stability index of each column that the reference has too.
        gone: Columns of the reference that there are no longer.
    """

    first_day: int
    last_day: int
    requests: int
    columns: Mapping[str, ColumnStatistics]
    psi: Mapping[str, float]
    gone: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        columns = {name: column.model_dump(mode="json") for name, column in self.columns.items()}
        return {
            "window": [str(date_of(self.first_day)), str(date_of(self.last_day))],
            "requests": self.requests,
            "columns": columns,
            "psi": dict(self.psi),
            "gone": list(self.gone),
        }


def catalogue_of_columns(
    config: FeaturesConfig,
    *,
    kinds: tuple[str, ...],
    text: tuple[str, ...],
    requests: RequestsConfig,
    candidates: CandidatesConfig,
    offers: bool = False,
) -> list[dict[str, Any]]:
    """Every column there can be: column, family, on, text, windows_days, meaning.

    A family that has none as configured stands there with an empty name. No data are read: what a column needs of
    the log (prices, comments, ...) is taken to be there.

    Args:
        config: Which families are on.
        kinds: Event types that are counted one by one.
        text: Text fields of the catalogue.
        requests: Whether a request's own time and context are known.
        candidates: Which generators of your own there are.
        offers: Whether there is a table of offers; KIND stands for each kind of it.
    """
    on = {family.name for family in chosen(config)}
    rows = []
    for family in FAMILIES.values():
        plan = Plan(config, _everything(config, kinds, text, requests.context_columns, offers=offers), requests)
        columns, knows_text = family.columns_of(plan), family.text_of(plan)
        nothing = {"": f"(nothing configured) {(family.__doc__ or '').splitlines()[0]}"}
        for name, meaning in (columns or nothing).items():
            rows.append(
                {
                    "family": family.name,
                    "column": name,
                    "on": family.name in on,
                    "text": name in knows_text or family.is_text,
                    "windows_days": list(family.windows),
                    "meaning": meaning,
                }
            )
    sources = source_group(candidates)
    rows += [
        {"family": sources.name, "column": name, "on": True, "text": name in sources.text, "windows_days": []}
        | {"meaning": meaning}
        for name, meaning in sources.columns.items()
    ]
    return rows


def describe(log: EventLog, config: Config, *, reference: Path | None = None, latest: bool = False) -> Described:
    """Statistics of every feature over the validation window, or over the latest requests.

    Candidates are those of all generators but text neighbours, and interest columns are left out: no encoder is loaded.

    Args:
        log: The event log.
        config: Everything configured.
        reference: File that an earlier `describe` wrote; None for no drift.
        latest: Look at the latest requests of the log rather than at validation.

    Raises:
        ConfigError: The window has no request, or the reference is not there.
        IntegrityError: The reference is no such file.
    """
    earlier = None if reference is None else read_reference(reference)
    span = _window(log, config, latest=latest)
    requests = request_source(log, config).between(span.start, span.end).tail(_MOST_REQUESTS)
    if requests.is_empty():
        raise ConfigError("features describe: the window has no request. Use --latest, or change timeline.")
    assembler = Assembler(log, config.candidates, None, plan_of(log, config))
    parts = []
    with task("Computing features", requests.height, "requests") as advance:
        for portion in assembler.portions(requests):
            parts.append(portion.rows.select(assembler.features))
            advance(portion.requests.height)
    rows, days = pl.concat(parts), requests["as_of_day"]
    return Described(
        first_day=int(days[0]),
        last_day=int(days[-1]),
        requests=requests.height,
        columns=statistics_of(rows),
        psi={} if earlier is None else drifts(rows, earlier),
        gone=[name for name in earlier or () if name not in rows.columns],
    )


def read_reference(path: Path) -> dict[str, ColumnStatistics]:
    """The statistics that an earlier `describe` wrote.

    Raises:
        ConfigError: No file there.
        IntegrityError: It holds something else.
    """
    if not path.is_file():
        raise ConfigError(f"no reference at {str(path)!r}. Write one with: nightrank features describe --to FILE.")
    try:
        return _REFERENCE.validate_python(read_json(path, what="reference")["columns"])
    except (ValidationError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{path} is no reference. Write one with: nightrank features describe --to FILE."
        ) from error


def write_reference(described: Described, path: Path) -> None:
    """Keep statistics for a later comparison."""
    write_json(described.as_json(), path)


def _window(log: EventLog, config: Config, *, latest: bool) -> Span:
    if latest:
        return Span(log.first_day, log.last_day + 1, log.last_day + 1)
    return Split.of(log, config.timeline, config.labels).valid


def _everything(
    config: FeaturesConfig, kinds: tuple[str, ...], text: tuple[str, ...], context: tuple[str, ...], *, offers: bool
) -> FeatureInventory:
    """An inventory that lacks nothing."""
    roles = config.roles
    parts = (roles.shown, roles.clicked, roles.bought, roles.returned)
    occurring = tuple(dict.fromkeys((*kinds, *(kind for part in parts for kind in part))))
    items = ("category", "price", *config.attributes.items, *config.vectors)
    inputs = (
        *(f"items.{name}" for name in items),
        *(f"users.{name}" for name in config.attributes.users),
        *(f"events.{name}" for name in ("text", "query", *config.sentiment_columns, *context)),
    )
    return FeatureInventory(
        kinds=occurring,
        counted=kinds,
        inputs=(*inputs, "offers.offer") if offers else inputs,
        text=text,
        vocabularies={},
        offers=("KIND",) if offers else (),
    )
