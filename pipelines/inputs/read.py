"""The tables as commands read them: items and users whole, the log file by file through the state on disk.

A night reads only the files of the log that are new to the kept state. Training, evaluation and whatever else needs
single events read all files, one at a time, fold the new ones, and keep the events that labels and features need.
"""

from collections.abc import Mapping

from features.config import CandidatesConfig
from features.errors import ConfigError, ContractError
from features.families.registry import events_read
from features.signals.family import Plan
from features.tables.contracts import Checked, refuse_written_twice
from pipelines.base.config import Config
from pipelines.base.progress import say
from pipelines.inputs.check import (
    Inputs,
    checked_tables,
    joint_text_ids,
    raw_tables,
    read_inputs,
    refuse_unknown_names,
    set_aside,
    with_joint_ids,
)
from pipelines.inputs.event_files import EventFiles
from pipelines.inputs.folding import Folding, IdsAreTextError
from pipelines.inputs.supplied import with_supplied
from pipelines.inputs.tables import RawTable

__all__ = ["read_events", "read_for", "read_night"]


def read_for(
    plan: Plan, config: Config, *, candidates: CandidatesConfig | None = None, allow_empty: bool = False
) -> Inputs:
    """Read the tables for a night of a version: by `read_night`, if daily counts are all it needs of the events.

    Args:
        plan: What the version's columns are made of.
        config: Where the tables lie and what is allowed.
        candidates: The version's generators; None for none that needs more.
        allow_empty: Whether partitions without rows are fine.

    Raises:
        ContractError: Every fault of every table in one message.
        IntegrityError: A file is truncated or empty.
        ConfigError: A file is not there, or the configuration names a family or a column that is not.
    """
    today = (*config.features.sentiment_columns, *config.requests.context_columns)
    one_by_one = sorted({*events_read(plan, candidates), *today})
    if not one_by_one:
        return read_night(config, allow_empty=allow_empty)
    say("every file is read", because="the version reads more of the events than counts by day", columns=one_by_one)
    return _read(config, EventFiles(config, labels=False), allow_empty=allow_empty)


def read_events(config: Config, *, allow_empty: bool = False) -> Inputs:
    """Read the tables for a training or an evaluation: the same as `check.read_inputs`, a file of the log at a time.

    Args:
        config: Where they lie and what is allowed.
        allow_empty: Whether partitions without rows are fine.

    Returns:
        The inputs. Of the events, `log` holds cells, and on disk what labels and features need of single ones; `good`
        of their table is empty.

    Raises:
        ContractError: Every fault of every table in one message.
        IntegrityError: A file is truncated or empty.
        ConfigError: A file is not there, or the configuration names a family or a column that is not.
        TryAgainError: The disk is full or refuses, or a file changed meanwhile.
    """
    return _read(config, EventFiles(config), allow_empty=allow_empty)


def read_night(config: Config, *, allow_empty: bool = False) -> Inputs:
    """Read the tables for a night; the same log, quarantine and fingerprints as `check.read_inputs`.

    Args:
        config: Where they lie and what is allowed.
        allow_empty: Whether partitions without rows are fine.

    Returns:
        The inputs. Of the events, `log` holds the cells alone, and `good` of their table
        is empty: the rows were not read.

    Raises:
        ContractError: Every fault of every table in one message.
        IntegrityError: A file is truncated or empty.
        ConfigError: A file is not there, or the configuration names a family or a column that is not.
    """
    return _read(config, None, allow_empty=allow_empty)


def _read(config: Config, gathered: EventFiles | None, *, allow_empty: bool) -> Inputs:
    """Read the tables, the log file by file.

    Args:
        config: See `read_events`.
        gathered: Collects the single events; None for cells alone.
        allow_empty: See `read_events`.
    """
    raw = raw_tables(config, ("items", "users"), allow_empty=allow_empty)
    try:
        refuse_unknown_names(raw, config)
        folding, checked = _folded(raw, config, gathered, allow_empty=allow_empty)
    except (ConfigError, ContractError):
        read_inputs(config, allow_empty=allow_empty)  # which names the faults of all tables together
        raise
    checked = {"items": checked["items"], "events": folding.events(), **checked}
    quarantine = set_aside(checked, config)
    users = checked["users"].good if "users" in checked else None
    fingerprints = {name: table.fingerprint for name, table in raw.items()}
    whole = folding.log(users)
    refuse_written_twice(whole.user_ids, "user_id", tables="events and users")
    log, supplied = with_supplied(whole.without_far_days(), config)
    left_out = {name: table.left_out for name, table in raw.items()} | {"events": folding.left_out}
    return Inputs(checked, {**fingerprints, "events": folding.fingerprint, **supplied}, quarantine, log, left_out)


def _folded(
    raw: Mapping[str, RawTable], config: Config, gathered: EventFiles | None, *, allow_empty: bool
) -> tuple[Folding, dict[str, Checked]]:
    """The folded log and the other checked tables, with ids of one type in all of them."""
    text = joint_text_ids(raw)
    while True:
        checked = checked_tables(with_joint_ids(raw, text), config)
        folding = Folding(config, checked["items"], text, gathered)
        try:
            folding.update(allow_empty=allow_empty)
        except IdsAreTextError as error:
            text |= error.names
        else:
            return folding, checked
