"""Length and script of the item's first text field."""

import polars as pl

from features.log.event_log import EventLog
from features.signals.family import Columns, Family, Plan, Rows, Values
from features.signals.tokens import WORD

__all__ = ["SCRIPTS", "ItemTitle"]

SCRIPTS = ("Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Thai", "Hangul", "Hiragana", "Han")
"""Scripts by their code, from 1; 0 is none of them."""


class ItemTitle(Family):
    """The first text field of the item; it does not change with time."""

    name = "text_title"
    keys = ("item",)
    is_text = True
    columns = {
        "text_title_words": "words of the first text field",
        "text_title_script": "script of most of its letters, by number: "
        + ", ".join(f"{n} {s}" for n, s in enumerate(SCRIPTS, 1)),
    }

    def __init__(self, log: EventLog, plan: Plan) -> None:
        title = pl.col(plan.inventory.text[0]).fill_null("")
        letters = pl.concat_list(title.str.count_matches(rf"\p{{{script}}}") for script in SCRIPTS)
        titles = log.items.select(
            words=title.str.count_matches(WORD).cast(pl.Int64),
            script=pl.when(letters.list.max() > 0).then(letters.list.arg_max() + 1).otherwise(0).cast(pl.Int64),
        )
        self._words, self._script = titles["words"].to_numpy(), titles["script"].to_numpy()

    @classmethod
    def columns_of(cls, plan: Plan) -> Columns:
        """See `Family`."""
        return cls.columns if plan.inventory.text else {}

    def compute(self, rows: Rows) -> Values:
        """See `Family`."""
        return {"text_title_words": self._words[rows.item], "text_title_script": self._script[rows.item]}
