"""What the parts of a version are worth: it is judged again without each of them, on the same requests.

- A family of features (`interest` among them), `text` (all columns that know a text) and `behaviour` (all that do not):
  a ranker is trained anew without these columns, on the rows that the version's ranker learned from. Candidates stay.
- `prequential`: the same with the scores of the final encoder, which has seen those very requests.
- `field:NAME`: a text field is emptied where the window is scored, for candidates, features and encoder; nothing is
  trained again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import polars as pl

from features.families.manifest import Column, columns_of
from features.families.request import SOURCE_GROUP
from features.split import Span
from features.timeline import EventLog
from pipelines.chain import Chain
from pipelines.config import Config
from pipelines.rows import kept_rows
from pipelines.train import Labelled, Trained, fit_ranker, label, recent
from ranker.ranker import Ranker

__all__ = ["BEHAVIOUR", "FIELD", "PREQUENTIAL", "TEXT", "Whole", "emptied", "parts_of", "ranked", "without"]

TEXT, BEHAVIOUR, PREQUENTIAL = "text", "behaviour", "prequential"
FIELD = "field:"
"""What stands before the name of a text field."""


def parts_of(columns: Sequence[Column], text_fields: Sequence[str]) -> list[str]:
    """Names of what can be left out of a version that has some columns and text fields."""
    families = dict.fromkeys(column.family for column in columns)
    return [TEXT, BEHAVIOUR, PREQUENTIAL, *families, *(f"{FIELD}{name}" for name in text_fields)]


def without(part: str) -> str:
    """What the system is called that lacks a part."""
    return f"without {part}"


@dataclass(frozen=True)
class Whole:
    """A version that parts are left out of.

    Attributes:
        chain: The chain under its encoder.
        config: As it was trained; the output folder holds its ranker's rows.
        columns: What its ranker reads, in order.
        ranker: Its ranker.
        behaviour_ranker: Its ranker that sees no text.
        encoder_day: Day before which everything lies that its encoder saw.
        valid: What its rankers were stopped by.
        rows: What `pipelines.rows.keep_rows` kept its ranker's rows under.
    """

    chain: Chain
    config: Config
    columns: tuple[Column, ...]
    ranker: Ranker
    behaviour_ranker: Ranker
    encoder_day: int
    valid: Span
    rows: str

    @classmethod
    def of(cls, trained: Trained, config: Config) -> "Whole":
        """What was trained just now."""
        chain = trained.chain
        return cls(
            chain=chain,
            config=config,
            columns=columns_of(chain.assembler.families, [SOURCE_GROUP, chain.interest]),
            ranker=trained.ranker,
            behaviour_ranker=trained.behaviour_ranker,
            encoder_day=trained.encoder_day,
            valid=trained.split.valid,
            rows=trained.rows,
        )

    def lists(self, parts: Sequence[str], window: Labelled, span: Span) -> dict[str, pl.DataFrame]:
        """Lists of the version without each part: request, item, score by `without` of the part.

        Args:
            parts: Of `parts_of`.
            window: The requests that are judged, with their rows.
            span: The days that they are of.

        Raises:
            ConfigError: The rows that the ranker learned from are not there.
            IntegrityError: They were altered.
            ContractError: The log is another one than theirs.
        """
        found = {}
        for part in parts:
            if part.startswith(FIELD):
                other = emptied(self.chain.log, part.removeprefix(FIELD))
                found[without(part)] = ranked(self.ranker, self.scored(other, span, name=without(part)))
            else:
                found[without(part)] = ranked(self.ranker_without(part, given=window.given), window.rows)
        return found

    def scored(self, log: EventLog, span: Span, *, name: str) -> pl.DataFrame:
        """Rows of a span's requests over another log, with nothing trained again."""
        supply, cut = self.chain.assembler.plan.supply, self.chain.cut
        chain = Chain(log, self.config, self.chain.model, supply, cut=cut)
        return label(chain, self.config, span, name=f"Scoring {name}", encoder_day=self.encoder_day).rows

    def ranker_without(self, part: str, *, given: bool = False) -> Ranker:
        """A ranker of the version's rows that lacks a part; of lists that were given, its own where it has one."""
        if part == TEXT and given:  # else that ranker's candidates differ too
            return self.behaviour_ranker
        fitted, valid = self._taught
        if part == PREQUENTIAL:
            fitted = self.in_sample()
        features = tuple(column.name for column in self.columns if _stays(column, part))
        return fit_ranker(f"ranker without {part}", features, fitted, valid, self.config)

    def in_sample(self) -> pl.DataFrame:
        """The rows that the ranker learned from, under the final encoder."""
        days = self._taught[0]["as_of_day"].unique().sort()
        first, last = int(days[0]), int(days[-1])
        span = Span(first, last + 1, last + 1)
        again = label(self.chain, self.config, span, name="In-sample scores", encoder_day=self.encoder_day).rows
        again = again.filter(pl.col("as_of_day").is_in(days.implode()))
        return recent(again.clear(), again, most=self.config.ranker.max_requests)

    @cached_property
    def _taught(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """What the ranker learned from, and what it was stopped by, which the final encoder scored."""
        fitted = kept_rows(self.rows, self.chain.log, self.config)
        name = "Scoring validation"
        return fitted, label(self.chain, self.config, self.valid, name=name, encoder_day=self.encoder_day).rows


def ranked(ranker: Ranker, rows: pl.DataFrame) -> pl.DataFrame:
    """The list of a ranker: request, item, score."""
    return rows.select("request", "item").with_columns(pl.Series("score", ranker.predict(rows)))


def emptied(log: EventLog, field: str) -> EventLog:
    """The log without the texts of a field."""
    return replace(log, items=log.items.with_columns(pl.lit(None, pl.String).alias(field)))


def _stays(column: Column, part: str) -> bool:
    if part in {TEXT, BEHAVIOUR}:
        return column.text == (part == BEHAVIOUR)
    return column.family != part
