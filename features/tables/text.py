"""One text an item, from the fields that the configuration names, and the grid that its vector is rounded to."""

from collections.abc import Sequence

import polars as pl

from features.config import TextFieldConfig

__all__ = ["GRID", "MAX_TEXT_CHARS", "SEPARATOR", "folded", "item_texts"]

SEPARATOR = " | "
MAX_TEXT_CHARS = 20_000
"""Characters of a text that anything reads; contracts cut a longer one."""
GRID = 4000
"""Text vectors are unit vectors rounded to whole multiples of 1/GRID (int16). A float32 sum of their products
is exact, since by Cauchy-Schwarz no partial sum exceeds about GRID**2 < 2**24: dot products do not depend on
batch, threads or BLAS."""


def folded(text: pl.Expr) -> pl.Expr:
    """A text with each run of white space as one space, and none at its ends."""
    return text.str.replace_all(r"\s+", " ").str.strip_chars(" ")


def item_texts(items: pl.DataFrame, fields: Sequence[TextFieldConfig | str]) -> pl.Series:
    """Join the text fields of each item, white space folded; null and empty fields are left out.

    Args:
        items: The catalogue.
        fields: Text columns in the order they are read: names, or names with how many words or characters of each are
            read at most, so that a long one leaves something of the encoder's length to those after it.

    Returns:
        One text an item in the order of `items`; empty where all fields are.

    >>> items = pl.DataFrame({"title": ["Red  mug", None], "kind": ["Kitchen", ""]})
    >>> item_texts(items, ("title", "kind")).to_list()
    ['Red mug | Kitchen', '']
    >>> item_texts(items, (TextFieldConfig(field="title", max_words=1), "kind")).to_list()
    ['Red | Kitchen', '']
    """
    parts = [_read(TextFieldConfig.model_validate(field)) for field in fields]
    filled = [pl.when(part.str.len_bytes() > 0).then(part) for part in parts]
    return items.select(pl.concat_str(filled, separator=SEPARATOR, ignore_nulls=True).alias("text"))["text"]


def _read(field: TextFieldConfig) -> pl.Expr:
    """A field, white space folded, cut to what is read of it."""
    text = folded(pl.col(field.field))
    if field.max_words is not None:
        text = text.str.split(" ").list.head(field.max_words).list.join(" ")
    return text if field.max_chars is None else text.str.head(field.max_chars).str.strip_chars(" ")
