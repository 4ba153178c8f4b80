"""Cross-fitting, for data without clocks: what is scored by the model was not there when that model learned.

A ranker that learns from scores of what the encoder has seen trusts them more than it may (Chernozhukov et al. 2018,
"Double/debiased machine learning"; Wolpert 1992, "Stacked generalization"). Where events have times the prequential
blocks prevent that, and cross-fitting would not: it learns from what came later. It is for data that tell no order.
"""

# R requests
from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt

from encoders.config import EncoderConfig
from encoders.data import Examples
from encoders.fit import Lesson, ReadTexts, Report, fit_block
from encoders.model import InterestModel
from features.errors import ConfigError

__all__ = ["cross_fit"]


def cross_fit(
    model: InterestModel,
    examples: Examples,
    fold: npt.NDArray[np.int64],
    *,
    by: Literal["user", "item"],
    read: ReadTexts,
    config: EncoderConfig,
    seed: int,
    report: Report | None = None,
) -> Iterator[tuple[int, Lesson]]:
    """Train the model once for each fold, on the other folds, from where it stands.

    While a fold is yielded the model is the one that may score it; when the iteration ends, however it ends, the model
    is what it was before.

    Args:
        model: Is trained in place.
        examples: All that there is to learn.
        fold: Fold of each request's user (R,), or of each item of the catalogue (items,), from 0 on
            (`features.partition.part_of`). All requests of a user must be in one fold.
        by: `user`: a fold's requests are not learned from; for rows of users that the model will meet as strangers.
            `item`: a fold's items are learned from neither as positives, nor as negatives, nor in histories; for items
            that it will meet as strangers.
        read: The catalogue's texts, pooled as the model stands.
        config: Rates, batch sizes, steps; each fold makes all of them.
        seed: Same seed, same machine: same weights to the last bit.
        report: Told of progress, a fold after the other.

    Yields:
        The fold, ascending, and what came of learning the others.

    Raises:
        ConfigError: Folds are not of the requests or of the items, or a fold leaves nothing to learn.
    """
    expected = len(examples) if by == "user" else len(examples.text_of_item)
    if fold.shape != (expected,) or not expected or fold.min() < 0:
        raise ConfigError(f"cross-fitting by {by} needs a fold from 0 on for each of {expected}, not {fold.shape}.")
    start = model.weights()
    try:
        for number in range(int(fold.max()) + 1):
            mine = fold == number
            others = examples.take(np.flatnonzero(~mine)) if by == "user" else examples.without(mine)
            if not len(others):
                raise ConfigError(f"fold {number} of {by}s leaves no request to learn from. Use more folds.")
            model.restore(start)
            yield number, fit_block(model, others, read, config=config, seed=seed + number, report=report)
    finally:
        model.restore(start)
