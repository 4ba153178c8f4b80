"""What features and candidates are, to the bit: a fingerprint of real logs to hold a change of the code against.

    NIGHTRANK_DATA=... python tests/oracles/golden.py FOLDER [--logs demo,ifdb,...] [--requests N]
    NIGHTRANK_DATA=... python tests/oracles/golden.py FOLDER --against BEFORE [--tolerance 1e-6]

For a fixed draw of each log's requests FOLDER gets every table that training, evaluation and the night are made of:
histories, truth, candidates, features and interest, the cut of candidates, in portions of 1, 37 and 1,000 requests,
by the path of training and by that of the night. `golden.json` holds the sha256 of each column (NaN and -0.0 in one
form). Told `--against` the folder of an earlier run, it names each column that differs, and by how much; the exit
status says whether all are within the tolerance (0: to the bit). Rows of a request must not depend on its portion: that
is checked in every run.

No encoder is needed: text vectors are sums of random directions, one a word, which depend on the word alone.
"""

import argparse
import hashlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import yaml

from encoders.interest import InterestScorer
from encoders.towers import UserTower
from features.assemble import Assembler, Portion
from features.log.event_log import EventLog
from features.requests.engaged import requests_tonight
from features.requests.split import Split
from features.shop.simulator import ShopConfig
from features.tables.hashing import stable_hash
from features.tables.text import GRID, item_texts
from pipelines.base.config import Config, load_config
from pipelines.inputs.read import read_events, read_for
from pipelines.training.feature_plan import plan_of
from pipelines.training.request_source import request_source
from pipelines.verbs.datasets import load_dataset, simulated
from pipelines.verbs.project import write_dataset

LOGS = ("demo", "online-retail", "ifdb", "wikispeedia", "simulated")
PORTIONS = {1: 12, 37: 111, 1000: 1000}
"""Requests of a portion, and how many of the drawn requests are asked in such portions."""

_WIDTH = 48
_NIGHT_USERS = 1000
_CUT_REQUESTS = 300


def main() -> int:
    """Make the fingerprint, compare it if asked, and say so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--logs", default=",".join(LOGS))
    parser.add_argument("--requests", type=int, default=max(PORTIONS))
    parser.add_argument("--against", type=Path, default=None)
    parser.add_argument("--tolerance", type=float, default=0.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = arguments.folder / "golden.json"
    hashes: dict[str, dict[str, str]] = json.loads(path.read_text()) if path.exists() else {}
    for name in arguments.logs.split(","):
        began = time.process_time()
        with tempfile.TemporaryDirectory(prefix="nightrank-golden-") as passing:
            config = load_config(project_of(name, Path(passing)))
            hashes[name] = {}
            for table, frame in tables_of(config, arguments.requests):
                hashes[name] |= {f"{table} {column}": digest_of(frame[column]) for column in frame.columns}
                target = arguments.folder / name / f"{table}.parquet"
                target.parent.mkdir(parents=True, exist_ok=True)
                frame.write_parquet(target)
        path.write_text(json.dumps(hashes, indent=1, sort_keys=True))
        seconds = time.process_time() - began
        sys.stdout.write(f"{name}: {len(hashes[name])} columns in {seconds:.0f} processor seconds\n")
    if arguments.against is None:
        return 0
    faults = [
        fault
        for name in arguments.logs.split(",")
        for fault in differences(arguments.folder / name, arguments.against / name, tolerance=arguments.tolerance)
    ]
    sys.stdout.write("\n".join([*faults, "" if faults else "all columns are as before"]) + "\n")
    return 1 if faults else 0


def tables_of(config: Config, n_requests: int) -> Iterator[tuple[str, pl.DataFrame]]:
    """Every table of a project, by a name that says where it comes from.

    Raises:
        AssertionError: The rows of a request depend on the portion that it stands in.
    """
    log = read_events(config).log
    split = Split.of(log, config.timeline, config.labels)
    source = request_source(log, config)
    vectors = text_vectors(log, config)
    plan = plan_of(log.before(split.test.start), config)
    maker = _Maker(Assembler(log, config.candidates, vectors, plan, event_types=tuple(config.labels.gains)), vectors)
    warm = drawn(source.between(split.warm_up.start, split.warm_up.closed_end), log, _CUT_REQUESTS)
    maker.assembler.generators.cut = maker.assembler.generators.fit_cut(warm, source.truth(warm))
    requests = drawn(source.between(split.blocks[0].start, split.test.closed_end), log, n_requests)
    yield "training truth", source.truth(requests)
    yield from maker.tables("training", requests)
    if config.requests.mode == "online":
        return
    inputs = read_for(plan, config, candidates=config.candidates)
    day = split.test.start
    before = inputs.log.before(day)
    users = before.active_users
    chosen = users.gather(np.sort(np.argsort(stable_hash(before.user_ids.gather(users)))[:_NIGHT_USERS]))
    tonight = Assembler(
        before,
        config.candidates,
        vectors,
        plan_of(before, config, plan.inventory),
        cut=maker.assembler.generators.cut,
        event_types=tuple(config.labels.gains),
    )
    if config.candidates.source == "generated":
        yield from _Maker(tonight, vectors).tables("night", requests_tonight(chosen, day))


@dataclass(frozen=True)
class _Maker:
    """Makes the tables of requests, and holds the portions against each other."""

    assembler: Assembler
    vectors: np.ndarray

    def tables(self, path: str, requests: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
        whole: dict[str, pl.DataFrame] = {}
        for size, most in sorted(PORTIONS.items(), reverse=True):
            parts: dict[str, list[pl.DataFrame]] = {}
            for portion in self.assembler.portions(requests.head(most), size=size):
                for name, frame in self._frames(portion).items():
                    parts.setdefault(name, []).append(frame)
            for name, frames in parts.items():
                frame = pl.concat(frames)
                if name not in whole:
                    whole[name] = frame
                    yield f"{path} {name}", frame
                else:
                    alike = whole[name].filter(pl.col("request").is_in(requests.head(most)["request"].implode()))
                    faults = unequal(alike, frame, tolerance=0.0)
                    assert not faults, f"{path}: portions of {size} differ in {name}: {faults}"

    def _frames(self, portion: Portion) -> Mapping[str, pl.DataFrame]:
        """A portion's history, its candidates with their features, and their interest."""
        torch.manual_seed(0)
        tower = UserTower(_WIDTH, event_types=8)
        torch.nn.init.normal_(tower.wanted_D, std=0.1)
        scorer = InterestScorer(tower.eval(), self.vectors, self.vectors, 100)
        interest = scorer.columns(portion.requests, portion.history, portion.rows)
        keys = portion.rows.select("request", "item")
        return {
            "history": portion.history,
            "features": portion.rows,
            "interest": pl.concat([keys, interest], how="horizontal"),
        }


