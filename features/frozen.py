"""What every configuration is made of: frozen sections of keys, each key with its owner."""

from enum import Enum
from typing import Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

__all__ = ["FrozenConfig", "Owner", "section_of"]


class Owner(Enum):
    """Where a configuration key is read from: tonight's file, the version, its training or its evaluation.

    The value is the last sentence of the key's description.
    """

    TONIGHT = "Tonight's."
    """Read from the configuration file when a command runs, whatever the version was trained with."""
    VERSION = "The version's."
    """Kept with a version, and read from there whenever its candidates, features and vectors are made."""
    TRAINING = "The training's."
    """Read in training; kept with the version for the record, and not read when it ranks."""
    EVALUATION = "The evaluation's."
    """Read from the configuration file when versions are evaluated and promoted."""


class FrozenConfig(BaseModel):
    """Base of every configuration: frozen, and a key it does not know is an error.

    A field with a description is a key, one without is a section of keys.

    Attributes:
        owner: The owner of the section's keys, unless a field is annotated with another `Owner`. Its value is added to
            each description.
        example: The section in use, as YAML with comments; stands below the table of its keys.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    owner: ClassVar[Owner | None] = None
    example: ClassVar[str] = ""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401 - pydantic's own form
        super().__pydantic_init_subclass__(**kwargs)
        for field in cls.model_fields.values():
            description, owner = field.description, cls.owner_of(field)
            if description is not None and owner is not None and not description.endswith(owner.value):
                field.description = f"{description} {owner.value}"

    @classmethod
    def owner_of(cls, field: FieldInfo) -> Owner | None:
        """Owner of a key of this section; None for a section."""
        if field.description is None:
            return None
        return next((mark for mark in field.metadata if isinstance(mark, Owner)), cls.owner)


def section_of(annotation: Any) -> type[FrozenConfig] | None:  # noqa: ANN401 - whatever a field is annotated with
    """The section of keys that a field holds, alone, beside null or in a list; None of a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, FrozenConfig):
        return annotation
    return next((inner for part in get_args(annotation) if (inner := section_of(part)) is not None), None)
