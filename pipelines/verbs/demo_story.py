"""The demo's last screen: the data, what the models learned, three users, the second night, what to do next.

It fits 100 columns and 40 lines, so that a person sees all of it at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from rich.table import Table
from rich.text import Text

from pipelines.base import report
from pipelines.base.family_words import reason_words

__all__ = ["COLUMNS", "LINES", "NewItem", "data_line", "learned_line", "story", "users_with_news"]

COLUMNS, LINES = 100, 40
"""Size of the last screen."""
_TEXT, _HISTORY_TEXT = 60, 24
"""Characters of an item's text, and of one that stands beside others."""
_METRIC, _FULL, _PLAIN, _TUNED, _ZERO = (
    "ndcg@10",
    "full system",
    "behaviour-only ranker",
    "fine-tuned text",
    "zero-shot text",
)
_SLICES = ("all", "new-to-user")


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item on a user's list that the user never had.

    Attributes:
        user: The user's id.
        history: Texts of what the user had lately, the latest first.
        rank: Where it stands on the list, from 1.
        text: Its text.
        reasons: Feature families that lifted its score most, the largest part first.
    """

    user: object
    history: tuple[str, ...]
    rank: int
    text: str
    reasons: tuple[str, ...]


def data_line(facts: Mapping[str, Any]) -> str:
    """What `nightrank check` counted in the tables, in a sentence."""
    events = facts["tables"]["events"]
    broken = ", ".join(f"{rows:,} {rule}" for rule, rows in events["rules"].items()) or "none"
    return (
        f"{events['rows']:,} events of {facts['users']:,} users with {facts['items']:,} items; "
        f"{events['duplicates']:,} repeat another row, {events['quarantined']:,} break a rule ({broken})."
    )


def learned_line(facts: Mapping[str, Any]) -> str:
    """What fine-tuning and reading texts changed, in a sentence, from an evaluation's JSON."""
    means = {(row["system"], row["slice"]): row["mean"] for row in facts["systems"] if row["metric"] == _METRIC}
    zero, tuned, plain, full = (means.get((name, "new-to-user")) for name in (_ZERO, _TUNED, _PLAIN, _FULL))
    if None in (zero, tuned, plain, full):
        return "nothing that is new to a user was judged."
    return (
        f"on items new to a user, text alone went from {zero:.4f} to {tuned:.4f} by fine-tuning; "
        f"the ranker has {plain:.4f} without text and {full:.4f} with it."
    )


def users_with_news(rankings: pl.DataFrame, had: pl.DataFrame, *, most: int) -> pl.DataFrame:
    """Users near the top of whose list stands something that they never had, which few others are shown.

    Args:
        rankings: user_id, rank, item_id and reasons of a published night.
        had: user_id and item_id of all that users had; further columns are ignored.
        most: Users that are returned.

    Returns:
        user_id, rank, item_id, reasons: the items that the fewest users are shown first, ties by rank and user_id; no
        user and no item twice. Passed over are items without a reason, those that stand below rank 10, and users with
        fewer items than the median user.
    """
    had = had.select("user_id", "item_id").unique()
    counts = had.group_by("user_id").len("items")
    active = counts.filter(pl.col("items") >= pl.col("items").median())
    news = rankings.with_columns(shown=pl.len().over("item_id")).join(had, on=["user_id", "item_id"], how="anti")
    news = news.filter(pl.col("reasons").list.len() > 0, pl.col("rank") <= _TOP)
    news = news.join(active, on="user_id", how="semi").sort("shown", "rank", "user_id")
    first = news.unique("user_id", keep="first", maintain_order=True)
    return first.unique("item_id", keep="first", maintain_order=True).head(most).select(_NEWS)


_TOP = 10
_NEWS = ("user_id", "rank", "item_id", "reasons")


def story(
    *,
    data: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    users: Sequence[NewItem],
    second_night: str,
    blocked_night: str,
    folder: str,
    cost: str,
) -> list[Table | Text | str]:
    """The last screen.

    Args:
        data: Facts of `nightrank check`.
        evaluation: An evaluation's JSON.
        users: Users whose list shows something new to them.
        second_night: What the second night changed, a sentence.
        blocked_night: Why the night with a broken catalogue did not go live.
        folder: Where the project lies.
        cost: Time and memory that the demo took, a sentence.
    """
    parts: list[Table | Text | str] = [
        *_paragraph("The data", data_line(data)),
        *_paragraph("Learned", learned_line(evaluation)),
        _systems(evaluation),
    ]
    for user in users:
        parts += [
            f"User {user.user} had {', '.join(_short(text, _HISTORY_TEXT) for text in user.history)}",
            f"  is shown at rank {user.rank}, new to them: {_short(user.text, _TEXT)}",
            _short(f"  because {reason_words(user.reasons)}", COLUMNS),
        ]
    return [
        *parts,
        *_paragraph("Second night", second_night),
        *_paragraph("Broken night", blocked_night.partition(" What was live")[0] + " Last night stays live."),
        f"Look      nightrank status --config {folder}/nightrank.yaml",
        f"          mlflow ui --backend-store-uri sqlite:///{folder}/out/mlflow.db",
        "Yours     put a catalogue and a log into a folder, then",
        "          nightrank init FOLDER; cd FOLDER; nightrank check; nightrank train; nightrank promote",
        cost,
    ]


def _paragraph(name: str, sentence: str) -> list[str]:
    """A named sentence, broken between words."""
    lines, indent = [f"{name}:"], "  "
    for word in sentence.split():
        if len(lines[-1]) + 1 + len(word) > COLUMNS:
            lines.append(indent + word)
        else:
            lines[-1] += f" {word}"
    return lines


def _short(text: str, most: int) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _systems(facts: Mapping[str, Any]) -> Table:
    """Every system's NDCG@10 with its interval, on all requests and on what is new to the user."""
    first, last = facts["window"]
    table = Table("NDCG@10 [95 % interval]", *_SLICES, title=f"{first} to {last}: {facts['requests']:,} requests")
    rows = {(row["system"], row["slice"]): row for row in facts["systems"] if row["metric"] == _METRIC}
    for system in dict.fromkeys(name for name, _ in rows):
        cells = (report.figure_cell(rows.get((system, name))) for name in _SLICES)
        table.add_row(system, *cells)
    return table
