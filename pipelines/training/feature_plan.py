"""The feature plan of a version: configured families, and families that installed packages register."""

from collections.abc import Callable
from typing import Any

from features.candidates import catalog
from features.errors import ConfigError
from features.families import registry
from features.families.registry import inputs_read
from features.log.event_log import EventLog
from features.log.inventory import FeatureInventory
from features.signals.family import Family, Plan
from features.signals.generator import Generator
from pipelines.base.config import Config
from pipelines.base.plugins import installed
from pipelines.base.progress import say

__all__ = ["GROUPS", "load_plugins", "plan_of"]

GROUPS: dict[str, tuple[type[Any], Callable[[Any], object]]] = {
    "nightrank.families": (Family, registry.register),
    "nightrank.generators": (Generator, catalog.register),
}
"""Entry point groups by which installed packages bring classes: what such a class must be, and how it is registered."""


def load_plugins() -> None:
    """Register the feature families and candidate generators that installed packages bring, by `GROUPS`.

    Raises:
        ConfigError: One cannot be imported, is of another class, or has a name that is taken.
    """
    for group, (base, register) in GROUPS.items():
        for name, plugin in installed(group, base.__name__.lower()):
            if not (isinstance(plugin, type) and issubclass(plugin, base)):
                raise ConfigError(f"{name!r} is no subclass of {base.__module__}.{base.__name__}.")
            register(plugin)


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
