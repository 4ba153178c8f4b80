"""One text an item, the grid that its vector is rounded to, and free texts without personal data."""

from collections.abc import Sequence

import polars as pl

from features.config import TextFieldConfig

__all__ = ["GRID", "MAX_TEXT_CHARS", "SEPARATOR", "folded", "has_personal", "item_texts", "masked"]

SEPARATOR = " | "
MAX_TEXT_CHARS = 20_000
"""Characters of a text that anything reads; contracts cut a longer one."""
GRID = 4000
"""Text vectors are unit vectors rounded to whole multiples of 1/GRID (int16). A float32 sum of their products
is exact, since by Cauchy-Schwarz no partial sum exceeds about GRID**2 < 2**24: dot products do not depend on
batch, threads or BLAS."""

_EMAIL = r"[\p{L}\p{N}._%+\-]+@[\p{L}\p{N}\-]+(?:\.[\p{L}\p{N}\-]+)*\.\p{L}[\p{L}\-]+"
# NOTE: the engine looks neither ahead nor behind, which makes it linear: what stands beside a number is in the match.
_BEFORE, _AFTER = r"(^|[^\w.,\-/+]|[^\d],)", r"($|[^\w\-/])"
_NUMBERS = (
    r"\+[1-9](?:[ \x{a0}\-./()]{0,3}\d){7,14}",  # international, however it is grouped
    r"00[1-9]\d{0,2}[ \x{a0}\-/()]{1,3}\d(?:[ \x{a0}\-/()]{0,3}\d){6,11}",
    r"(?:\(0[1-9]\d{1,3}\)|0[1-9]\d{1,3})[ \x{a0}\-/]{1,3}\d(?:[ \x{a0}\-]?\d){5,8}",  # as no date begins
    r"\(0[1-9]\)[ \x{a0}\-]?\d(?:[ \x{a0}\-]?\d){5,8}",
    r"0[1-9](?:(?: \d\d){4}|(?:\.\d\d){4}|(?:-\d\d){4}|[ \-]\d{8})",  # in pairs; and an area code of two digits
    r"(?:1[ \-.])?(?:\([2-9]\d\d\) ?|[2-9]\d\d-)\d{3}[\-. ]\d{4}",  # North America
    r"(?:1[ \-.])?[2-9]\d\d\.\d{3}\.\d{4}",
)
_PHONE = f"{_BEFORE}(?:{'|'.join(_NUMBERS)}){_AFTER}"


def masked(text: pl.Expr) -> pl.Expr:
    """A text with `[e-mail]` and `[phone]` for e-mail addresses and telephone numbers; all else as it is, null too.

    A telephone number is international (with + or 00), or national with separators: it begins with 0, or is written as
    in North America. Prices, dates, times, EANs and order numbers are none, nor are bare digits, which may be anything.
    Linear in the length of the text.

    >>> texts = pl.DataFrame({"text": ["write to ann@example.org, or 030 1234567", "EAN 4006381333931, 12.03.2024"]})
    >>> texts.select(masked(pl.col("text")))["text"].to_list()
    ['write to [e-mail], or [phone]', 'EAN 4006381333931, 12.03.2024']
    """
    text = text.str.replace_all(_EMAIL, "[e-mail]")
    for _ in range(2):  # two numbers with one character between them are two matches that share it
        text = text.str.replace_all(_PHONE, "${1}[phone]${2}")
    return text


def has_personal(text: pl.Expr) -> pl.Expr:
    """Whether `masked` would change a text."""
    return text.str.contains(f"{_EMAIL}|{_PHONE}")


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
