"""Read the table of candidates that a user supplies, if there is one."""

import polars as pl

from features.supplied import supplied_candidates
from features.timeline import EventLog
from pipelines.config import Config
from pipelines.storage import read_raw

__all__ = ["read_supplied"]


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
