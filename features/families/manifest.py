"""The feature manifest: which columns a version reads, what each is, and what the log had when it was trained."""

from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import AfterValidator, AliasChoices, Field, model_validator

from features.config import family_name
from features.families.registry import FeatureSet
from features.frozen import FrozenConfig
from features.log.inventory import FeatureInventory
from features.signals.family import ColumnGroup

__all__ = ["Column", "FeatureManifest", "columns_of"]


class Column(FrozenConfig):
    """One column of the training table."""

    name: str
    family: Annotated[str, AfterValidator(family_name)] = Field(
        description="Family, or declared group of columns, that makes it."
    )
    meaning: str
    dtype: str = "Float32"
    windows_days: tuple[int, ...] = Field(default=(), description="Windows of its family.")
    text: bool = Field(description="Whether it is made of a text; the behaviour-only ranker reads none of these.")
    null: str = Field(default="NaN where undefined", description="What stands where a value is not defined.")


class FeatureManifest(FrozenConfig):
    """The content of `features.json`: columns, their meanings, and the inventory of the training's log.

    Attributes:
        ranker: Columns of the full ranker, in its order.
        behaviour: Columns of the behaviour-only ranker.
        columns: Every column of the training table, in order.
        inventory: What the training's log had, vocabularies included.
        unknown_code: Code of an attribute's value that its vocabulary lacks.
        zero_shot_pooling: The zero-shot pooling chosen on validation.
    """

    ranker: tuple[str, ...]
    behaviour: tuple[str, ...]
    columns: tuple[Column, ...]
    inventory: FeatureInventory = Field(validation_alias=AliasChoices("inventory", "supply"))  # NOTE: as it once was
    unknown_code: int
    zero_shot_pooling: str

    def families(self, names: Iterable[str]) -> list[str]:
        """Family of each of some columns."""
        of = {column.name: column.family for column in self.columns}
        return [of[name] for name in names]

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        names = [column.name for column in self.columns]
        without_text = [column.name for column in self.columns if not column.text]
        if len(set(names)) < len(names):
            msg = "a column stands twice"
            raise ValueError(msg)
        for what, read, there in (("ranker", self.ranker, names), ("behaviour", self.behaviour, without_text)):
            if list(read) != [name for name in there if name in set(read)]:
                msg = f"the columns of {what} are not among the manifest's, or in another order"
                raise ValueError(msg)
        return self


def columns_of(families: FeatureSet, groups: Iterable[ColumnGroup]) -> tuple[Column, ...]:
    """The manifest's columns: those of the families, then those of the groups."""
    made = [
        Column(
            name=name,
            family=family.name,
            meaning=family.columns_of(families.plan)[name],
            windows_days=family.windows,
            text=name in families.text,
            null=family.null_policy,
        )
        for name, family in families.columns.items()
    ]
    for group in groups:
        made += [
            Column(name=name, family=group.name, meaning=meaning, text=name in group.text)
            for name, meaning in group.columns.items()
        ]
    return tuple(made)
