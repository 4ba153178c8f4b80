"""Verb `history`: decisions about the champion, approvals, and what was live on a day by decisions and nights."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from heapq import merge
from pathlib import Path
from typing import Any

from pipelines.registry.approvals import APPROVE, Approvals
from pipelines.registry.champion import Champion
from pipelines.registry.decisions import Action, State, read_journal
from pipelines.registry.registry import Registry
from pipelines.stores.publish import Attempt, published_attempts
from pipelines.stores.storage import read_json

__all__ = ["Entry", "entry_lines", "history", "live_on"]

Entry = Mapping[str, Any]
"""at, by, action, from, to, why; of decisions also number, reason, policy, state, note; of approvals author, digest."""

_STATES = {str(State.INTENDED): "  (not carried out yet)", str(State.WITHDRAWN): "  (withdrawn)"}


def history(registry: Registry) -> list[Entry]:
    """All decisions, oldest first, after the entries of the file that was kept before there were any; and approvals.

    Raises:
        IntegrityError: An entry cannot be read.
        TryAgainError: The registry does not answer.
    """
    journal = read_journal(Path(registry.config.output) / "registry")
    decisions = [*journal, *(decision.as_json(registry.model) for decision in Champion(registry).decisions.read())]
    approvals = [approval.as_json(registry.model) for approval in Approvals(registry).read()]
    return list(merge(decisions, approvals, key=lambda entry: str(entry["at"])))


def entry_lines(entry: Entry) -> list[str]:
    """An entry as a person reads it: what was decided, and indented below it why."""
    number = f"{entry['number']:>4}" if "number" in entry else "   -"
    state = _STATES.get(str(entry.get("state")), "")
    if entry["action"] == APPROVE:
        moved, by = f"{entry['to']} (bundle {entry['digest'][:12]})", f"{entry['author']} (account {entry['by']})"
    else:
        moved, by = f"{entry['from'] or '-'} -> {entry['to']}", entry["by"]
    lines = [f"{number}  {entry['at']}  {entry['action']:<8}  {moved}  by {by}{state}"]
    facts = {"reason": entry.get("reason"), "withdrawn": entry.get("note")}
    lines += [f"        {name}: {words}" for name, words in facts.items() if words]
    return lines + [f"        {name}: {figure}" for name, figure in entry["why"].items()]


def live_on(registry: Registry, day: date) -> dict[str, Any]:
    """What was champion on a day in UTC by the history, and what the nights of that day were ranked by.

    Returns:
        `at_start`: the champion when the day began; None if there was none. `decisions`: what moved it that day.
        `nights`: the finished attempts for that day. `note`: how the two differ, empty if they do not.
    """
    moves = [entry for entry in history(registry) if _moves(entry)]
    earlier, on = [move for move in moves if _day(move) < day], [move for move in moves if _day(move) == day]
    at_start = earlier[-1]["to"] if earlier else moves[0]["from"] if moves else None
    nights = _nights(Path(registry.config.output) / "rankings", day)
    champions = [at_start, *(move["to"] for move in on)]
    return {
        "on": str(day),
        "at_start": at_start,
        "decisions": on,
        "nights": nights,
        "note": _note(champions, [night["version"] for night in nights]),
    }


def _note(champions: Sequence[str | None], scored: Sequence[str]) -> str:
    strangers = sorted({version for version in scored if version not in champions})
    if not strangers:
        return ""
    were = ", ".join(version or "none" for version in champions)
    return (
        f"a night was ranked by {', '.join(strangers)}, and the champion of that day was: {were}. A night may be "
        "ranked on another day than its own, or by a version that was named (--version)."
    )


def _moves(entry: Entry) -> bool:
    return entry["action"] not in (Action.REFUSED, APPROVE) and entry.get("state") != State.WITHDRAWN


def _day(entry: Entry) -> date:
    return datetime.fromisoformat(entry["at"]).astimezone(UTC).date()


def _nights(root: Path, day: date) -> list[dict[str, Any]]:
    """Facts of the finished attempts for a day; `published` is whether one was ever live."""
    live = {attempt.name for attempt in published_attempts(root)}
    manifests = {path.parent: path for path in sorted(root.glob(f"attempts/{day}-*/manifest.json"))}
    facts = {folder: read_json(path, what="rankings") for folder, path in manifests.items()}
    return [
        {
            "attempt": folder.name,
            "version": night.get("version"),
            "users": night.get("users"),
            "hindsight": bool(night.get("hindsight")),
            "published": folder.name in live or Attempt(root, folder.name).is_live,
        }
        for folder, night in facts.items()
    ]
