"""Output of commands: tables for a person on stderr, one JSON result on stdout."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from features.requests.engaged import SLICES
from pipelines.base.outside import printable, without_credentials
from pipelines.base.progress import Terminal, json_line, say
from ranker.judge import by_value

__all__ = [
    "Report",
    "check_table",
    "features_table",
    "figure_cell",
    "origins_table",
    "page",
    "plain",
    "policy_table",
    "result",
    "show",
    "statistics_table",
    "stores_table",
    "systems_table",
]

Report = Mapping[str, Any]

_VALUED = by_value("all")


def result(facts: Report) -> None:
    """Write a verb's result as one line of JSON; nothing where stdout is a terminal."""
    if not sys.stdout.isatty():
        sys.stdout.write(json_line(facts, ascii_only=False) + "\n")
        sys.stdout.flush()


def show(*parts: Table | Text | str, width: int | None = None) -> None:
    """Write tables and texts to stderr; control characters are escaped and markup is not interpreted.

    Args:
        parts: What is written, one below the other.
        width: Columns; by default the terminal's, or 160 where stderr is none.
    """
    console = Terminal(width=width or (None if sys.stderr.isatty() else 160))
    for part in parts:
        shown = Text(part) if isinstance(part, str) else part
        if isinstance(shown, Text):
            shown.plain = printable(without_credentials(shown.plain), keep="\n")
        console.print(shown)


def page(*parts: Table | Text | str) -> bytes:
    """The same tables and texts as an HTML page, for a browser; nothing in them is interpreted."""
    console = Terminal(width=160, record=True)
    for part in parts:
        console.print(part)
    return console.export_html(inline_styles=True).encode()


def plain(text: str) -> Text:
    """A text from outside that is safe to show: control characters and line ends escaped, no markup."""
    return Text(printable(text))


def check_table(facts: Report) -> list[Table | Text | str]:
    """The tables of `nightrank check`."""
    tables = Table("table", "rows", "good", "duplicates", "quarantined", "rules", title="Contracts")
    for name, row in facts["tables"].items():
        rules = ", ".join(f"{rule} {rows}" for rule, rows in row["rules"].items()) or "-"
        tables.add_row(name, *(f"{row[key]:,}" for key in ("rows", "good", "duplicates", "quarantined")), rules)
    log = Table("users", "items", "first event", "last event", "events", title="Log")
    events = ", ".join(f"{plain(kind)} {rows:,}" for kind, rows in facts["events"].items())
    log.add_row(f"{facts['users']:,}", f"{facts['items']:,}", facts["first_event"], facts["last_event"], Text(events))
    text = Table("text field", "filled", "unknown tokens", "truncated texts", title="Texts under the encoder")
    for name, row in facts["text"].items():
        shares = (f"{row[key]:.1%}" for key in ("filled_share", "unknown_share", "truncated_share"))
        text.add_row(plain(name), *shares)
    where = [f"quarantine of {name}: {path}" for name, path in facts["quarantine"].items()]
    return [tables, log, *_requests_table(facts), *_offers_table(facts), text, *where]


def show_warnings(warnings: Sequence[Mapping[str, str]]) -> None:
    """Show warnings of what a training or a night would fail on: a table on a terminal, a line each elsewhere.

    Args:
        warnings: `key` of the configuration and `message` of each.
    """
    if not sys.stderr.isatty():
        for caution in warnings:
            say("warning", **caution)
    elif warnings:
        table = Table("key", "what would go wrong, and what to do", title="Warnings")
        for caution in warnings:
            table.add_row(plain(caution["key"]), plain(caution["message"]))
        show(table)


def _offers_table(facts: Report) -> list[Table]:
    """Offers of catalogue items, by kind; no table without offers."""
    if not facts["offers"]:
        return []
    table = Table("offer", "rows", "items", "first begins", "last begins", title="Offers")
    for kind, row in facts["offers"].items():
        table.add_row(plain(kind), f"{row['rows']:,}", f"{row['items']:,}", row["first"], row["last"])
    return [table]


def _requests_table(facts: Report) -> list[Table]:
    """Counts of logged requests; no table where requests are engaged days."""
    if "requests" not in facts:
        return []
    table = Table(
        *("requests", "users", "items shown", "with query", "shown without request_id", "shown, id of many users"),
        title="Logged requests",
    )
    table.add_row(*(f"{rows:,}" for rows in facts["requests"].values()))
    return [table]


