"""Select configuration keys by owner: those that a version carries along, and those that are tonight's."""

from collections.abc import Container
from typing import Any, TypeVar

from features.frozen import FrozenConfig, Owner

__all__ = ["keys_of", "with_keys_of"]

_Section = TypeVar("_Section", bound=FrozenConfig)


def keys_of(section: FrozenConfig, owners: Container[Owner], prefix: str = "") -> dict[str, Any]:
    """Plain values of the keys that belong to some owners, by dotted path.

    >>> from ranker.config import EvaluationConfig
    >>> keys_of(EvaluationConfig(resamples=100), {Owner.EVALUATION}, "evaluation.")["evaluation.resamples"]
    100
    """
    owned: dict[str, Any] = {}
    values = section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        owner = section.owner_of(field)
        if owner is None:
            owned |= keys_of(getattr(section, name), owners, f"{prefix}{name}.")
        elif owner in owners:
            owned[f"{prefix}{name}"] = values[name]
    return owned


def with_keys_of(section: _Section, other: _Section, owners: Container[Owner]) -> _Section:
    """A configuration with the keys that belong to some owners as another one has them."""
    update = {}
    for name, field in type(section).model_fields.items():
        owner = section.owner_of(field)
        if owner is None:
            update[name] = with_keys_of(getattr(section, name), getattr(other, name), owners)
        elif owner in owners:
            update[name] = getattr(other, name)
    return section.model_copy(update=update)
