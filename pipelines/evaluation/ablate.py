"""Ablations: a version is judged again without each of its parts, on the same requests.

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
from features.log.event_log import EventLog
from features.requests.split import Span
from features.tables.frames import Requests
from pipelines.base.config import Config
from pipelines.evaluation.evaluate import ranked
from pipelines.stores.mapped import picked
from pipelines.stores.rows import kept_rows
from pipelines.training.chain import Chain
from pipelines.training.fitting import fit_ranker
from pipelines.training.labelled import IS_NEW, Labelled, rows_of
from pipelines.training.train import Trained, validation
from ranker.ranker import Ranker

__all__ = ["BEHAVIOUR", "FIELD", "PREQUENTIAL", "TEXT", "Whole", "emptied", "parts_of", "without"]

TEXT, BEHAVIOUR, PREQUENTIAL = "text", "behaviour", "prequential"
FIELD = "field:"
"""What stands before the name of a text field."""


def parts_of(columns: Sequence[Column], text_fields: Sequence[str]) -> list[str]:
    """Names of the parts that can be left out of a version with these columns and text fields."""
    families = dict.fromkeys(column.family for column in columns)
    return [TEXT, BEHAVIOUR, PREQUENTIAL, *families, *(f"{FIELD}{name}" for name in text_fields)]


def without(part: str) -> str:
    """Name of the system without a part."""
    return f"without {part}"


@dataclass(frozen=True)
class Whole:
    """A whole version, from which parts are left out.

    Attributes:
        chain: The chain under its encoder.
        config: As it was trained; the output folder holds its ranker's rows.
        columns: What its ranker reads, in order.
        ranker: Its ranker.
        behaviour_ranker: Its ranker that sees no text.
        encoder_day: Day before which everything lies that its encoder saw.
        valid: What its rankers were stopped by.
        rows: What `pipelines.stores.rows.keep_rows` kept its ranker's rows under.
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
        """The version that a training just made."""
        chain = trained.chain
        return cls(
            chain=chain,
            config=config,
            columns=columns_of(chain.assembler.families, [chain.assembler.sources, chain.interest]),
            ranker=trained.ranker,
            behaviour_ranker=trained.behaviour_ranker,
            encoder_day=trained.encoder_day,
            valid=trained.split.valid,
            rows=trained.rows,
        )

    def lists(self, parts: Sequence[str], window: Labelled) -> dict[str, pl.DataFrame]:
        """Lists (`Scored`) of the version without each part, by the name that `without` gives.

        Args:
            parts: Of `parts_of`.
            window: The requests that are judged, with their rows.

        Raises:
            ConfigError: The rows that the ranker learned from are not there.
            IntegrityError: They were altered.
            ContractError: The log is another one than theirs.
        """
        lists = {}
        for part in parts:
            if part.startswith(FIELD):
                other = emptied(self.chain.log, part.removeprefix(FIELD))
                lists[without(part)] = ranked(self.ranker, self.scored(other, window, name=without(part)))
            else:
                lists[without(part)] = ranked(self.ranker_without(part, logged_lists=window.logged_lists), window.rows)
        return lists

    def scored(self, log: EventLog, window: Labelled, *, name: str) -> pl.DataFrame:
        """Rows of a window's requests over another log, with nothing trained again."""
        inventory, cut = self.chain.assembler.plan.inventory, self.chain.cut
        chain = Chain(log, self.config, self.chain.model, inventory, cut=cut)
        name, day = f"Scoring {name}", self.encoder_day
        return rows_of(chain, self.config, window.requests, window.truth, name=name, encoder_day=day)

    def ranker_without(self, part: str, *, logged_lists: bool = False) -> Ranker:
        """A ranker trained without a part, on the rows that the version's ranker learned from.

        Args:
            part: A part of `parts_of` that is no text field.
            logged_lists: Whether the judged candidates are logged lists. Then the version's own behaviour-only ranker
                is the one without text; else that ranker has other candidates, and one is trained.
        """
        if part == TEXT and logged_lists:
            return self.behaviour_ranker
        fitted, valid = self._taught
        if part == PREQUENTIAL:
            fitted = self.in_sample()
        features = tuple(column.name for column in self.columns if _stays(column, part))
        return fit_ranker(f"ranker without {part}", features, fitted, valid, self.config)

    def in_sample(self) -> pl.DataFrame:
        """The rows that the ranker learned from, under the final encoder."""
        kept, chain = self._taught[0], self.chain
        lists = _lists_of(kept)
        days = lists["as_of_day"].unique().sort()
        requests = chain.request_source.between(int(days[0]), int(days[-1]) + 1)
        taught = lists.select("user", "as_of_day").unique()
        requests = requests.join(taught, on=["user", "as_of_day"], how="semi", maintain_order="left")
        truth = chain.request_source.truth(requests)
        name, day = "In-sample scores", self.encoder_day
        again = rows_of(chain, self.config, requests, truth, name=name, encoder_day=day)
        alike = ["user", "as_of_day", "rows", "items", "labels"]
        whole, new = (
            rescored.join(lists, on=alike, how="semi")["request"].implode()
            for rescored in (_lists_of(again), _lists_of(again, only=IS_NEW))
        )
        wanted = pl.col("request").is_in(whole) | (pl.col("request").is_in(new) & IS_NEW)
        return picked(again, lambda some: some.filter(wanted), self.config)

    @cached_property
    def _taught(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The rows that the ranker learned from, and its validation rows, scored by the final encoder."""
        fitted = kept_rows(self.rows, self.chain.log, self.config)
        return fitted, validation(self.chain, self.config, self.valid, self.encoder_day).rows


def _lists_of(rows: pl.DataFrame, *, only: pl.Expr | None = None) -> pl.DataFrame:
    """A fingerprint of each list: user, as_of_day, number of rows, and sums of items and labels.

    Args:
        rows: Rows of the lists.
        only: Which of them count.
    """
    counted = rows.lazy() if only is None else rows.lazy().filter(only)
    sums = {"items": pl.col("item").cast(pl.Int64).sum(), "labels": pl.col("label").cast(pl.Int64).sum()}
    lists = counted.group_by(Requests.column_names(), maintain_order=True)
    return lists.agg(rows=pl.len(), **sums).collect()


def emptied(log: EventLog, field: str) -> EventLog:
    """The log without the texts of a field."""
    return replace(log, items=log.items.with_columns(pl.lit(None, pl.String).alias(field)))


def _stays(column: Column, part: str) -> bool:
    if part in {TEXT, BEHAVIOUR}:
        return column.text == (part == BEHAVIOUR)
    return column.family != part
