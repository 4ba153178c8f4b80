"""RecTools' models on an exchange folder; needs nothing of ours.

    python rectools_peer.py TASK

TASK is the JSON that `run.py` writes: name, folder, out, settings, top, seen, seed, threads. The transformers learn
from `train.parquet`, on a GPU where there is one; the epoch with the best NDCG@10 on `valid.parquet` is kept. Each
request of `history.parquet` is then a user of its own, whose history is read anew: nothing is learned from it.

The loss is RecTools' own, over the positions that have a next item: the library scores the padding too (most of a batch
where histories are short) and multiplies its loss by 0.
"""

import json
import sys
import time
import warnings
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import torch
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset, IdMap, Interactions
from rectools.models import BERT4RecModel, EASEModel, SASRecModel
from rectools.models.base import ModelBase
from rectools.models.nn.transformers.lightning import TransformerLightningModule
from rectools.models.nn.transformers.ligr import LiGRLayers

CLASSES = {"sasrec": SASRecModel, "esasrec": SASRecModel, "bert4rec": BERT4RecModel}
FIRST = 10


class PositionsThatCount(TransformerLightningModule):
    """Scores only positions with a next item; validates by NDCG@10 over the whole catalogue.

    Attributes:
        seen: Whether items of the history are ranked too.
    """

    seen = False

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:  # noqa: ARG002
        item_ID = self.torch_model.item_model.get_all_embeddings()
        counts = batch["y"] != 0
        session_ND = self.torch_model.encode_sessions(batch, item_ID)[counts]
        next_N, weight_N = batch["y"][counts], batch["yw"][counts]
        candidates = None
        if self._requires_negatives:
            candidates = torch.cat([next_N.unsqueeze(-1), batch["negatives"][counts]], dim=-1).unsqueeze(0)
        logits = self.torch_model.similarity_module(session_ND.unsqueeze(0), item_ID, candidates)
        loss = self.loss_calculator(logits, next_N.unsqueeze(0), weight_N.unsqueeze(0))
        self.log(self.train_loss_name, loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:  # noqa: ARG002
        item_ID = self.torch_model.item_model.get_all_embeddings()
        score_BI = self.torch_model.encode_sessions(batch, item_ID)[:, -1] @ item_ID.T
        score_BI[:, 0] = -torch.inf  # padding
        if not self.seen:
            score_BI.scatter_(1, batch["x"], -torch.inf)
        next_B1 = batch["y"]
        better_B = (score_BI > score_BI.gather(1, next_B1)).sum(1)
        ndcg_B = torch.where(better_B < FIRST, 1 / torch.log2(better_B + 2.0), 0.0)
        self.log("ndcg", ndcg_B.mean(), on_epoch=True, batch_size=len(ndcg_B))


class Best(Callback):
    """Keeps the weights of the epoch that validates best, and stops once `patience` epochs were no better."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best, self.epoch, self.weights = -1.0, 0, {}
        self.start = time.monotonic()

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        ndcg = float(trainer.callback_metrics["ndcg"])
        if ndcg > self.best:
            self.best, self.epoch = ndcg, trainer.current_epoch
            self.weights = {name: value.clone() for name, value in module.state_dict().items()}
        trainer.should_stop |= trainer.current_epoch - self.epoch >= self.patience
        words = f"epoch {trainer.current_epoch}: ndcg@10 {ndcg:.4f}, best {self.best:.4f}"
        sys.stderr.write(f"{words}, {time.monotonic() - self.start:.0f} s\n")

    def on_train_end(self, _: Trainer, module: LightningModule) -> None:
        module.load_state_dict(self.weights)


def main() -> None:
    """Train, recommend, and say what it took."""
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(task["threads"])
    seed_everything(task["seed"], verbose=False)
    warnings.filterwarnings("ignore")
    folder = Path(task["folder"])
    train, valid, history = (pl.read_parquet(folder / f"{name}.parquet") for name in ("train", "valid", "history"))
    start = time.monotonic()
    kind = task["name"].removeprefix("rectools-")
    settings = dict(task["settings"])
    if kind == "ease":
        model, learned = EASEModel(**settings, num_threads=task["threads"]), table(train, "user")
    else:
        learned = table(pl.concat([train, valid]), "user")
        model = transformer(kind, settings, np.arange(len(learned)) >= len(train), seen=task["seen"])
    dataset = Dataset.construct(learned)
    model.fit(dataset)
    seconds = time.monotonic() - start
    lists = recommended(model, dataset, history, task)
    lists.write_parquet(task["out"])
    facts = {"fit_seconds": seconds, "seconds": time.monotonic() - start}
    if kind != "ease":
        best = next(each for each in model.fit_trainer.callbacks if isinstance(each, Best))
        facts |= {"epoch": best.epoch, "epochs": model.fit_trainer.current_epoch, "validation": best.best}
        facts |= {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"}
    sys.stdout.write(json.dumps(facts) + "\n")


class SeenToo(PositionsThatCount):
    """The same where items of the history may be recommended again."""

    seen = True


def transformer(kind: str, settings: dict, validation: np.ndarray, *, seen: bool) -> ModelBase:
    """An untrained transformer, for interactions of which some are left out for `validation`."""
    epochs, patience, minutes = (settings.pop(name) for name in ("epochs", "patience", "max_minutes"))
    if kind == "esasrec":
        multiplier = settings.pop("ff_factors_multiplier")
        settings |= {
            "transformer_layers_type": LiGRLayers,
            "transformer_layers_kwargs": {"ff_factors_multiplier": multiplier},
        }

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=epochs,
            max_time=timedelta(minutes=minutes),
            callbacks=[Best(patience)],
            deterministic="warn",  # a GPU has no such kernel for some of what the library does
            accelerator="auto",
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            logger=False,
        )

    return CLASSES[kind](
        **settings,
        lightning_module_type=SeenToo if seen else PositionsThatCount,
        get_val_mask_func=lambda _: validation,
        get_trainer_func=trainer,
    )


def table(events: pl.DataFrame, of: str) -> pd.DataFrame:
    """Interactions as RecTools wants them; the order stands for the time, in seconds."""
    return pd.DataFrame(
        {
            Columns.User: events[of].to_numpy(),
            Columns.Item: events["item"].to_numpy(),
            Columns.Weight: np.ones(len(events)),
            Columns.Datetime: pd.to_datetime(events["at"].to_numpy(), unit="s"),
        }
    )


def recommended(model: ModelBase, dataset: Dataset, history: pl.DataFrame, task: dict) -> pl.DataFrame:
    """request, item, score of the requests that have an item the model knows."""
    in_vocabulary = history.filter(pl.col("item").is_in(dataset.item_id_map.external_ids.tolist()))
    viewed = table(in_vocabulary, "request")
    users = IdMap.from_values(viewed[Columns.User].to_numpy())
    requests = Dataset(users, dataset.item_id_map, Interactions.from_raw(viewed, users, dataset.item_id_map))
    lists = model.recommend(users.external_ids, requests, k=task["top"], filter_viewed=not task["seen"])
    columns = {"request": Columns.User, "item": Columns.Item, "score": Columns.Score}
    return pl.DataFrame({name: lists[theirs].to_numpy() for name, theirs in columns.items()}).cast(
        {"request": pl.Int64, "item": pl.Int64, "score": pl.Float64}
    )


if __name__ == "__main__":
    main()
