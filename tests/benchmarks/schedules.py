"""Rates within a block, and what the next block goes on from: Online Retail up to the test, which is not judged.

    NIGHTRANK_DATA=... python tests/benchmarks/schedules.py [--seed N] [--to FOLDER] [--set KEY=VALUE ...]

- *rise and fall*: what the project does. The rate falls to nothing at a block's end; the next block goes on from there.
- *constant*: the rate stays after its warm-up, and falls in the last steps of a copy that scores the next block; the
  next block goes on from what was there before these steps.

Printed is NDCG@10 of the interest score on items new to the user, on each next block and on validation.
"""

import json
import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from outcome import command_line
from shops import project

import encoders.fit
import encoders.module
import pipelines.training.train
from encoders.data import Batch, Examples
from encoders.fit import ReadTexts
from encoders.items import CodedItems
from encoders.module import InterestModule
from pipelines.base import report
from pipelines.inputs.check import read_inputs
from pipelines.training.block_training import BlockTrainer

FALLING = 10  # steps of the copy


def main() -> int:
    """Run and print."""
    parser = command_line(__doc__)
    parser.set_defaults(data="online-retail", households=None)
    with project(parser, name="{}-schedules") as (base, _):
        config = base.model_copy(update={"ranker": base.ranker.model_copy(update={"max_trees": 1})})
        log = read_inputs(config).log
        ndcgs = {"rise and fall": pipelines.training.train.train(log, config).valid_ndcg}
        encoders.module.rise_and_fall = constant
        encoders.fit.InterestModule = Branching
        pipelines.training.train.BlockTrainer = FromTheBranch
        ndcgs["constant"] = pipelines.training.train.train(log, config).valid_ndcg
    for name, values in ndcgs.items():
        report.show(f"{name:16}{'  '.join(f'{value:.4f}' for value in values)}")
    sys.stdout.write(json.dumps({"seed": config.seed, "new_to_user_ndcg_at_10": ndcgs}) + "\n")
    return 0


def constant(start: int, end: int, warmup_share: float) -> Callable[[int], float]:
    """0 before `start`, 1 after the warm-up, 0 at `end`."""
    warmup = max(round(warmup_share * (end - start)), 1)
    return lambda step: max(min((step - start + 1) / warmup, (end - step) / FALLING, 1.0), 0.0)


class Branching(InterestModule):
    """Says when the last steps of the copy begin."""

    before_the_fall: Callable[[], None]

    def on_train_batch_end(self, outputs: object, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        """After each step."""
        if self.global_step == self._config.head_steps + self._config.steps - FALLING:
            Branching.before_the_fall()


class FromTheBranch(BlockTrainer):
    """Goes on from the state before the last steps of the block before."""

    _branch = None

    def teach(self, examples: Examples, items: CodedItems | None = None) -> npt.NDArray[np.int16]:
        """Learn a block."""
        if self._branch is not None:
            self._model.restore(self._branch)
            read = self._read
            pooled = self._model.pool("tuned", read.texts, lower=read.lower)
            self._read = ReadTexts(read.texts, read.lower, pooled)

        def keep() -> None:
            self._branch = self._model.weights()

        Branching.before_the_fall = keep
        return super().teach(examples, items)


if __name__ == "__main__":
    sys.exit(main())