def project_of(name: str, folder: Path) -> Path:
    """A log as a project of its own; returns the path of its configuration."""
    if name == "simulated":
        return _rich_shop(folder)
    return write_dataset(load_dataset({"demo": "complete-journey"}.get(name, name), full=name != "demo"), folder)


def _rich_shop(folder: Path) -> Path:
    """The simulated shop with all that a family can read: late extracts, returns, comments, offers, attributes."""
    shop = simulated(ShopConfig(users=400, items=500, days=96, requests_per_user_per_day=0.2))
    rng = np.random.default_rng(7)
    bought = shop.events.filter(pl.col("event") == "purchase")
    many = bought.height

    def drawn_from(words: list[str | None]) -> pl.Series:
        return pl.Series([words[position] for position in rng.integers(len(words), size=many)], dtype=pl.String)

    later = pl.duration(hours=pl.lit(pl.Series(rng.integers(1, 200, many))))
    comments = bought.with_columns(
        event=pl.lit("comment"),
        event_id=pl.format("c{}", "event_id"),
        timestamp=pl.col("timestamp") + later,
        text=drawn_from(["good", "so-so, really", None, "never again!"]),
        mood=pl.Series(rng.choice([-1.0, 0.25, 0.5], many)),
        value=pl.lit(None, pl.Float64),
    )
    returns = bought[np.flatnonzero(rng.random(many) < 0.1)].with_columns(
        event=pl.lit("return"),
        event_id=pl.format("b{}", "event_id"),
        timestamp=pl.col("timestamp") + timedelta(days=5),
        value=pl.lit(None, pl.Float64),
    )
    rich = pl.concat([shop.events, comments, returns], how="diagonal")
    last = shop.events["timestamp"].max()
    events = rich.filter(pl.col("timestamp") <= last).sort("timestamp", "event_id")
    config = shop.config | {
        "calendar": {"ingestion_lag_hours": 6.0, "timezone": "Europe/Berlin"},
        "requests": {"source": "logged"},
        "candidates": {"segment": "segment"},
        "features": {"attributes": {"items": ["brand"], "users": ["country"]}, "sentiment": "mood"},
    }
    config["data"] = shop.config["data"] | {"offers": {"path": "offers.parquet"}}
    first = shop.events["timestamp"][0].date()
    starts = [first + timedelta(days=int(day)) for day in rng.integers(0, 90, 300)]
    offers = pl.DataFrame(
        {
            "item_id": rng.choice(shop.items["item_id"].to_numpy(), 300),
            "offer": rng.choice(["leaflet", "front page"], 300),
            "first_day": starts,
            "last_day": [day + timedelta(days=6) for day in starts],
            "reach": rng.choice([0.25, 0.5, 1.0], 300),
        }
    ).unique(["item_id", "offer", "first_day"], maintain_order=True)
    brand = pl.Series(rng.choice(["acme", "Zed", "None"], shop.items.height))
    tables = {
        "events": events,
        "items": shop.items.with_columns(brand=brand.replace("None", None)),
        "users": shop.users,
        "offers": offers,
    }
    for name, table in tables.items():
        assert table is not None
        table.write_parquet(folder / f"{name}.parquet")
    path = folder / "nightrank.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def text_vectors(log: EventLog, config: Config) -> np.ndarray:
    """(items, 48) int16 on the grid: the sum of a direction for each word, which depends on the word alone."""
    texts = [re.findall(r"\w+", text.lower()) for text in item_texts(log.items, config.data.items.text)]
    words = pl.Series(sorted({word for text in texts for word in text}), dtype=pl.String)
    seeds = dict(zip(words, stable_hash(words).tolist(), strict=True))
    directions = {word: np.random.default_rng(seed).standard_normal(_WIDTH) for word, seed in seeds.items()}
    sums = np.stack(
        [np.sum([directions[word] for word in text], axis=0) if text else np.zeros(_WIDTH) for text in texts]
    )
    norms = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    return np.round(sums / norms * GRID).astype(np.int16)


