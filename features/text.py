"""One text an item, from the fields that the configuration names."""

import polars as pl

__all__ = ["SEPARATOR", "item_texts"]

SEPARATOR = " | "


def item_texts(items: pl.DataFrame, fields: tuple[str, ...]) -> pl.Series:
    """Join the text fields of each item, white space folded; null and empty fields are left out.

    Args:
        items: The catalogue.
        fields: Names of text columns, in the order they are read.

    Returns:
        One text an item in the order of `items`; empty where all fields are.

    >>> items = pl.DataFrame({"title": ["Red  mug", None], "kind": ["Kitchen", ""]})
    >>> item_texts(items, ("title", "kind")).to_list()
    ['Red mug | Kitchen', '']
    """
    folded = (pl.col(name).str.replace_all(r"\s+", " ").str.strip_chars(" ") for name in fields)
    parts = [pl.when(part.str.len_bytes() > 0).then(part) for part in folded]
    return items.select(pl.concat_str(parts, separator=SEPARATOR, ignore_nulls=True).alias("text"))["text"]
