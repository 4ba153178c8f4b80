"""The group `bundle`: look at the files of a version, compare two, copy one."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli.commands import Closing, command, next_command
from pipelines.cli.options import DEFAULT, ConfigPath, Overrides, registry_of, version_names

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from pipelines.verbs.bundles import Kept

__all__ = ["bundle_app"]

bundle_app = typer.Typer(no_args_is_help=True, help="The files of a version: verify, show, compare, copy.")

Which = Annotated[
    str,
    typer.Argument(metavar="VERSION", help="Number or alias of a version, or a folder.", autocompletion=version_names),
]
_MOST_FEATURES = 30


def _kept(wanted: str, config: Path, overrides: list[str]) -> "Kept":
    from pipelines.base.config import load_config
    from pipelines.verbs.bundles import bundle_in, bundle_of

    if (folder := Path(wanted)).is_dir():
        return bundle_in(folder)
    return bundle_of(wanted, registry_of(load_config(config, overrides)))


@command(bundle_app, ["nightrank bundle verify champion", "nightrank bundle verify copies/7"], name="verify")
def bundle_verify(version: Which = "champion", config: ConfigPath = DEFAULT, overrides: Overrides = []) -> Closing:
    """Check every hash of a bundle, parse its files in a process of their own, and score its golden rows again."""
    from pipelines.base import report
    from pipelines.verbs.bundles import verify

    facts = verify(_kept(version, config, overrides))
    for name, both in facts["other_libraries"].items():
        report.show(f"note: made with {name} {both['then']}, here {both['here']}; its golden rows score the same")
    report.result(facts)
    size = f"{facts['files']} files, {facts['bytes'] / 1e6:.1f} MB"
    return Closing(f"{facts['version']} is whole and scores as it did ({size})", lies_in=facts["folder"])


@command(bundle_app, ["nightrank bundle show", "nightrank bundle show 7"], name="show")
def bundle_show(version: Which = "champion", config: ConfigPath = DEFAULT, overrides: Overrides = []) -> Closing:
    """Say what a version is: when and on what it was trained, how it was judged, what it reads, by which libraries."""
    from pipelines.base import report
    from pipelines.verbs.bundles import facts_of

    facts = facts_of(_kept(version, config, overrides))
    report.show(*_facts_tables(facts))
    report.result(facts)
    then = next_command(f"bundle verify {version}", config)
    return Closing(f"showed {facts['version']}", lies_in=facts["folder"], then=then)


@command(bundle_app, ["nightrank bundle diff champion challenger", "nightrank bundle diff 3 7"], name="diff")
def bundle_diff(
    one: Annotated[str, typer.Argument(metavar="A", help="Number, alias or folder.", autocompletion=version_names)],
    other: Annotated[str, typer.Argument(metavar="B", help="Number, alias or folder.", autocompletion=version_names)],
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
) -> Closing:
    """Say what differs between two versions: configuration, features, libraries, data, and every figure."""
    from pipelines.base import report
    from pipelines.verbs.bundles import differences

    facts = differences(_kept(one, config, overrides), _kept(other, config, overrides))
    report.show(*_diff_tables(facts))
    report.result(facts)
    first, second = facts["versions"]
    if facts["digests"][0] == facts["digests"][1]:
        return Closing(f"{first} and {second} are the same bundle")
    folders = Path(one).is_dir() or Path(other).is_dir()
    then = None if folders else next_command(f"evaluate --version {one} --version {other}", config)
    return Closing(f"compared {first} with {second}", then=then)


@command(bundle_app, ["nightrank bundle export champion --to /mnt/usb/champion"], name="export")
def bundle_export(
    version: Which = "champion",
    config: ConfigPath = DEFAULT,
    overrides: Overrides = [],
    *,
    to: Annotated[Path, typer.Option("--to", help="Folder to make; nothing may be there.")],
) -> Closing:
    """Copy a verified bundle to a new folder, which appears whole or not at all."""
    from pipelines.base import report
    from pipelines.verbs.bundles import export

    kept = _kept(version, config, overrides)
    folder = export(kept, to)
    report.result({"version": kept.name, "folder": str(folder), "digest": kept.digest})
    return Closing(f"copied {kept.name}", lies_in=folder, then=next_command(f"bundle verify {folder}", config))


def _facts_tables(facts: Mapping[str, Any]) -> "list[Table]":
    """The tables of `bundle show`."""
    from rich.table import Table

    from pipelines.base.report import plain
    from pipelines.verbs.bundles import trained_until

    aliases = f" ({', '.join(facts['aliases'])})" if facts["aliases"] else ""
    what = Table("", "", title=plain(f"Bundle {facts['version']}{aliases}"), show_header=False)
    first, last = facts["window"]
    for name, words in (
        ("trained on", f"events before {trained_until(facts['cutoff'])}"),
        ("goes on from", facts["continues"] or "nothing: trained from the start"),
        ("encoder", facts["encoder"]),
        ("ranker", f"{facts['ranker']}, on {facts['features']['ranker']} columns"),
        ("without text", f"the same on {facts['features']['behaviour']} columns"),
        ("judged on", f"{first} to {last}, {facts['requests']:,} requests"),
        *((name, _figure(row)) for name, row in facts["metrics"].items() if name.startswith("ndcg@")),
        ("digest", facts["digest"]),
        ("size", f"{len(facts['files'])} files, {facts['bytes'] / 1e6:.1f} MB"),
    ):
        what.add_row(name, plain(str(words)))
    data = Table("table", "fingerprint (sha256)", title="Data it was trained on")
    for name, digest in facts["data"].items():
        data.add_row(plain(name), plain(digest))
    families = Table("family", "columns", title="Features")
    for name, count in facts["features"]["families"].items():
        families.add_row(plain(name), str(count))
    libraries = Table("library", "made with", "here", title="Libraries")
    for name, then in facts["libraries"].items():
        here = facts["other_libraries"].get(name, {}).get("here", "the same")
        libraries.add_row(plain(name), plain(then), plain(here), style="bold" if here != "the same" else None)
    files = Table("file", "KB", "sha256", title="Files")
    for name, file in facts["files"].items():
        files.add_row(plain(name), f"{file['bytes'] / 1e3:,.1f}", file["sha256"][:16])
    for table in (families, files):
        table.columns[1].justify = "right"
    return [what, data, families, libraries, files]


def _figure(row: Mapping[str, Any]) -> str:
    from pipelines.base.report import figure_cell

    return figure_cell(row)


def _diff_tables(facts: Mapping[str, Any]) -> "list[Table | str]":
    """The tables of `bundle diff`; a sentence for each part in which the two do not differ."""
    from pipelines.base.report import plain
    from pipelines.verbs.bundles import trained_until

    names = [plain(name) for name in facts["versions"]]
    what = _comparison("", names, "Trained and judged")
    what.add_row("events before", *map(trained_until, facts["cutoffs"]))
    what.add_row("judged on", *(" to ".join(window) for window in facts["windows"]))
    what.add_row("digest", *(digest[:16] for digest in facts["digests"]))
    shown: list[Table | str] = [what]
    for part, title in (("config", "Configuration"), ("data", "Data (sha256)"), ("libraries", "Libraries")):
        if not facts[part]:
            shown.append(f"{title}: the same in both")
            continue
        table = _comparison({"config": "key", "data": "table", "libraries": "library"}[part], names, title)
        for key, both in facts[part].items():
            table.add_row(plain(key), *(_cell(value) for value in both))
        shown.append(table)
    files = f"Files that differ: {', '.join(facts['files']) or 'none'}"
    return [*shown, *_feature_lines(facts), files, _figures_table(facts, names), *_window_note(facts)]


def _comparison(first: str, names: "list[Text]", title: str) -> "Table":
    from rich.table import Table

    table = Table(first, title=title)
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _cell(value: object) -> str:
    from pipelines.base.outside import printable

    return "-" if value is None else printable(str(value)[:40])


def _feature_lines(facts: Mapping[str, Any]) -> list[str]:
    lines = []
    for side, name in zip(("only_first", "only_second"), facts["versions"], strict=True):
        columns = facts["features"][side]
        if columns:
            more = f" and {len(columns) - _MOST_FEATURES} more" if len(columns) > _MOST_FEATURES else ""
            lines.append(f"Features of {name} alone ({len(columns)}): {', '.join(columns[:_MOST_FEATURES])}{more}")
    return lines or ["Features: the same in both"]


def _figures_table(facts: Mapping[str, Any], names: "list[Text]") -> "Table":
    from rich.table import Table

    table = Table("system", "slice", "metric", title="Figures of each on its own test window")
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("difference", justify="right")
    for row in facts["metrics"]:
        if row["metric"].startswith("ndcg@") and row["system"] in ("full system", "behaviour-only ranker"):
            figures = (f"{row['first']:.4f}", f"{row['second']:.4f}", f"{row['difference']:+.4f}")
            table.add_row(row["system"], row["slice"], row["metric"], *figures)
    return table


def _window_note(facts: Mapping[str, Any]) -> list[str]:
    if facts["windows"][0] == facts["windows"][1]:
        return []
    note = "The two were judged on other requests, so that these differences say little: evaluate both on the same."
    return [note]