def features_table(columns: Sequence[Report]) -> list[Table | Text | str]:
    """The columns of each family."""
    table = Table("family", "on", "column", "meaning", title="Feature families")
    last_family = ""
    for column in columns:
        is_first = column["family"] != last_family
        family, on = (column["family"], "yes" if column["on"] else "no") if is_first else ("", "")
        last_family = column["family"]
        table.add_row(plain(family), on, plain(column["column"]), plain(column["meaning"]))
    return [table]


def statistics_table(facts: Report) -> list[Table | Text | str]:
    """Every column's statistics, and its drift if there is a reference."""
    first, last = facts["window"]
    table = Table(title=f"Features over {facts['requests']:,} requests, {first} to {last}")
    for name in ("column", "undefined", "mean", "std", "min", "max", *(["PSI"] if facts["psi"] else [])):
        table.add_column(name, no_wrap=True, justify="left" if name == "column" else "right")
    for name, column in facts["columns"].items():
        figures = ("-" if column[key] is None else f"{column[key]:.4g}" for key in ("mean", "std", "least", "largest"))
        drift = [f"{facts['psi'][name]:.3f}" if name in facts["psi"] else "new"] if facts["psi"] else []
        table.add_row(plain(name), f"{column['null_share']:.1%}", *figures, *drift)
    return [table]


def stores_table(facts: Sequence[Report]) -> list[Table | Text | str]:
    """The vector stores, a row an encoder."""
    table = Table("encoder", "segments", "texts", "MB", "used by", "last use", title="Vector stores")
    for store in facts:
        figures = (f"{store['segments']:,}", f"{store['texts']:,}", f"{store['bytes'] / 1e6:,.1f}")
        table.add_row(store["encoder"], *figures, ", ".join(store["used_by"]) or "-", store["last_used"])
    return [table]


def origins_table(facts: Report, *, k: int) -> list[Table | Text | str]:
    """Tables of each origin's systems, of all pooled, and of the first system's lead in each."""
    origins, pooled = facts["origins"], facts["pooled"]
    tables = [systems_table(origin, k=k)[0] for origin in origins]
    tables += systems_table(pooled, k=k, what=f"Pooled over {len(origins)} origins,")
    leads = Table(*("system", "against"), *(origin["window"][0] for origin in origins), "pooled")
    leads.title = f"Paired differences of NDCG@{k}, all, by the first day of each window"
    columns = [
        {
            (pair["system"], pair["against"]): pair
            for pair in judged["comparisons"]
            if (pair["slice"], pair["metric"]) == ("all", f"ndcg@{k}")
        }
        for judged in (*origins, pooled)
    ]
    for key, pair in columns[-1].items():
        each = (f"{column[key]['difference']:+.4f}" for column in columns[:-1])
        leads.add_row(*key, *each, _with_interval(pair["difference"], pair, "+"))
    return [*tables, leads]


def policy_table(gates: Sequence[Mapping[str, str]], *, title: str) -> list[Table | Text | str]:
    """The gates of a promotion, failed ones marked."""
    table = Table("gate", "asked", "found", "verdict", title=title)
    for row in gates:
        failed = row["verdict"] == "failed"
        cells = (plain(row[key]) for key in ("gate", "asked", "found", "verdict"))
        table.add_row(*cells, style="bold red" if failed else None)
    return [table]


def systems_table(facts: Report, *, k: int, what: str = "Test window") -> list[Table | Text | str]:
    """Every system's NDCG by slice with its interval, and the comparisons."""
    slices = [name for name in SLICES if any(row["slice"] == name for row in facts["systems"])]
    first, last = facts["window"]
    table = Table(title=f"{what} {first} to {last}: {_requests(facts)}, NDCG@{k} [95 % interval]")
    table.add_column("system", no_wrap=True)
    for name in slices:
        table.add_column(name, justify="right")
    rows = {(row["system"], _column(row, k)): row for row in facts["systems"]}
    valued = [_VALUED] if any(column == _VALUED for _, column in rows) else []
    for name in valued:
        table.add_column(name, justify="right")
    for system in dict.fromkeys(row["system"] for row in facts["systems"]):
        cells = [figure_cell(rows.get((system, name))) for name in (*slices, *valued)]
        table.add_row(system, *cells)
    recall = facts["candidate_recall"]
    table.add_row(
        "candidates' recall", *("-" if recall[name] is None else f"{recall[name]:.3f}" for name in slices), style="dim"
    )
    ablations = facts.get("ablations", ())
    without_parts = {row["system"] for row in ablations}
    pairs = [pair for pair in facts["comparisons"] if pair["against"] not in without_parts]
    return [
        *(table, _comparisons(pairs, k)),
        *_ablations(ablations, slices, k),
        *_beyond(facts["beyond_accuracy"], k),
    ]


