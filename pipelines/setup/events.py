"""Which event types a log has, which of them are successes, and how much each counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipelines.setup.words import EVENT_LEVELS, event_level

__all__ = ["EventTypes", "constant_type", "graded_stars", "graded_types", "single_type"]

_LADDER = ("clicked", "wished", "cart", "consumed", "bought")
"""What counts as success, from the least to the most."""
_CALLED = {"bought": "purchase", "clicked": "click", "cart": "cart", "wished": "save", "consumed": "use"}
_YES, _NO = frozenset(("1", "true", "yes", "y", "t", "1.0")), frozenset(("0", "false", "no", "n", "f", "0.0"))
_SEEN = frozenset({"visto", "gesehen", "angesehen", "vu", "bekeken"})  # elsewhere it says that a film was watched
_SCALES = (1, 5, 10, 20, 100)
_LEAST_STARS = 3  # of five
_SAYS = {
    "shown": "shown, no success",
    "returned": "sent back, no success",
    "against": "against the item, no success",
}


@dataclass(frozen=True, slots=True)
class EventTypes:
    """The event types of a log.

    Attributes:
        counts: How often each occurs, most first.
        gains: The gain of those that are successes.
        roles: Types by the part they play, where the configuration's defaults would not say so.
        why: A word on each type.
        doubts: What could be meant otherwise.
    """

    counts: Mapping[str, int]
    gains: Mapping[str, int]
    roles: Mapping[str, Sequence[str]]
    why: Mapping[str, str]
    doubts: Sequence[str] = field(default=())


def graded_types(counts: Mapping[str, int], *, column: str = "") -> EventTypes:
    """Grade event types by what they are called: a click least, a purchase most, of those that occur.

    Args:
        counts: How often each type occurs.
        column: Name of their column; where they are yes and no, it says to what.

    >>> graded_types({"view": 9, "cart": 3, "order": 1}).gains
    {'view': 1, 'cart': 2, 'order': 3}
    """
    levels = _levels(counts, column)
    steps = [level for level in _LADDER if level in levels.values()]
    gains = {kind: steps.index(level) + 1 for kind, level in levels.items() if level in steps}
    doubts = []
    if not gains:
        kinds = [kind for kind, level in levels.items() if level is None]
        gains = dict.fromkeys(kinds, 1)
        doubts.append(f"what the event types {', '.join(map(repr, kinds[:5]))} say is not clear: each counts 1")
    why = {kind: f"{count:,} events, {_say(levels[kind], gains.get(kind))}" for kind, count in counts.items()}
    ordered = dict(sorted(gains.items(), key=lambda pair: (pair[1], pair[0])))
    return EventTypes(counts, ordered, _roles(levels), why, doubts)


def graded_stars(counts: Mapping[str, int]) -> EventTypes:
    """Grade ratings, each value a type: from three of five stars on they count, 1 to 3.

    >>> graded_stars({"1": 4, "3": 2, "4.5": 7, "5": 1}).gains
    {'3': 1, '4.5': 2, '5': 3}
    """
    top = next((scale for scale in _SCALES if max(map(float, counts)) <= scale), max(map(float, counts)))
    stars = {kind: 5 * float(kind) / top for kind in counts}
    gains = {kind: int(value) - _LEAST_STARS + 1 for kind, value in stars.items() if value >= _LEAST_STARS}
    ordered = dict(sorted(gains.items(), key=lambda pair: float(pair[0])))
    why = {kind: f"{count:,} ratings" for kind, count in counts.items()}
    return EventTypes(counts, ordered or {max(counts, key=float): 1}, {}, why)


def single_type(kind: str, count: int) -> EventTypes:
    """A log without event types: each row counts alike."""
    return EventTypes({kind: count}, {kind: 1}, {}, {kind: f"{count:,} events, counts 1"})


def constant_type(names: Sequence[str], *, is_sale: bool) -> str:
    """What each row of a log without event types most likely is.

    Args:
        names: What the table and its columns are called, the most telling first.
        is_sale: Whether it has quantities, orders or amounts.
    """
    for name in names:
        level = event_level(name)
        if level in _CALLED:
            return _CALLED[level]
    return "purchase" if is_sale else "interaction"


def _levels(counts: Mapping[str, int], column: str) -> dict[str, str | None]:
    if len(counts) == 2 and {kind.lower() for kind in counts} & _YES and {kind.lower() for kind in counts} & _NO:  # noqa: PLR2004
        level = event_level(column)
        return {kind: (level or "clicked") if kind.lower() in _YES else "shown" for kind in counts}
    levels = {kind: event_level(kind) for kind in counts}
    if {"cart", "bought"} & set(levels.values()):  # in a shop to have seen an item is to have looked at it
        levels |= {kind: "clicked" for kind in levels if kind.lower() in _SEEN}
    return levels


def _say(level: str | None, gain: int | None) -> str:
    if gain is not None:
        return f"counts {gain}"
    return _SAYS.get(level or "", "context, no success")


def _roles(levels: Mapping[str, str | None]) -> dict[str, list[str]]:
    """Types by role, for the roles whose default names do not say it."""
    by_level = {level: sorted(kind for kind, own in levels.items() if own == level) for level in EVENT_LEVELS}
    looked = by_level["clicked"] or by_level["wished"] or by_level["cart"]
    wanted = {
        "shown": by_level["shown"],
        "clicked": looked,
        "bought": by_level["bought"] or by_level["consumed"],
        "returned": by_level["returned"],
    }
    return {role: kinds for role, kinds in wanted.items() if kinds and not set(kinds) <= _DEFAULTS[role]}


_DEFAULTS = {
    "shown": {"impression"},
    "clicked": {"click", "view"},
    "bought": {"purchase"},
    "returned": {"return"},
}
