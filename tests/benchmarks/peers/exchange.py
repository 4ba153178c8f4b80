"""What peers are given and give back, and how it is judged: Parquet files of integer codes.

A folder holds `train.parquet` (user, item, at: what may be learned), `valid.parquet` (the same: what chooses an epoch,
and is not learned) and `history.parquet` (request, item, at: what was known when a request was asked). `at` tells the
order. A peer writes request, item, score.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from beauty import read

from features.log.event_log import EventLog, date_of
from features.log.event_parts import OPEN_END
from features.requests.engaged import requests_between, truth_of
from pipelines.base.config import Config, load_config
from pipelines.evaluation.evaluate import Evaluation, evaluate
from pipelines.evaluation.external import coded_scores
from pipelines.inputs.check import read_inputs
from pipelines.training.labelled import Labelled
from pipelines.verbs.datasets import load_dataset
from pipelines.verbs.origins import origins_of
from pipelines.verbs.project import write_dataset
from ranker.metrics import per_request

Ints = npt.NDArray[np.int64]
VALIDATION_PART = 10  # one user in so many chooses the epoch, where clocks leave no last event but one


@dataclass(frozen=True, slots=True, eq=False)
class Exchange:
    """Tables that peers are given.

    Attributes:
        train: user, item, at.
        valid: The same, of users of `train`.
        history: request, item, at; a request without history is absent.
        requests: All that are asked.
        seen: Whether what a request's history holds may be recommended again.
        top: Items of a list.
    """

    train: pl.DataFrame
    valid: pl.DataFrame
    history: pl.DataFrame
    requests: pl.Series
    seen: bool
    top: int

    def write(self, folder: Path) -> str:
        """Write the tables into a folder.

        Returns:
            sha256 over them.
        """
        folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        for name in ("train", "valid", "history"):
            path = folder / f"{name}.parquet"
            getattr(self, name).write_parquet(path)
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def filled(self, ranked: pl.DataFrame) -> pl.DataFrame:
        """A peer's lists; a request that it has none for gets what most users of `train` had, ties to the lower code.

        Args:
            ranked: request, item, score.
        """
        users = self.train.group_by("item").agg(score=pl.col("user").n_unique().cast(pl.Float64))
        popular = users.sort("score", "item", descending=[True, False]).head(self.top)
        without = self.requests.filter(~self.requests.is_in(ranked["request"].unique().implode()))
        lists = pl.DataFrame({"request": without}).cast(pl.Int64).join(popular, how="cross")
        return pl.concat([ranked, lists.select("request", pl.col("item").cast(pl.Int64), "score")])


def beauty(data: Path) -> tuple[Exchange, pl.DataFrame]:
    """Amazon Beauty, leave-one-out: s[:-2] is learned, s[-2] chooses, s[-1] is asked for after s[:-1].

    Returns:
        The exchange, and the truth: request_id, item_id, label.
    """
    _, sequences = read(data, np.random.default_rng(0))
    exchange = Exchange(
        train=_placed([s[:-2] for s in sequences], "user"),
        valid=_placed([s[-2:-1] for s in sequences], "user", [len(s) - 2 for s in sequences]),
        history=_placed([s[:-1] for s in sequences], "request"),
        requests=pl.Series("request", np.arange(len(sequences))),
        seen=False,
        top=20,
    )
    last = np.array([s[-1] for s in sequences])
    return exchange, pl.DataFrame({"request_id": np.arange(len(last)), "item_id": last, "label": 1})


def _placed(rows: Sequence[Ints], of: str, first: Sequence[int] | None = None) -> pl.DataFrame:
    """Items of each row, with its number, and their places from `first` on."""
    many = [len(row) for row in rows]
    ranks = [np.arange(len(row)) + start for row, start in zip(rows, first or [0] * len(rows), strict=True)]
    return pl.DataFrame(
        {of: np.repeat(np.arange(len(rows)), many), "item": np.concatenate(rows), "at": np.concatenate(ranks)}
    )


def ndcg(ranked: pl.DataFrame, truth: pl.DataFrame) -> pl.DataFrame:
    """NDCG@10 of request, item, score: request_id, ndcg@10, by request_id."""
    lists = ranked.rename({"request": "request_id", "item": "item_id"})
    return per_request(lists, truth, cutoffs=[10]).select("request_id", "ndcg@10").sort("request_id")


def in_order(log: EventLog) -> pl.DataFrame:
    """The events that count in the order of time, numbered by `at`."""
    order = ["day", "timestamp", "user", "item", "gain", "value"]
    return log.label_events.between(0, OPEN_END).sort(order).with_row_index("at")


@dataclass(frozen=True, slots=True, eq=False)
class Retail:
    """Online Retail by its protocol, as of one cut-off.

    Attributes:
        log: All of it until the window ends.
        config: Of its project.
        requests: Of its last 28 days, as `features.requests.engaged.requests_between` makes them.
        first_day: First of these days.
    """

    log: EventLog
    config: Config
    requests: pl.DataFrame
    first_day: int

    @classmethod
    def read(cls, folder: Path, origins: int = 1) -> list["Retail"]:
        """A project in a folder, as of each of the cut-offs that `nightrank evaluate --origins` takes, latest first."""
        config = load_config(write_dataset(load_dataset("online-retail"), folder))
        return cls.of(read_inputs(config).log, config, origins)

    @classmethod
    def of(cls, log: EventLog, config: Config, origins: int) -> list["Retail"]:
        """The same of a log that was read."""
        return [
            cls(cut, config, requests_between(cut, split.test.start, split.test.closed_end), split.test.start)
            for cut, split in origins_of(log, config, origins)
        ]

    def exchange(self) -> Exchange:
        """What lies before the test is learned, but the last day of one user in ten, which chooses the epoch."""
        events = in_order(self.log).select("at", "user", "item", "day").cast(pl.Int64)
        before = events.filter(pl.col("day") < self.first_day)
        first, last = pl.col("day").min().over("user"), pl.col("day").max().over("user")
        is_validation = (pl.col("user") % VALIDATION_PART == 0) & (pl.col("day") == last) & (first < last)
        requests = self.requests.cast(pl.Int64)
        history = requests.join(events, on="user").filter(pl.col("day") < pl.col("as_of_day"))
        return Exchange(
            train=before.filter(~is_validation).select("user", "item", "at"),
            valid=before.filter(is_validation).select("user", "item", "at"),
            history=history.sort("request", "at").select("request", "item", "at"),
            requests=requests["request"],
            seen=True,
            top=200,
        )

    def named(self, lists: pl.DataFrame) -> pl.DataFrame:
        """Lists as `nightrank evaluate --scores` reads them: user_id, day, item_id, score."""
        days = {day: date_of(day) for day in self.requests["as_of_day"].unique()}
        rows = lists.join(self.requests.cast(pl.Int64), on="request", how="left", maintain_order="left")
        return rows.select(
            user_id=self.log.user_ids.gather(rows["user"]),
            day=pl.col("as_of_day").replace_strict({int(day): days[day] for day in days}, return_dtype=pl.Date),
            item_id=self.log.items["item_id"].gather(rows["item"]),
            score="score",
        )

    def judge(self, scores: Mapping[str, pl.DataFrame]) -> Evaluation:
        """Peers' scores and the baselines, by the judge that judges ours."""
        truth = truth_of(self.requests, self.log, self.config.labels)
        labelled = Labelled(self.requests, truth, pl.DataFrame())
        lists = coded_scores(scores, labelled, self.log)
        union = pl.concat(lists.values()).select("request", "item").unique()
        return evaluate(
            self.log, self.config, Labelled(self.requests, truth, union), lists=lists, first_day=self.first_day
        )
