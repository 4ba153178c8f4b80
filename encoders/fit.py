"""Take the interest model through one block of the timeline."""

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint

from encoders.adapters import adapted
from encoders.config import EncoderConfig
from encoders.data import BlockBatches, BlockData, Examples, WholeLists
from encoders.items import CodedItems
from encoders.model import InterestModel
from encoders.module import LINEAR_NDCG, InterestModule, ListMetric, ReadTexts

__all__ = ["BlockTraining", "ReadTexts", "Report", "fit_block", "quiet"]


@dataclass(frozen=True, slots=True)
class BlockTraining:
    """Losses and checks of the training on one block.

    Attributes:
        losses: Loss of each step.
        checks: NDCG@10, with linear gain, on the requests that judge when to stop, one a check.
        old_before: NDCG@10 on requests of an earlier block before this one was learned; None where none was given.
        old_after: The same afterwards: what was forgotten.
    """

    losses: list[float] = field(default_factory=list)
    checks: list[float] = field(default_factory=list)
    old_before: float | None = None
    old_after: float | None = None


Report = Callable[[BlockTraining, int], None]
"""Called after each step with the training so far, and the number of texts read since it began."""


class _Steps(Callback):
    def __init__(self, report: Report) -> None:
        self._report = report

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,  # noqa: ARG002 - Lightning's signature
        batch: object,  # noqa: ARG002
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, InterestModule)
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._report(BlockTraining(pl_module.losses, pl_module.checks), pl_module.texts_seen)


def fit_block(  # noqa: PLR0913 - who learns, from what, how, who watches and who judges
    model: InterestModel,
    examples: Examples,
    read: ReadTexts,
    *,
    config: EncoderConfig,
    seed: int,
    report: Report | None = None,
    old: Examples | None = None,
    checkpoints: Path | None = None,
    linear_ndcg: ListMetric | None = None,
    memory_bytes: float | None = None,
) -> BlockTraining:
    """Train both towers on a block, going on from where they stand.

    With `config.stop_requests` the block's latest requests (half of them, where it has no more than so many) are not
    trained on: they judge every `config.check_every` steps, training stops when they see nothing better for
    `config.patience` checks, and the best state is kept.

    Args:
        model: Is trained in place.
        examples: Requests of the block; without any, nothing happens.
        read: The catalogue's texts.
        config: Rates, batch sizes, steps.
        seed: Same seed, same machine: same weights to the last bit.
        report: Called after each step.
        old: Requests of an earlier block, to measure what is forgotten.
        checkpoints: Folder of this block's own, for its state every `config.check_every` steps. A training that was
            killed is taken up from there, to the same bits; what another training left there, or what is damaged, is
            written over.
        linear_ndcg: NDCG@10 with linear gain, as `ListMetric`; None where no request is judged.
        memory_bytes: See `InterestModule`.

    Raises:
        ValueError: `config.stop_requests` or `old` asks for a metric, and there is none.
    """
    judging = config.stop_requests if len(examples) > config.stop_requests else len(examples) // 2
    training, judges = examples.split(judging)
    batches = BlockBatches(training, config, seed=seed)
    if not len(batches) or config.train.last == 0:
        return BlockTraining()
    if linear_ndcg is None and (len(judges) or old is not None):
        raise ValueError("fit_block: requests are to be judged, and linear_ndcg is None. Pass a metric.")
    lightning.seed_everything(seed, verbose=False)
    name = _name_of(model, examples, read.items, config, seed)
    data = BlockData(batches, config.check_every * config.accumulate, WholeLists(judges) if len(judges) else None)
    with adapted(model.tuned, config.train):
        module = InterestModule(
            model.tuned,
            model.user_tower,
            read,
            config=config,
            block=name,
            item_embeddings=model.item_embeddings,
            linear_ndcg=linear_ndcg,
            memory_bytes=memory_bytes,
        )
        module.train()
        _fill_uninitialised(wanted=False)
        try:
            with quiet(), _folder(checkpoints, wanted=bool(len(judges))) as folder:
                before = _ndcg(module, old, bf16=model.bf16)
                trainer = _trainer(model, config, judged=bool(len(judges)), report=report, folder=folder)
                trainer.fit(module, data, ckpt_path=_left(folder, name), weights_only=True)
                _take_best(module, trainer)
                after = _ndcg(module, old, bf16=model.bf16)
        finally:
            for part in (model.tuned, model.user_tower, model.item_embeddings):
                if part is not None:
                    part.to("cpu").eval()
            torch.use_deterministic_algorithms(mode=False)
            _fill_uninitialised(wanted=True)
    return BlockTraining(module.losses, module.checks, before, after)


