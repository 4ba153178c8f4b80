"""Read the table of candidates that a user supplies, if there is one."""

import polars as pl

from features.supplied import supplied_candidates
from features.timeline import EventLog
from pipelines.config import Config
from pipelines.storage import read_raw

__all__ = ["read_supplied", "supplied_fingerprint"]


def read_supplied(config: Config, log: EventLog) -> pl.DataFrame | None:
    """The table of `data.candidates`, coded by the log's users and items; None where none is configured.

    Raises:
        ConfigError: No file there.
        ContractError: See `features.supplied.supplied_candidates`.
        IntegrityError: A file is truncated or empty.
    """
    table = config.data.candidates
    if table is None:
        return None
    return supplied_candidates(read_raw(table, name="candidates", allow_empty=True).frame, log)


def supplied_fingerprint(config: Config, log: EventLog) -> dict[str, str]:
    """The table's part of what a night is made from, by its name; empty where none is configured.

    Raises:
        ConfigError: See `read_supplied`, like all that follow: a table with faults is told where tables are read.
    """
    if config.data.candidates is None:
        return {}
    read_supplied(config, log)
    return {"candidates": read_raw(config.data.candidates, name="candidates", allow_empty=True).fingerprint}
