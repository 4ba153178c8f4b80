"""What every command begins with: its options, the configuration, the tables."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.base.config import Config
    from pipelines.inputs.check import Inputs
    from pipelines.registry.registry import Registry

__all__ = [
    "DEFAULT",
    "AllowEmpty",
    "ConfigPath",
    "Overrides",
    "VersionName",
    "config_keys",
    "dataset_names",
    "open_inputs",
    "open_settings",
    "registry_of",
    "say_read",
    "version_names",
]


def config_keys(incomplete: str) -> list[str]:
    """Completions of `--set`: the keys of the configuration that begin so."""
    from pipelines.base.option_tables import paths

    return [f"{path}=" for path in paths() if path.startswith(incomplete)]


def version_names(incomplete: str) -> list[str]:
    """Completions of a version: the aliases; numbers are in the registry, which is not asked for them."""
    return [alias for alias in ("champion", "challenger", "previous") if alias.startswith(incomplete)]


def dataset_names(incomplete: str) -> list[str]:
    """Completions of `nightrank data`."""
    from pipelines.verbs.datasets import NAMES

    return [name for name in NAMES if name.startswith(incomplete)]


ConfigPath = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
Overrides = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key, such as ranker.num_leaves=31.", autocompletion=config_keys
    ),
]
AllowEmpty = Annotated[bool, typer.Option("--allow-empty", help="Accept partitions without rows.")]
VersionName = Annotated[str, typer.Option("--version", help="Number or alias.", autocompletion=version_names)]

DEFAULT = Path("nightrank.yaml")


def open_inputs(
    config: Path, overrides: list[str], *, allow_empty: bool, at_once: bool = False
) -> "tuple[Config, Inputs]":
    """The configuration and its checked tables.

    Args:
        config: The file.
        overrides: Keys that are set beside.
        allow_empty: Whether partitions without rows are fine.
        at_once: Whether the log is read all at once, which keeps no state of it.
    """
    from pipelines.inputs.check import read_inputs
    from pipelines.inputs.read import read_events

    settings = open_settings(config, overrides)
    return settings, say_read((read_inputs if at_once else read_events)(settings, allow_empty=allow_empty))


def open_settings(config: Path, overrides: list[str]) -> "Config":
    """The configuration, after the classes that other packages bring are registered."""
    from pipelines.base.config import load_config
    from pipelines.training.feature_plan import load_plugins

    load_plugins()
    return load_config(config, overrides)


def say_read(inputs: "Inputs") -> "Inputs":
    """The tables, after saying what was read."""
    from pipelines.base.progress import say

    for name, table in inputs.tables.items():
        say(
            "read",
            table=name,
            rows=table.n_rows,
            quarantined=table.bad.height,
            ignored_columns=list(table.ignored),
            **_left_out(inputs.left_out.get(name, ())),
            **{"read_as_missing": dict(table.as_missing)} if table.as_missing else {},
        )
    far = inputs.log.far
    if far.counts:
        say("days far from all others are left out", events=far.events, days=far.dates())
    return inputs


def _left_out(paths: "Sequence[str]") -> dict[str, Any]:
    """How many files were not read, and the first of them; nothing where all were."""
    return {"files_left_out": len(paths), "such_as": list(paths[:5])} if paths else {}


def registry_of(settings: "Config") -> "Registry":
    """The model registry that the configuration names."""
    from pipelines.registry.registry import Registry

    return Registry(settings)
