"""Fits a ranker on labelled rows that lie in a mapped file; training and ablations share it."""

import polars as pl

from pipelines.base.config import Config
from pipelines.base.progress import Advance, say, task
from pipelines.stores.mapped import let_go, mapped_array, picked
from pipelines.training.labelled import IS_NEW, one_after_the_other, with_a_positive
from ranker.config import Report
from ranker.lambdamart import LambdaMart
from ranker.listnet_fit import fit_listnet, steps_of
from ranker.ranker import Ranker

__all__ = ["fit_ranker", "new_item_lists", "with_new_item_lists"]

_LET_GO_EVERY = 10  # trees or steps


def fit_ranker(
    name: str, features: tuple[str, ...], fitted: pl.DataFrame, valid: pl.DataFrame, config: Config
) -> Ranker:
    """Fit the trees, and the network beside them if configured, and choose their shares.

    Args:
        name: How progress calls the ranker.
        features: Columns that it reads, in order.
        fitted: Rows to learn from; rows of a request together.
        valid: Rows by which training stops and the shares are chosen.
        config: `ranker`, `seed`, and the last of `evaluation.cutoffs`.
    """
    settings, stop_at = config.ranker, config.evaluation.cutoffs[-1]
    fitted, valid = with_new_item_lists(fitted, config), with_new_item_lists(valid, config)
    with task(f"Training the {name}", settings.max_trees, "trees") as advance:
        forest = LambdaMart.fit(
            fitted,
            picked(valid, with_a_positive, config),
            features=features,
            config=settings,
            seed=config.seed,
            stop_at=stop_at,
            report=_following(advance, f"ndcg@{stop_at} {{:.4f}}"),
        )
    network = None
    if settings.learns_network:
        with task(f"Training the {name}'s network", steps_of(settings, fitted), "steps") as advance:
            network = fit_listnet(
                fitted,
                features=features,
                config=settings,
                seed=config.seed,
                report=_following(advance, "loss {:.3f}"),
                held=lambda rows, inputs: mapped_array(rows, inputs, config),
            )
    ranker = Ranker.of(forest, network, valid, gain=settings.gain, stop_at=stop_at)
    say(name, trees=forest.trees, network_share=ranker.share)
    return ranker


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
