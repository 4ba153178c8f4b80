"""What peers are given and give back; the peers themselves where their environments are."""

import json
import os
import sys
from math import log2
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipelines.evaluation.external import read_scores
from pipelines.inputs.check import read_inputs
from pipelines.verbs.origins import judge_external, origins_of, windows_of

HERE = Path(__file__).resolve().parent
BENCH = Path(os.environ.get("BENCH_FOLDER", HERE.parents[1] / ".bench"))


@pytest.fixture
def peers(monkeypatch):
    """The module `run`, imported as its own command line imports it."""
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.syspath_prepend(HERE / "peers")
    import run

    yield run
    for name in ("run", "exchange", "beauty", "processes", "full_ranking", "peer_results", "outcome"):
        sys.modules.pop(name, None)


@pytest.fixture
def exchange(peers):
    """30 users who each walk once around a ring of 12 items, from another place: the next item is certain."""
    walks = [(np.arange(9) + start) % 12 for start in range(30)]
    placed = sys.modules["exchange"]._placed
    return peers.Exchange(
        train=placed([walk[:-2] for walk in walks], "user"),
        valid=placed([walk[-2:-1] for walk in walks], "user", [7] * 30),
        history=placed([walk[:-1] for walk in walks], "request"),
        requests=pl.Series("request", np.arange(31)),
        seen=False,
        top=4,
    )


def test_what_a_history_holds_ends_before_its_request(peers, tmp_path):
    import gzip

    folder = tmp_path / "amazon_beauty"
    folder.mkdir()
    (folder / "items.tsv.gz").write_bytes(
        gzip.compress(b"item_id\ttitle\n" + b"".join(b"%d\tt\n" % i for i in range(9)))
    )
    (folder / "sequences.tsv.gz").write_bytes(gzip.compress(b"u\t0 1 2 3 4\nv\t5 6 7\n"))
    exchanged, truth = peers.beauty(tmp_path)
    of = {name: getattr(exchanged, name)["item"].to_list() for name in ("train", "valid", "history")}
    assert (len(of["train"]), len(of["valid"]), len(of["history"])) == (4, 2, 6)
    assert of["history"] == [*of["train"][:3], of["valid"][0], of["train"][3], of["valid"][1]]
    assert exchanged.valid["at"].to_list() == [3, 1]
    assert not {*truth["item_id"]} & {*of["history"]}
    assert truth["request_id"].to_list() == [0, 1]


@pytest.fixture
def windows(peers, shop_project, tmp_path):
    """The simulated shop as of two cut-offs, and all of its log."""
    project = shop_project.copy(tmp_path / "project")
    project.change(timeline={"ranker_days": 14})
    log = read_inputs(project.config).log
    return log, project.config, peers.Retail.of(log, project.config, 2)


def test_peers_learn_as_of_each_cut_off_from_what_lies_before_it(windows):
    log, _, exchanges = windows
    engaged = sys.modules["exchange"].in_order(log)
    for window in exchanges:
        exchange = window.exchange()
        learned = pl.concat([exchange.train, exchange.valid])
        training = engaged.join(learned, on="at", how="semi")
        assert learned.height == training.height == engaged.filter(pl.col("day") < window.first_day).height
        assert exchange.valid.height
        history = exchange.history.join(engaged.select("at", "day", "user"), on="at")
        requests = window.requests.cast(pl.Int64).join(history, on="request", suffix="_of")
        assert (requests["user"] == requests["user_of"]).all()
        assert (requests["day"] < requests["as_of_day"]).all()
        assert (
            requests.height
            == window.requests.join(engaged, on="user").filter(pl.col("day") < pl.col("as_of_day")).height
        )
    assert exchanges[1].first_day < exchanges[0].first_day


