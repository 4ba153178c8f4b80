"""The command `help`: topics, and what each key of the configuration means."""

import difflib
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from features.errors import ConfigError
from pipelines.cli.commands import command
from pipelines.cli.topics import TOPICS, text_of

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["help_app"]

help_app = typer.Typer()
_CONFIG = "config"
_CONFIG_LINE = "Every key of nightrank.yaml: values, default, meaning (`nightrank help config ranker`)."


def _completed_topics(incomplete: str) -> list[tuple[str, str]]:
    lines = [(topic.name, topic.line) for topic in TOPICS] + [(_CONFIG, _CONFIG_LINE)]
    return [(name, line) for name, line in lines if name.startswith(incomplete)]


def _completed_paths(incomplete: str) -> list[str]:
    from pipelines.base.option_tables import paths

    return [path for path in paths() if path.startswith(incomplete)]


@command(
    help_app,
    ["nightrank help", "nightrank help tables", "nightrank help config", "nightrank help config ranker.network"],
    name="help",
    panel="Begin",
)
def show_help(
    context: typer.Context,
    topic: Annotated[str, typer.Argument(help="A topic, a command, or config.", autocompletion=_completed_topics)] = "",
    path: Annotated[str, typer.Argument(help="After config: a section or key.", autocompletion=_completed_paths)] = "",
) -> None:
    """List the topics, or print one; `nightrank help config PATH` says what keys of the configuration mean."""
    root = context.find_root().command
    commands = getattr(root, "commands", {})
    if path and topic != _CONFIG:
        raise ConfigError(f"only `nightrank help {_CONFIG}` takes a second word. Leave out {path!r}.")
    texts = {one.name: one for one in TOPICS}
    if not topic:
        _list_topics(commands)
    elif topic == _CONFIG:
        _show_config(path)
    elif topic in texts:
        _print_markdown(text_of(texts[topic]))
    elif topic in commands:
        root.main([topic, "--help"], prog_name="nightrank")
    else:
        near = difflib.get_close_matches(topic, [*texts, _CONFIG, *commands], n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}?" if near else "`nightrank help` lists them."
        raise ConfigError(f"there is no topic and no command {topic!r}. {hint}")


def _list_topics(commands: Iterable[str]) -> None:
    rows = [*((one.name, one.line) for one in TOPICS), (_CONFIG, _CONFIG_LINE)]
    _print_pairs("Topics: nightrank help TOPIC", rows)
    _print_lines(f"Commands: nightrank COMMAND --help, of {', '.join(commands)}.")


def _show_config(path: str) -> None:
    """The table of a section, or without a path the sections."""
    from pipelines.base.option_tables import effects, example_of, markdown_table, options_of, overview

    if not path:
        _print_pairs("Sections and keys of nightrank.yaml: nightrank help config PATH", overview())
        return
    options = options_of(path)
    if not sys.stdout.isatty():
        sys.stdout.write(markdown_table(path))
        return
    from rich import box
    from rich.table import Table

    table = Table(
        "key", "values", "default", "meaning", title=path, title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for option in options:
        table.add_row(option.key, option.values.replace("`", ""), option.default, option.description)
    _print(
        table,
        effects(options).replace("`", ""),
        *([f"\nFor example:\n{example}"] if (example := example_of(path)) else []),
    )


def _print_pairs(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """Names and what they are: aligned on a terminal, a line each elsewhere."""
    if not sys.stdout.isatty():
        _print_lines(title, *(f"{name:<18} {line}" for name, line in rows))
        return
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False)
    for name, line in rows:
        table.add_row(name, line)
    _print(table)


def _print_lines(*lines: str) -> None:
    if sys.stdout.isatty():
        _print(*lines)
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines))


def _print_markdown(text: str) -> None:
    if not sys.stdout.isatty():
        sys.stdout.write(text.rstrip("\n") + "\n")
        return
    from rich.markdown import Markdown

    _print(Markdown(text))


def _print(*parts: "RenderableType") -> None:
    """Write the result for a person, on stdout."""
    from rich.console import Console

    console = Console(markup=False, highlight=False, emoji=False)
    for part in parts:
        console.print(part)
