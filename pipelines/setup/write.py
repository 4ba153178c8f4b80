"""A proposal as the YAML that a person would write, each choice with why it was made."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from features.calendar import date_of
from pipelines.base.outside import printable
from pipelines.setup.catalogue import TextField
from pipelines.setup.proposal import Proposal, TableProposal

__all__ = ["yaml_text"]

_WIDTH = 44  # columns before a comment
_MOST_KINDS = 25


def yaml_text(proposal: Proposal, *, folder: Path, to: Path) -> str:
    """The content of a `nightrank.yaml`.

    Args:
        proposal: What is proposed.
        folder: Where the tables lie.
        to: The folder that the file will lie in.
    """
    lines = [
        "# Proposed by `nightrank init` from what the tables look like; every line may be changed.",
        "# Next: nightrank check, then nightrank train.",
    ]
    if proposal.doubts:
        lines += ["#", "# Look at these choices first, since something else could be meant:"]
        lines += [f"# - {doubt}" for doubt in proposal.doubts]
    lines += ["", "data:"]
    lines += _table("items", "The catalogue", proposal.items, folder, to, texts=proposal.catalogue.texts)
    lines += _unread(proposal)
    lines += _table("events", "The log", proposal.events, folder, to)
    if proposal.users is not None:
        lines += _table("users", "The users", proposal.users, folder, to)
    lines += _quarantine(proposal)
    if proposal.unused:
        lines.append(f"  # Not used: {', '.join(proposal.unused)}.")
    lines += [
        "",
        *_labels(proposal),
        *_requests(proposal),
        *_features(proposal),
        *_timeline(proposal),
        "",
        "output: out",
    ]
    return "\n".join(printable(line) if line.lstrip().startswith("#") else line for line in lines) + "\n"


def _table(
    name: str, title: str, table: TableProposal, folder: Path, to: Path, *, texts: Sequence[TextField] = ()
) -> list[str]:
    rows = table.source.n_rows if table.written is None else table.written.height
    about = "" if table.source.counted or table.written is not None else "about "
    lines = [f"  # {title}: {table.source.name}, {about}{rows:,} rows."]
    if table.written is not None:
        lines.append("  # It was written anew, since the file cannot be read as it is:")
    lines += [f"  # - {note}" for note in table.notes]
    lines += [f"  {name}:", f"    path: {_flow(table.path or _path(table.source.name, folder, to))}", "    columns:"]
    lines += [_said(f"      {ours}: {_flow(theirs)}", why) for ours, (theirs, why) in table.columns.items()]
    if texts:
        lines.append("    text:  # most telling first")
        lines += [_said(f"      - {_field(field)}", field.why) for field in texts]
    for ours, (value, why) in table.constants.items():
        lines.append(_said(f"    constants: {{{ours}: {_flow(value)}}}", why))
    if table.times is not None:
        lines.append(_said(f"    times: {table.times}", "its times count from 1970, by their size in this unit"))
    return lines


def _path(name: str, folder: Path, to: Path) -> str:
    """A table's path as seen from the folder of the configuration."""
    if Path(name).is_absolute() or folder.resolve() == to.resolve():
        return name
    below = folder.resolve().is_relative_to(to.resolve())
    return os.path.relpath(folder.resolve() / name, to.resolve()) if below else str(folder.resolve() / name)


def _field(field: TextField) -> str:
    if field.max_words is None:
        return _flow(field.column)
    return _flow({"field": field.column, "max_words": field.max_words})


def _unread(proposal: Proposal) -> list[str]:
    unread = proposal.catalogue.unread
    return (
        [f"    # Not read as text: {'; '.join(f'{name} ({why})' for name, why in unread.items())}."] if unread else []
    )


def _quarantine(proposal: Proposal) -> list[str]:
    if proposal.max_share is None:
        return []
    return [
        f"  # {proposal.set_aside:.1%} of the log's rows lack a user, a time, or an item of the catalogue; they are",
        "  # set aside. Mend them where they come from if that is too many.",
        f"  quarantine: {{max_share: {proposal.max_share:g}}}",
    ]


def _labels(proposal: Proposal) -> list[str]:
    types = proposal.types
    lines = ["# What counts as success, and how much; other event types are context."]
    shown = list(types.why.items())[:_MOST_KINDS]
    lines += [f"# - {kind}: {why}" for kind, why in shown]
    return [*lines, f"labels: {_flow({'gains': dict(types.gains)})}"]


def _requests(proposal: Proposal) -> list[str]:
    lines: list[str] = []
    by_section: dict[str, dict[str, str]] = {}
    for key, (value, why) in proposal.requests.items():
        section, name = key.split(".")
        by_section.setdefault(section, {})[name] = value
        lines.append(f"# {key}: {why}.")
    if not lines:
        return []
    lines = ["", *lines]
    if "requests.mode" in proposal.requests:
        lines.append("# For nightly lists of the whole catalogue leave these two lines out.")
    return [*lines, *(f"{section}: {_flow(keys)}" for section, keys in by_section.items())]


def _features(proposal: Proposal) -> list[str]:
    lines = []
    if proposal.types.roles:
        lines += ["", "# Which event types play which part in the features."]
        lines.append(f"features: {_flow({'roles': dict(proposal.types.roles)})}")
    attributes = {"items": list(proposal.catalogue.attributes), "users": _user_attributes(proposal)}
    if filled := {table: names for table, names in attributes.items() if names}:
        roles = {"roles": dict(proposal.types.roles)} if proposal.types.roles else {}
        instead = ", by this line in place of the one above" if roles else ""
        lines += ["", f"# These columns could become features too{instead}:"]
        lines.append(f"# features: {_flow({**roles, 'attributes': filled})}")
    return lines


def _user_attributes(proposal: Proposal) -> list[str]:
    """Columns of the users table that many users share a value of; ids, names and addresses are not among them."""
    if proposal.users is None:
        return []
    sample, key = proposal.users.source.sample, proposal.users.columns["user_id"][0]
    return [name for name in sample.columns if name != key and 1 < sample[name].n_unique() <= sample.height / 2]


def _timeline(proposal: Proposal) -> list[str]:
    fitted = proposal.timeline
    first, last = date_of(fitted.first_day), date_of(fitted.last_day)
    lines = ["", f"# The log runs from {first} to {last}: {fitted.why}."]
    if fitted.far.counts:
        lines.append(
            f"# {fitted.far.events:,} events of days far from all others ({', '.join(fitted.far.dates())}) decide "
            "nothing."
        )
    lines += [
        f"# - {name}: {start} to {end}, {count:,} requests" for name, (start, end, count) in fitted.windows.items()
    ]
    return [*lines, f"timeline: {_flow(dict(fitted.keys))}"]


def _said(line: str, why: str) -> str:
    return f"{line:<{_WIDTH}}  # {printable(why)}" if why else line


class _OneLine(yaml.SafeDumper):
    """Writes a value on one line, whatever line ends its texts have."""


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if len(f"{text}.".splitlines()) > 1 else None  # which alone escapes a line end
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_OneLine.add_representer(str, _represent)


def _flow(value: Any) -> str:  # noqa: ANN401 - whatever YAML takes
    """A value on one line of YAML."""
    one_line: dict[str, Any] = {"default_flow_style": True, "sort_keys": False, "allow_unicode": True}
    text: str = yaml.dump(value, Dumper=_OneLine, width=math.inf, **one_line)
    return text.removesuffix("...\n").rstrip("\n")
