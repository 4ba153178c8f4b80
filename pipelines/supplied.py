"""Read the table of candidates that a user supplies, if there is one."""

from features.supplied import supplied_candidates
from features.timeline import EventLog
from pipelines.config import Config
from pipelines.storage import read_raw

__all__ = ["with_supplied"]


def with_supplied(log: EventLog, config: Config) -> tuple[EventLog, dict[str, str]]:
    """The log with the table of `data.candidates` under its codes, and the fingerprint of that table by its name.

    The log as it is, and no fingerprint, where none is configured.

    Raises:
        ConfigError: No file there.
        ContractError: See `features.supplied.supplied_candidates`.
        IntegrityError: A file is truncated or empty.
    """
    if config.data.candidates is None:
        return log, {}
    table = read_raw(config.data.candidates, name="candidates", allow_empty=True)
    return log.with_supplied(supplied_candidates(table.frame, log)), {"candidates": table.fingerprint}
