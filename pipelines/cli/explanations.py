"""The commands that say why: why a list is as it is, and why an item moved on it."""

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli.commands import Closing, command
from pipelines.cli.options import DEFAULT, ConfigPath, Overrides, VersionName, open_settings, registry_of, say_read

if TYPE_CHECKING:
    from pipelines.base.config import Config
    from pipelines.verbs.explain import Ranked

__all__ = ["explanations_app"]

explanations_app = typer.Typer()
_PANEL = "Look closer"
UserOption = Annotated[str, typer.Option("--user", help="The user's id.")]


@command(
    explanations_app,
    [
        "nightrank explain --user 4711",
        "nightrank explain --user 4711 --item 85123A",
        "nightrank explain --user 4711 --item 85123A --date 2024-05-01 --version challenger",
    ],
    panel=_PANEL,
)
def explain(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    user: UserOption,
    item: Annotated[str | None, typer.Option("--item", help="The item's id; else the whole list is explained.")] = None,
    when: Annotated[
        datetime | None, typer.Option("--date", formats=["%Y-%m-%d"], help="The day; else the one that is live.")
    ] = None,
    version: VersionName = "champion",
) -> Closing:
    """Say why a user is shown what they are shown: by feature family, by texts, and what would have to change."""
    from pipelines.verbs.explain import explain_item, explain_list, explanation_tables

    settings = open_settings(config, overrides)
    day = _live(settings) if when is None else when.date()
    ranked = _ranked(settings, user, day, version)
    facts = explain_list(ranked) if item is None else explain_item(ranked, item)
    return _closed(facts, explanation_tables(facts), f"explained the {'list' if item is None else 'item'} of {day}")


@command(
    explanations_app,
    ["nightrank why-moved --user 4711 --item 85123A --from 2024-04-30 --to 2024-05-01"],
    name="why-moved",
    panel=_PANEL,
)
def why_moved(
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    user: UserOption,
    item: Annotated[str, typer.Option("--item", help="The item's id.")],
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="A published day.")],
    second: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="A later one.")],
) -> Closing:
    """Say why an item's place on a user's list changed between two nights, as parts that add up to the difference."""
    from pipelines.verbs import explain as verb

    settings = open_settings(config, overrides)
    then, now = (_ranked(settings, user, day.date(), _version_of(settings, day.date())) for day in (first, second))
    facts = verb.why_moved(then, now, item)
    return _closed(facts, verb.move_tables(facts), f"compared {first:%Y-%m-%d} and {second:%Y-%m-%d}")


def _ranked(settings: "Config", user: str, when: date, version: str) -> "Ranked":
    """Read the tables under a version, and rank one user's candidates."""
    from pipelines.inputs.read import read_for
    from pipelines.registry.versions import load_version, plan_of_version, working_config
    from pipelines.verbs.explain import ranked_for

    name, bundle = load_version(registry_of(settings), version)
    own = working_config(settings, bundle)
    inputs = say_read(read_for(plan_of_version(settings, bundle), own, candidates=own.candidates))
    return ranked_for(inputs.log, settings, user=user, when=when, version=name, bundle=bundle)


def _live(settings: "Config") -> date:
    """The day that is live.

    Raises:
        ConfigError: Nothing is.
    """
    from pipelines.verbs.read import rankings_of

    return rankings_of(Path(settings.output) / "rankings").published.attempt.day


def _version_of(settings: "Config", when: date) -> str:
    """Number of the version that ranked a published day.

    Raises:
        ConfigError: Nothing was published for it.
    """
    from pipelines.verbs.read import rankings_of

    name: str = rankings_of(Path(settings.output) / "rankings", when).published.manifest["version"]
    return name.rpartition("/")[2]


def _closed(facts: dict[str, Any], tables: list[Any], done: str) -> Closing:
    """Show the tables and print the facts."""
    from pipelines.base import report

    report.show(*tables)
    report.result(facts)
    return Closing(done)