def _requests(facts: Report) -> str:
    """The number of judged requests, and of how many they were sampled."""
    if facts["requests"] == facts.get("requests_in_window", facts["requests"]):  # earlier versions asked them all
        return f"{facts['requests']:,} requests"
    share = f"{facts['share_drawn']:.1%}, whole users drawn by a hash"
    return f"{facts['requests']:,} of {facts['requests_in_window']:,} requests ({share})"


def _ablations(rows: Sequence[Report], slices: Sequence[str], k: int) -> list[Table]:
    """How much better the full system is than without each part; no table where that was not judged."""
    if not rows:
        return []
    table = Table(
        *("without", *slices),
        title=f"What the parts are worth: NDCG@{k} of the full system less that without them",
        caption="* not shown to be worth anything: the 95 % interval does not lie above 0",
        pad_edge=False,
    )
    by_part_and_slice = {(row["without"], row["slice"]): row for row in rows if row["metric"] == f"ndcg@{k}"}
    for part in dict.fromkeys(row["without"] for row in rows):
        table.add_row(plain(part), *(_difference_cell(by_part_and_slice.get((part, name))) for name in slices))
    return [table]


def _difference_cell(row: Report | None) -> str:
    """A difference with its interval, marked with a star where the interval does not lie above 0; "-" for None."""
    if row is None:
        return "-"
    return _with_interval(row["difference"], row, "+") + (" " if row["loses"] else "*")


def _beyond(systems: Mapping[str, Mapping[str, float | None]], k: int) -> list[Table]:
    """Coverage, novelty and the like of each system; no table where that was not judged."""
    if not systems:
        return []
    names = [name for name in next(iter(systems.values())) if name.endswith(f"@{k}")]
    table = Table("system", *names, title=f"Beyond accuracy: the first {k} of every list")
    for system, means in systems.items():
        table.add_row(system, *("-" if (value := means.get(name)) is None else f"{value:.4f}" for name in names))
    return [table]


def _column(row: Report, k: int) -> str | None:
    """The column of a row of NDCG at a cut-off: its slice, or NDCG by value; None for what the tables do not show."""
    if row["metric"] == by_value(f"ndcg@{k}"):
        return _VALUED if row["slice"] == "all" else None
    return row["slice"] if row["metric"] == f"ndcg@{k}" else None


def figure_cell(row: Report | None) -> str:
    """A figure with its interval; "-" for None."""
    return _with_interval(row["mean"], row, "") if row else "-"


def _with_interval(value: float, row: Report, sign: str) -> str:
    """A figure and its interval; a single user has no interval."""
    if row["low"] is None:
        return f"{value:{sign}.4f} [-]"
    return f"{value:{sign}.4f} [{row['low']:{sign}.4f}, {row['high']:{sign}.4f}]"


def _comparisons(pairs: Sequence[Report], k: int) -> Table:
    table = Table(title=f"Paired differences of NDCG@{k} on the same requests")
    for column in (
        *("system", "against", "slice", "difference [95 % interval]", "p", "p by Holm", "detectable"),
        "wins / ties / losses",
    ):
        table.add_column(column, no_wrap=True)
    for pair in pairs:
        shown = _column(pair, k)
        if shown in ("all", "new-to-user", _VALUED):
            difference = _with_interval(pair["difference"], pair, "+")
            counts = f"{pair['wins']} / {pair['ties']} / {pair['losses']}"
            figures = ("-" if pair[key] is None else f"{pair[key]:.4f}" for key in ("p_value", "p_holm", "detectable"))
            table.add_row(pair["system"], pair["against"], shown, difference, *figures, counts)
    return table
