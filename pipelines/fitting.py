"""A ranker of labelled rows that lie in a file: training, and what a version is worth without a part, fit it alike."""

import polars as pl

from pipelines.config import Config
from pipelines.labelled import IS_NEW, one_after_the_other, with_a_positive
from pipelines.mapped import let_go, mapped_array, picked
from pipelines.progress import Advance, say, task
from ranker.config import Report
from ranker.lambdamart import LambdaMart
from ranker.listnet_fit import fit_listnet, steps_of
from ranker.ranker import Ranker

__all__ = ["fit_ranker"]

_LET_GO_EVERY = 10  # trees or steps


def fit_ranker(
    name: str, features: tuple[str, ...], fitted: pl.DataFrame, valid: pl.DataFrame, config: Config
) -> Ranker:
    """A ranker of labelled rows."""
    told, stop_at = config.ranker, config.evaluation.cutoffs[-1]
    fitted, valid = _taught_twice(fitted, config), _taught_twice(valid, config)
    with task(f"Training the {name}", told.max_trees, "trees") as advance:
        forest = LambdaMart.fit(
            fitted,
            picked(valid, with_a_positive, config),
            features=features,
            config=told,
            seed=config.seed,
            stop_at=stop_at,
            report=_following(advance, f"ndcg@{stop_at} {{:.4f}}"),
        )
    network = None
    if told.learns_network:
        with task(f"Training the {name}'s network", steps_of(told, fitted), "steps") as advance:
            network = fit_listnet(
                fitted,
                features=features,
                config=told,
                seed=config.seed,
                report=_following(advance, "loss {:.3f}"),
                held=lambda rows, inputs: mapped_array(rows, inputs, config),
            )
    ranker = Ranker.of(forest, network, valid, gain=told.gain, stop_at=stop_at)
    say(name, trees=forest.trees, network_share=ranker.share)
    return ranker


def _following(advance: Advance, note: str) -> Report:
    """Shows each tree or step, and gives back the pages that those before it read."""

    def follow(number: int, value: float) -> None:
        if number % _LET_GO_EVERY == 1:
            let_go()
        advance(1, note=note.format(value))

    return follow


def _taught_twice(rows: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Each request as it is, and once more with what is new to the user alone, where that is not all of it.

    What a user had before fills the top of most lists, and with it the gradient; the second list is where the order of
    new items is learned.
    """
    teaches = (pl.col("label").filter(IS_NEW).max() > 0).over("request") & ~IS_NEW.all().over("request")
    again = picked(rows, lambda some: some.filter(teaches).filter(IS_NEW), config)
    return one_after_the_other([rows, again])