def _fill_uninitialised(*, wanted: bool) -> None:
    """Torch's guard against reading what nobody wrote; nothing here does, and it costs a tenth of a step."""
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", wanted)  # noqa: B010 - missing from its types


def _trainer(
    model: InterestModel, config: EncoderConfig, *, judged: bool, report: Report | None, folder: Path | None
) -> lightning.Trainer:
    callbacks: list[Callback] = [_Steps(report)] if report is not None else []
    if judged:
        callbacks.append(EarlyStopping(LINEAR_NDCG, mode="max", patience=config.patience))
    if folder is not None:
        if judged:
            callbacks.append(ModelCheckpoint(folder, "best", monitor=LINEAR_NDCG, mode="max"))
        # NOTE: one of its own, after it: what judges keeps no later state than the best, and the latest names the best.
        callbacks.append(ModelCheckpoint(folder, "last", enable_version_counter=False))
    return lightning.Trainer(
        max_epochs=-(-(config.head_steps + config.steps) // config.check_every),
        accumulate_grad_batches=config.accumulate,
        reload_dataloaders_every_n_epochs=1,
        accelerator="auto",
        devices=1,
        precision="16-mixed" if config.precision == "fp16" else "bf16-mixed" if model.bf16 else "32-true",
        gradient_clip_val=1.0,
        deterministic=True,
        logger=False,
        enable_checkpointing=folder is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=1.0 if judged else 0,
        callbacks=callbacks,
    )


def _take_best(module: InterestModule, trainer: lightning.Trainer) -> None:
    """Go back to the state that was judged best, where one was."""
    for kept in trainer.checkpoint_callbacks:
        if isinstance(kept, ModelCheckpoint) and kept.monitor is not None and kept.best_model_path:
            best = torch.load(kept.best_model_path, weights_only=True, map_location=module.device)
            module.load_state_dict(best["state_dict"], strict=False)


def _ndcg(module: InterestModule, examples: Examples | None, *, bf16: bool) -> float | None:
    """NDCG@10 of requests as the module stands, in the arithmetic of training; None for no requests."""
    if examples is None or not len(examples):
        return None
    module.eval()
    with torch.inference_mode(), torch.autocast(module.device.type, torch.bfloat16, enabled=bf16):
        lists = WholeLists(examples)
        for index in range(len(lists)):
            module.validation_step(lists[index], index)
    module.train()
    return module.take_judged()


def _name_of(
    model: InterestModel, examples: Examples, items: CodedItems | None, config: EncoderConfig, seed: int
) -> str:
    """sha256 over all that the result of training on a block depends on."""
    name = hashlib.sha256(f"{config.model_dump_json()} {seed} {model.interest_digest()}".encode())
    for tensor in model.user_tower.state_dict().values():
        name.update(tensor.numpy().tobytes())
    for array in (*examples.histories.parts(), examples.item, examples.gain):
        name.update(array.tobytes())
    for array in (examples.starts, examples.positives, examples.text_of_item):
        name.update(array.tobytes())
    of_items = () if items is None else (items.text_U, items.code_UN)
    for part in (examples.score, examples.query_R, *of_items):
        if part is not None:
            name.update(part.tobytes())
    return name.hexdigest()


@contextmanager
def _folder(checkpoints: Path | None, *, wanted: bool) -> Iterator[Path | None]:
    """Where the state is kept; a folder for the time being where the best state alone is wanted."""
    if checkpoints is not None or not wanted:
        yield checkpoints
        return
    with TemporaryDirectory(prefix="nightrank-") as folder:
        yield Path(folder)


def _left(folder: Path | None, block: str) -> Path | None:
    """The state that an earlier try at the same block left, if it is whole; others are cleared away."""
    if folder is None or not folder.is_dir():
        return None
    last = folder / "last.ckpt"
    try:
        if torch.load(last, weights_only=True, map_location="cpu")["block"] == block:
            return last
    except Exception:  # noqa: BLE001, S110 - a damaged file fails in whatever way it is damaged
        pass
    for path in folder.glob("*.ckpt"):
        path.unlink()
    return None


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's advertisements, and its warnings of what is meant so."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*module\(s\) in eval mode.*")  # the frozen layers
            warnings.filterwarnings("ignore", message=r".*LeafSpec.*", category=FutureWarning)
            warnings.filterwarnings("ignore", message=r"Detected call of `lr_scheduler\.step.*")  # fp16 skipped a step
            warnings.filterwarnings("ignore", message=r".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=r"Checkpoint directory .* exists and is not empty.*")
            yield
    finally:
        logger.setLevel(level)
