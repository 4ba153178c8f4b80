"""Fits a ranker on labelled rows that lie in a mapped file; training and ablations share it."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import polars as pl

from pipelines.base.config import Config
from pipelines.base.progress import Advance, say, task
from pipelines.stores.mapped import let_go, mapped_array, picked
from pipelines.training.labelled import IS_NEW, one_after_the_other
from ranker.config import Report
from ranker.ranker import FitSupport, Ranker, ranker_kind

__all__ = ["fit_ranker", "new_item_lists", "with_new_item_lists"]

_LET_GO_EVERY = 10  # trees or steps


def fit_ranker(
    name: str, features: tuple[str, ...], fitted: pl.DataFrame, valid: pl.DataFrame, config: Config
) -> Ranker:
    """A ranker of labelled rows, of the kind that `ranker.kind` names.

    Args:
        name: What it is called where progress is shown.
        features: Ordered names of the columns it learns from.
        fitted: Labelled rows that it learns from; rows of a request together.
        valid: The same of later requests, by which it is stopped.
        config: Everything configured.
    """

    @contextmanager
    def progress(part: str, total: int, unit: str, note: str) -> Iterator[Report]:
        with task(f"Training the {name}{part}", total, unit) as advance:
            yield _following(advance, note)

    return ranker_kind(config.ranker.kind).fit(
        with_new_item_lists(fitted, config),
        with_new_item_lists(valid, config),
        features=features,
        config=config.ranker,
        seed=config.seed,
        stop_at=config.evaluation.cutoffs[-1],
        support=FitSupport(
            progress=progress,
            tell=partial(say, name),
            pick=lambda rows, choose: picked(rows, choose, config),
            allocate=lambda rows, columns: mapped_array(rows, columns, config),
        ),
    )


def _following(advance: Advance, note: str) -> Report:
    """A callback that shows each tree or step, and releases mapped pages every few of them."""

    def follow(number: int, value: float) -> None:
        if number % _LET_GO_EVERY == 1:
            let_go()
        advance(1, note=note.format(value))

    return follow


def with_new_item_lists(rows: pl.DataFrame, config: Config) -> pl.DataFrame:
    """All lists, followed by their `new_item_lists` as further requests, in files that are mapped into memory."""
    return one_after_the_other([rows, picked(rows, new_item_lists, config)])


def new_item_lists(rows: pl.DataFrame) -> pl.DataFrame:
    """The new-to-user items of each list that has a new positive and also items that are not new.

    What a user had before fills the top of most lists, and with it the gradient; in the second list of the same request
    the order of new items is learned.

    Args:
        rows: request, item, label and `pair_events_all`; rows of a request together.

    Returns:
        Some of the rows, in their order. A list of new items alone is not among them: it would be learned twice.
    """
    has_new_positive = (pl.col("label").filter(IS_NEW).max() > 0).over("request")
    return rows.filter(has_new_positive & ~IS_NEW.all().over("request")).filter(IS_NEW)
