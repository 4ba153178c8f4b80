"""Fine-tunes the interest model block by block; texts are read once, and a killed training can be resumed."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np
import numpy.typing as npt
from torch import Tensor

from encoders.config import EncoderConfig
from encoders.data import Examples
from encoders.embed import is_out_of_memory
from encoders.fit import BlockTraining, ReadTexts, Report, fit_block
from encoders.items import CodedItems
from encoders.model import LEAST_AGREEMENT, InterestModel, Which
from encoders.tokenize import TokenisedTexts
from features.errors import TryAgainError
from pipelines.base.config import Config
from pipelines.base.progress import Advance, say, task
from pipelines.stores.mapped import give_back
from pipelines.training.backend import refuse_unfit_backend
from pipelines.training.chain import Catalogue, store_vectors
from pipelines.training.memory import Memory
from ranker.metrics import ndcg_at

__all__ = ["BlockTrainer", "Watch", "block_series", "settle_precision", "spill_file"]

Watch = Callable[[str, Sequence[float]], None]
"""watch(name, values) gets a series as far as it goes, again each time that it has grown."""

_CACHE_SHARE = 0.25  # of max_memory_gb
_OLD_REQUESTS = 200  # of earlier blocks, on which forgetting is measured


class BlockTrainer:
    """Fine-tunes an interest model on one block after the other.

    Every text is read through the frozen layers once. Vectors of the catalogue are kept in the vector store whenever
    the model has changed, and its state in the output folder while it learns: a training that was killed makes only
    the steps that are missing.

    Args:
        model: Is trained in place.
        catalogue: The texts, and the queries of all requests that are learned from.
        config: Everything configured.
        watch: Called with losses and checks while they come; None for nobody.
        past: Examples that an earlier training taught the model: they are replayed, and measure forgetting. None for a
            pretrained model.
        memory: Bounds what a training step takes; None lets it take what it needs.

    Attributes:
        trainings: Losses and checks of each block so far.
    """

    def __init__(
        self,
        model: InterestModel,
        catalogue: Catalogue,
        config: Config,
        watch: Watch | None = None,
        *,
        past: Examples | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.trainings: list[BlockTraining] = []
        self._model = model
        self._catalogue = catalogue
        self._config = config
        self._watch = watch
        self._past = past
        self._memory_bytes = None if memory is None else memory.batch_bytes
        encoder = config.encoder
        self._measured = past is not None or encoder.replay_share > 0 or encoder.start_weight > 0
        texts = model.tokenise(catalogue.texts)
        settle_precision(model, texts, config.encoder)
        refuse_unfit_backend(model, texts)
        if catalogue.queries:
            texts = texts.joined(model.tokenise(catalogue.queries, queries=True))
        many = len(texts.ids)
        with (
            task("Reading texts (frozen layers)", many, "texts") as advance,
            spill_file(model.hidden_bytes(texts), config) as file,
        ):
            lower = model.read_lower(texts, progress=advance, file=file)
        with task("Reading texts (upper layers)", many, "texts") as advance:
            which: Which = "zero_shot" if past is None else "tuned"  # the same, until something is taught
            pooled = model.pool(which, texts, lower=lower, progress=advance)
        self._read: ReadTexts | None = ReadTexts(texts, lower, pooled)
        self._store(which, pooled)

    def teach(self, examples: Examples, items: CodedItems | None = None) -> npt.NDArray[np.int16]:
        """Train on a block.

        Args:
            examples: The block's examples.
            items: Texts and item codes of their positions; None without item embeddings.

        Returns:
            (texts, D) tuned vectors of the catalogue's distinct texts after the block.

        Raises:
            TryAgainError: Memory does not suffice for a training batch.
        """
        read, encoder, number = self._read, self._config.encoder, len(self.trainings)
        assert read is not None, "no block after the end"
        read = replace(read, items=items)
        seed, old = self._config.seed * 1000 + number, None
        taught = examples
        if self._past is not None and self._measured:
            old = self._past.split(_OLD_REQUESTS)[1]
            taught = examples.replaying(self._past, encoder.replay_share, seed)
        training = self._fit(read, taught, old, seed)
        give_back()
        if training.old_before is not None and training.old_after is not None:
            before, after = round(training.old_before, 4), round(training.old_after, 4)
            say("requests of earlier blocks", ndcg_at_10_before=before, ndcg_at_10_after=after)
        self.trainings.append(training)
        self._past = examples if self._past is None else self._past.joined(examples).split(encoder.max_requests)[1]
        pooled = self._model.pool("tuned", read.texts, lower=read.lower)
        self._read = ReadTexts(read.texts, read.lower, pooled)
        return self._store("tuned", pooled)

    def end(self) -> None:
        """Free the memory that only training needs; no block may follow."""
        self._read = None

    def forget(self) -> None:
        """Remove the checkpoints, once the training is done."""
        folder = self._unfinished()
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # another training may have its own there
            folder.parent.rmdir()

    def _fit(self, read: ReadTexts, taught: Examples, old: Examples | None, seed: int) -> BlockTraining:
        """Train on one block; out of memory, begin it again with gradient checkpointing, which gives the same bits."""
        number, encoder = len(self.trainings) + 1, self._config.encoder
        steps = encoder.head_steps + encoder.steps if len(taught) else 0

        def fit(encoder: EncoderConfig) -> BlockTraining:
            with task(f"Fine-tuning, block {number}", steps, "steps") as advance:
                return fit_block(
                    self._model,
                    taught,
                    read,
                    config=encoder,
                    seed=seed,
                    report=self._follow(advance),
                    old=old,
                    checkpoints=self._unfinished() / f"block-{number}",
                    linear_ndcg=partial(ndcg_at, k=10, gain="linear"),
                    memory_bytes=self._memory_bytes,
                )

        before = self._model.weights()
        try:
            return fit(encoder)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        say("out of memory", block=number, again="with the layers' inner values computed twice")
        self._model.restore(before)
        try:
            return fit(encoder.model_copy(update={"gradient_checkpointing": True}))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise TryAgainError(
                "memory does not suffice for a training batch. Free some, or make batches smaller: "
                "encoder.requests_per_batch, encoder.candidates_per_request or encoder.max_tokens."
            ) from error

    def _follow(self, advance: Advance) -> Report:
        """A callback that shows each step's loss and rate, and passes the series on to `watch`."""
        block, last, texts_before, done = len(self.trainings), time.monotonic(), 0, 0

        def follow(training: BlockTraining, texts: int) -> None:
            nonlocal last, texts_before, done
            now = time.monotonic()
            rate = (texts - texts_before) / max(now - last, 1e-9)
            # NOTE: a block that was taken up begins with the steps that another training made.
            advance(len(training.losses) - done, note=f"loss {training.losses[-1]:.3f}, {rate:,.0f} texts/s")
            last, texts_before, done = now, texts, len(training.losses)
            if self._watch is not None:
                for name, values in block_series(block, training).items():
                    self._watch(name, values)

        return follow

    def _store(self, which: Which, pooled: Tensor) -> npt.NDArray[np.int16]:
        """Put the catalogue's vectors into the vector store; returns those of its texts."""
        vectors = self._model.project(which, pooled)
        store_vectors(self._config, self._model, which, self._catalogue, vectors)
        return vectors[: len(self._catalogue.texts)]

    def _unfinished(self) -> Path:
        """Folder of the checkpoints of trainings with this configuration."""
        return Path(self._config.output) / "unfinished" / self._config.digest()[:16]


