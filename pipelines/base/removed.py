"""Configuration keys and values that were removed: the message for each, and what old versions may still carry."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["REMOVED", "REMOVED_VALUES", "Removed", "without_removed"]


@dataclass(frozen=True, slots=True)
class Removed:
    """A configuration key that was removed.

    Attributes:
        remedy: Whole sentences: why it was removed, and what to do.
        harmless: Values with which a version of then equals one without the key; None means any value.
    """

    remedy: str
    harmless: tuple[Any, ...] | None = ()


REMOVED: dict[str, Removed] = {
    "features.max_memory_gb": Removed(
        "It bounded a table of features that no command made. Delete the key.", harmless=None
    ),
    "ranker.position_debias": Removed(
        "It ranked no better than a training without it. Delete the key; logged positions are still a baseline of "
        "`evaluate` (as shown).",
        harmless=(False,),
    ),
}
"""By dotted path."""

_TORCH = "Write torch, or cuda where there is a GPU."
REMOVED_VALUES: dict[tuple[str, str], str] = {
    ("encoder.backend", "openvino"): f"OpenVINO gained too little over torch. {_TORCH}",
    ("encoder.backend", "auto"): f"Which backend runs is no longer measured. {_TORCH}",
}
"""Why a key no longer takes a value, by path and value."""


def without_removed(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A version's stored configuration without removed keys of harmless values; others stay, and are refused later.

    >>> without_removed({"ranker": {"position_debias": False, "ensemble": 2}})
    {'ranker': {'ensemble': 2}}
    >>> without_removed({"ranker": {"position_debias": True}})
    {'ranker': {'position_debias': True}}
    """
    kept: dict[str, Any] = {}
    for key, value in values.items():
        removed = REMOVED.get(prefix + key)
        if removed is not None and (removed.harmless is None or value in removed.harmless):
            continue
        kept[key] = without_removed(value, f"{prefix}{key}.") if isinstance(value, Mapping) else value
    return kept