def drawn(requests: pl.DataFrame, log: EventLog, most: int) -> pl.DataFrame:
    """So many requests, those of the smallest hash of user and day, numbered anew in their order."""
    users = log.user_ids.gather(requests["user"]).cast(pl.String)
    names = pl.select(pl.format("{} {} {}", users, requests["as_of_day"], pl.int_range(requests.height))).to_series()
    kept = np.sort(np.argsort(stable_hash(names), kind="stable")[:most])
    return requests[kept].with_columns(request=pl.int_range(len(kept), dtype=pl.UInt32))


def digest_of(column: pl.Series) -> str:
    """sha256 of type and values; NaN, null and zero have one form."""
    digest = hashlib.sha256(str(column.dtype).encode())
    digest.update(column.is_null().to_numpy().tobytes())
    filled = column.fill_null(0)
    values = filled.to_numpy()
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), np.nan, values) + 0.0
    digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def differences(now: Path, before: Path, *, tolerance: float) -> list[str]:
    """What differs between two runs over one log, by table and column."""
    names = sorted({path.name for folder in (now, before) for path in folder.glob("*.parquet")})
    faults = []
    for name in names:
        if not ((now / name).exists() and (before / name).exists()):
            faults.append(f"{now.name}: {name} is in one run only")
            continue
        one, other = (pl.read_parquet(folder / name, glob=False) for folder in (now, before))
        faults += [f"{now.name}: {name}: {fault}" for fault in unequal(one, other, tolerance=tolerance)]
    return faults


def unequal(one: pl.DataFrame, other: pl.DataFrame, *, tolerance: float) -> list[str]:
    """What differs between two tables: whole numbers by any amount, others by more than a relative tolerance."""
    if one.columns != other.columns:
        return [f"columns {sorted({*one.columns} ^ {*other.columns})} are in one only, or in another order"]
    if one.height != other.height:
        return [f"{one.height} rows and not {other.height}"]
    faults: list[Any] = []
    for name in one.columns:
        if digest_of(one[name]) == digest_of(other[name]):
            continue
        mine, theirs = (frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for frame in (one, other))
        with np.errstate(invalid="ignore"):
            apart = np.abs(mine - theirs) / np.maximum(np.maximum(np.abs(mine), np.abs(theirs)), 1.0)
        apart[np.isnan(mine) & np.isnan(theirs)] = 0
        apart[np.isnan(mine) != np.isnan(theirs)] = np.inf
        limit = tolerance if one.schema[name].is_float() else 0.0
        if one.schema[name] != other.schema[name] or apart.max(initial=0) > limit:
            faults.append(f"{name}: {int((apart > limit).sum())} of {len(apart)} differ, by up to {apart.max():.3g}")
    return faults


if __name__ == "__main__":
    sys.exit(main())
