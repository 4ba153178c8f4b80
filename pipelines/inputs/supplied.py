"""Read the optional tables beside the log: candidates and offers."""

from collections.abc import Callable, Mapping

import polars as pl

from features.candidates.supplied import supplied_candidates
from features.log.event_log import EventLog
from features.log.offers import coded_offers
from pipelines.base.config import Config
from pipelines.base.progress import say
from pipelines.inputs.tables import read_raw

__all__ = ["with_supplied"]

_TABLES: Mapping[str, tuple[str, Callable[[pl.DataFrame, EventLog], pl.DataFrame]]] = {
    "candidates": ("supplied", supplied_candidates),
    "offers": ("offers", coded_offers),
}
"""By key under `data`: the table's name in the log, and the function that codes its ids."""


def with_supplied(log: EventLog, config: Config) -> tuple[EventLog, dict[str, str]]:
    """The log with the tables `data.candidates` and `data.offers` under its codes, and the fingerprint of each by name.

    The log as it is, and no fingerprint, where none is configured.

    Raises:
        ConfigError: No file there.
        ContractError: See `features.candidates.supplied.supplied_candidates`, `features.log.offers.coded_offers`.
        IntegrityError: A file is truncated or empty.
    """
    tables, fingerprints = {}, {}
    for name, (name_in_log, coded) in _TABLES.items():
        table_config = getattr(config.data, name)
        if table_config is not None:
            table = read_raw(table_config, name=name, allow_empty=True)
            tables[name_in_log], fingerprints[name] = coded(table.frame, log), table.fingerprint
            rows = table.frame.height
            say(f"{name} read", rows=rows, of_unknown_items=rows - tables[name_in_log].height)
    return log.with_tables(**tables) if tables else log, fingerprints
