"""Objects that other installed packages offer under an entry point group: feature families, gates."""

from importlib.metadata import entry_points
from typing import Any

from features.errors import ConfigError

__all__ = ["installed"]


def installed(group: str, what: str) -> list[tuple[str, Any]]:
    """Import everything that installed packages offer under a group.

    Args:
        group: Name of the entry point group.
        what: How messages call one of its members.

    Returns:
        `module:attribute` and the imported object of each; empty where no package offers one.

    Raises:
        ConfigError: One cannot be imported.
    """
    objects: list[tuple[str, Any]] = []
    for point in entry_points(group=group):
        try:
            objects.append((point.value, point.load()))
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"the {what} {point.value!r} cannot be imported: {error}") from error
    return objects