def test_lists_of_all_cut_offs_are_read_by_origins(peers, windows, tmp_path, monkeypatch):
    log, config, exchanges = windows

    def first_items(exchange, names, *_):
        made = {name: exchange.requests.to_frame().join(pl.DataFrame({"item": [3, 4]}), how="cross") for name in names}
        return {name: rows.with_columns(score=pl.col("item").cast(pl.Float64)) for name, rows in made.items()}

    monkeypatch.setattr(peers, "scores", first_items)
    latest, *earlier = exchanges
    lists = {"some": latest.named(first_items(latest.exchange(), ["some"])["some"])}
    peers.over_all(lists, earlier, tmp_path, 0)
    read = read_scores([str(tmp_path / "origins-2" / "some.parquet")])
    cuts = origins_of(log, config, 2)
    judged = judge_external(read, cuts, windows_of(cuts, config), config)
    assert [one.rows["system"].unique().to_list() for one in judged] == [["some"]] * 2


def test_a_request_without_a_list_gets_what_most_users_had(exchange):
    lists = pl.DataFrame({"request": range(30), "item": [3] * 30, "score": [-1.0] * 30})
    filled = exchange.filled(lists)
    assert filled.filter(pl.col("request") < 30).equals(lists)
    had = exchange.train.group_by("item").agg(pl.len()).sort("len", "item", descending=[True, False]).head(4)
    assert (
        filled.filter(request=30).sort("score", "item", descending=[True, False])["item"].to_list()
        == had["item"].to_list()
    )


def test_ndcg_counts_a_hit_by_its_rank_and_a_missing_list_as_nothing(peers):
    truth = pl.DataFrame({"request_id": [0, 1, 2], "item_id": [5, 6, 7], "label": 1})
    lists = pl.DataFrame({"request": [0, 0, 1], "item": [4, 5, 6], "score": [2.0, 1.0, 0.5]})
    assert peers.ndcg(lists, truth)["ndcg@10"].to_list() == pytest.approx([1 / log2(3), 1, 0])


def test_a_peer_counts_from_nine_tenths_of_its_published_figure(peers):
    assert peers.verdict(0.05, 0.0451) == "yes"
    assert peers.verdict(0.05, 0.0449) == "no, below 0.0450"
    assert peers.verdict(0.05, None) == "unknown: run beauty first"
    assert peers.verdict(None, 1.0) == peers.SHOWN


def test_scores_are_made_once_and_again_when_what_made_them_changed(peers, exchange, tmp_path, monkeypatch):
    made = []

    def run(command):
        task = json.loads(Path(command[-1]).read_text(encoding="utf-8"))
        made.append(task["name"])
        pl.DataFrame({"request": [0], "item": [8], "score": [1.0]}).write_parquet(task["out"])
        return {"seconds": 0.0}

    monkeypatch.setattr(peers, "run", run)
    monkeypatch.setenv("BENCH_PYTHON", sys.executable)
    for seed in (0, 0, 1, 1):
        lists = peers.scores(exchange, ["implicit-bm25"], tmp_path, seed)
    assert made == ["implicit-bm25"] * 2
    assert set(lists["implicit-bm25"]["request"]) == set(range(31))
    (tmp_path / "implicit-bm25.parquet").unlink()
    peers.scores(exchange, ["implicit-bm25"], tmp_path, 1)
    assert len(made) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "implicit-als",
        "implicit-bm25",
        "implicit-cosine",
        "rectools-ease",
        "rectools-sasrec",
        "rectools-esasrec",
        "rectools-bert4rec",
    ],
)
def test_a_peer_recommends_the_same_twice_and_nothing_seen(name, peers, exchange, tmp_path):
    library = name.partition("-")[0]
    if "BENCH_PYTHON" not in os.environ and not (BENCH / library / "venv").exists():
        pytest.skip(f"no environment of {library} below {BENCH}: make bench-peers makes it, or set BENCH_PYTHON")
    for folder in ("first", "second"):
        peers.scores(exchange, [name], tmp_path / folder, seed=0)
    first, second = (pl.read_parquet(tmp_path / folder / f"{name}.parquet") for folder in ("first", "second"))
    assert first.equals(second)
    assert first.schema == {"request": pl.Int64, "item": pl.Int64, "score": pl.Float64}
    assert set(first["request"]) == set(range(30))
    assert first.join(exchange.history, on=["request", "item"], how="semi").is_empty()
