"""The feature plan of a version: configured families, and families that installed packages register."""

from importlib.metadata import entry_points

from features.errors import ConfigError
from features.families.base import Family, Plan
from features.families.registry import inputs_read, register
from features.log.event_log import EventLog
from features.log.inventory import FeatureInventory
from pipelines.base.config import Config
from pipelines.base.progress import say

__all__ = ["GROUP", "load_families", "plan_of"]

GROUP = "nightrank.families"
"""Entry points of feature families that other packages bring."""


def load_families() -> None:
    """Register the families that installed packages offer under the entry point group `nightrank.families`.

    Raises:
        ConfigError: One cannot be imported, is no family, or has a name that is taken.
    """
    for point in entry_points(group=GROUP):
        try:
            family = point.load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"the feature family {point.value!r} cannot be imported: {error}") from error
        if not (isinstance(family, type) and issubclass(family, Family)):
            raise ConfigError(f"{point.value!r} is no subclass of features.families.base.Family.")
        register(family)


def plan_of(log: EventLog, config: Config, inventory: FeatureInventory | None = None) -> Plan:
    """The plan of features from what the log offers, or from the inventory of a version's training.

    Raises:
        ContractError: The log lacks part of the inventory.
    """
    if inventory is None:
        context = config.requests.context_columns
        inventory = FeatureInventory.of(log, config.features, text=config.data.items.text_fields, context=context)
        return Plan(config.features, inventory, config.requests)
    plan = Plan(config.features, inventory, config.requests)
    inventory.require(log, inputs_read(plan, config.candidates))
    if gone := inventory.gone(log):
        say("event types of the training that occur no longer", types=list(gone), counts="0")
    return plan
