"""Verbs `live` and `status`: what is live and how old it is, and going back to an earlier date on purpose."""

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from features.calendar import Calendar, day_of
from features.config import CalendarConfig
from features.errors import BlockedError, IntegrityError
from pipelines.base.progress import duration
from pipelines.stores.lease import pointer_mutex
from pipelines.stores.publish import FORGOTTEN, Attempt, journal_of, published_on
from pipelines.stores.served import last_good, served
from pipelines.stores.storage import read_json

__all__ = ["go_back", "refuse_old", "standing"]


def go_back(output: Path, when: date, *, reason: str, although_blocked: bool = False) -> tuple[Attempt, bool]:
    """Make the last good rankings that were published for a date live, whatever is live now.

    Args:
        output: The output folder.
        when: The date.
        reason: Why, for the journal.
        although_blocked: Whether it may be rankings that audits blocked, or that never were audited.

    Returns:
        The attempt that is live now, and whether the pointer moved.

    Raises:
        ConfigError: Nothing was published for that date; the message names those that there are.
        BlockedError: Audits block them, or they never were audited.
        IntegrityError: All of it is damaged.
        TryAgainError: A night is publishing right now.
    """
    attempt = last_good(published_on(output / "rankings", when)).attempt
    return attempt, attempt.go_back(reason, guard=pointer_mutex(output), although_blocked=although_blocked)


def standing(root: Path, calendar: CalendarConfig, now: datetime) -> dict[str, Any]:
    """What is live, verified, as a scheduler reads it; `live` is None where nothing was ever published.

    Where that is damaged these are the facts of what is served in its stead, and `damaged` says what is wrong.

    Its age counts from the cut-off that opened its date: how long ago the last event that it may know of happened.

    Args:
        root: The folder `rankings`.
        calendar: When days open, for nights whose journal does not say it.
        now: The time.

    Raises:
        IntegrityError: What is live is damaged, and so is all that was.
    """
    live = served(root)
    if live is None:
        return {"live": None}
    entries = [entry for entry in journal_of(root) if entry["attempt"] == live.attempt.name]
    went_live = [entry for entry in entries if entry.get("action") != "dated"][-1:]
    entry = went_live[0] if went_live else {}
    day = live.attempt.day
    cutoff = datetime.fromisoformat(entry["cutoff"]) if "cutoff" in entry else Calendar(calendar).as_of(day_of(day))
    path = live.attempt.folder / "audits.json"
    findings = []
    with suppress(IntegrityError):  # missing or damaged
        findings = read_json(path, what="audits")
    return {
        "live": str(day),
        "version": live.manifest["version"],
        "bundle": live.manifest["bundle"],
        "published_at": entry.get("at"),
        "cutoff": cutoff.astimezone(UTC).isoformat(),
        "age_hours": round((now - cutoff) / timedelta(hours=1), 2),
        "damaged": live.damage,
        "degraded": entry.get("degraded", live.manifest.get("degraded")),
        "audits": {finding["audit"]: finding["verdict"] for finding in findings},
        "users": live.manifest["users"] - live.manifest.get(FORGOTTEN, 0),
        "fallback_users": live.manifest.get("fallback_users", 0),
        "rows": live.rows,
        "folder": str(live.attempt.folder),
    }


def refuse_old(facts: dict[str, Any], most: timedelta) -> None:
    """Refuse what is live if it is older than allowed, or if nothing is.

    Raises:
        BlockedError: It is.
    """
    allowed = f"--max-age allows {duration(most.total_seconds())}"
    if facts["live"] is None:
        raise BlockedError(f"nothing is live, and {allowed}. Run nightrank score.")
    age = timedelta(hours=facts["age_hours"])
    if age > most:
        raise BlockedError(
            f"what is live is of {facts['live']}, whose cut-off lies {duration(age.total_seconds())} back; {allowed}. "
            "See why the later nights did not go live: their log, and nightrank score again."
        )
