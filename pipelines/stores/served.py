"""What readers get: the live rankings, or the last good ones where these are damaged; how a pointer is mended."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from features.errors import IntegrityError
from pipelines.base.progress import say
from pipelines.stores.journal import POINTER, appended, read_pointer, under_newest_names
from pipelines.stores.publish import Attempt, Published, published, were_live

__all__ = ["last_good", "mend_pointer", "served"]


def served(root: Path) -> Published | None:
    """What is live, verified; where it is damaged the last good rankings that were live, with what is wrong.

    Raises:
        IntegrityError: What is live is damaged, and so is all that was.
    """
    try:
        return published(root)
    except IntegrityError as error:
        for attempt in were_live(root):
            with suppress(IntegrityError):
                return Published(attempt, attempt.verify_published(), damage=str(error))
        raise


def last_good(attempts: Sequence[Attempt]) -> Published:
    """The first of some attempts that is as it was published; those before it are said.

    Raises:
        IntegrityError: None is.
    """
    damage = None
    for attempt in attempts:
        try:
            return Published(attempt, attempt.verify_published())
        except IntegrityError as error:
            damage = damage or error
            say("rankings that are damaged are passed over", attempt=attempt.name)
    assert damage is not None  # there was one
    raise damage


def mend_pointer(root: Path, guard: AbstractContextManager[None]) -> str | None:
    """Let a damaged pointer name the last good attempt that was live; where there is none, it is removed.

    Args:
        root: The folder `rankings`.
        guard: Context in which the pointer may move.

    Returns:
        What was wrong with it; None where it is sound, or there is none.
    """
    damage = _pointer_damage(root)
    if damage is None:
        return None
    with guard:
        written = appended(root)
        entries = [entry for entry in reversed(under_newest_names(written)) if entry.get("action") != "dated"]
        for entry in entries:
            attempt = Attempt(root, entry["attempt"])
            with suppress(IntegrityError):
                attempt.verify_published()
                attempt.mend(entry if entry is entries[0] and entry in written else None)
                return damage
        (root / POINTER).unlink(missing_ok=True)
    return damage


def _pointer_damage(root: Path) -> str | None:
    """What is wrong with the pointer itself; an attempt that it names rightly may be damaged."""
    try:
        pointer = read_pointer(root)
    except IntegrityError as error:
        return str(error)
    if pointer is None or any(entry["attempt"] == pointer["attempt"] for entry in appended(root)):
        return None
    if Attempt(root, pointer["attempt"]).is_named_rightly:  # where a kill came between the pointer and the journal
        return None
    return f"{root / POINTER} names {pointer['attempt']}, which was never published."