def block_series(block: int, training: BlockTraining) -> Mapping[str, list[float]]:
    """The series of a block that are tracked, by names that MLflow accepts; empty series are left out."""
    series = {"loss": training.losses, "ndcg_at_10": training.checks}
    if training.old_before is not None and training.old_after is not None:
        series["earlier_blocks_ndcg_at_10"] = [training.old_before, training.old_after]
    return {f"encoder.block_{block}.{name}": values for name, values in series.items() if values}


def settle_precision(model: InterestModel, texts: TokenisedTexts, config: EncoderConfig) -> None:
    """Fall back from bfloat16 to float32 where `precision: auto` chose it and vectors would differ too much."""
    if config.precision == "auto" and model.bf16:
        cosine = model.agreement(texts)
        model.bf16 = cosine >= LEAST_AGREEMENT
        say("precision", bf16=model.bf16, least_cosine_to_fp32=round(cosine, 6))


@contextmanager
def spill_file(size: int, config: Config) -> Iterator[IO[bytes] | None]:
    """A nameless file for so many bytes, which vanishes when it is closed; None where they may stay in memory.

    Raises:
        TryAgainError: The disk cannot hold them.
    """
    if size <= min(config.encoder.cache_gb, _CACHE_SHARE * config.max_memory_gb) * 1e9:
        yield None
        return
    folder = Path(config.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as file:
            yield file
    except OSError as error:
        raise TryAgainError(
            f"{folder} cannot hold {size / 1e9:.1f} GB of hidden states ({error.strerror}). Free the disk, or allow "
            "more memory (encoder.cache_gb)."
        ) from error
