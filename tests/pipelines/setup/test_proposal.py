"""What init proposes for tables under names of many languages, in many forms; expected by hand."""

import polars as pl
import pytest
import yaml
from shop_tables import LANGUAGES, tables, write

from features.errors import ConfigError, ContractError
from pipelines.setup.events import graded_types
from pipelines.verbs.init import init


def columns(table) -> dict[str, str]:
    return {ours: theirs for ours, (theirs, _) in table.columns.items()}


def chosen(folder, **options):
    return init(folder, dry_run=True, **options).proposal


@pytest.mark.parametrize("language", LANGUAGES)
def test_columns_are_found_by_their_names_in_ten_languages(language, tmp_path):
    names = LANGUAGES[language]
    catalogue, log = tables(names)
    proposal = chosen(write(tmp_path, eins=catalogue, zwei=log))
    assert columns(proposal.items) == {"item_id": names.item, "category": names.category, "price": names.price}
    assert columns(proposal.events) == {
        "user_id": names.user,
        "item_id": names.log_item,
        "timestamp": names.time,
        "event": names.event,
    }
    assert [field.column for field in proposal.catalogue.texts] == [names.title, names.description, names.category]
    assert dict(proposal.types.gains) == dict(zip(names.kinds, (1, 2, 3), strict=True))
    assert proposal.doubts == []


def english(folder, **changes):
    """The English shop in a folder, some of the log's columns changed."""
    catalogue, log = tables(LANGUAGES["english"])
    return write(folder, items=catalogue, log=log.with_columns(**changes))


def test_neither_names_of_files_nor_order_of_columns_decides(tmp_path):
    catalogue, log = tables(LANGUAGES["english"])
    first = chosen(write(tmp_path / "a", items=catalogue, events=log))
    second = chosen(
        write(tmp_path / "b", zz=catalogue.select(catalogue.columns[::-1]), aa=log.select(log.columns[::-1]))
    )
    assert columns(first.items) == columns(second.items)
    assert columns(first.events) == columns(second.events)
    assert first.catalogue.texts == second.catalogue.texts
    assert (first.types.gains, first.timeline.windows) == (second.types.gains, second.timeline.windows)


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 1000)])
def test_numbers_that_count_from_1970_are_named_by_their_unit(unit, factor, tmp_path):
    proposal = chosen(english(tmp_path, timestamp=pl.col("timestamp").dt.epoch("s") * factor))
    assert proposal.events.times == unit
    assert proposal.timeline.windows["test"][:2] == ("2024-04-05", "2024-04-09")  # days 36 to 40 of the log's 40


def test_times_in_another_form_are_written_anew(tmp_path):
    proposal = chosen(english(tmp_path, timestamp=pl.col("timestamp").dt.strftime("%d.%m.%Y %H:%M")))
    assert list(proposal.events.notes) == ["its times are written in the form %d.%m.%Y %H:%M, and become times"]
    assert proposal.events.written["timestamp"].dt.date().max().isoformat() == "2024-04-09"


def test_day_and_month_that_could_be_turned_are_said(tmp_path):
    early = pl.datetime(2024, 3, 1) + pl.duration(days=pl.int_range(pl.len()) % 12)
    proposal = chosen(english(tmp_path, timestamp=early.dt.strftime("%m/%d/%Y")))
    assert [doubt for doubt in proposal.doubts if "the other way round" in doubt]
    assert proposal.timeline.first_day == 19783  # 2024-03-01, not 2024-01-03


def test_two_columns_that_could_be_the_user_are_said(tmp_path):
    proposal = chosen(english(tmp_path, account_id=pl.col("customer_id") % 7 + 1000))
    assert columns(proposal.events)["user_id"] == "customer_id"
    assert proposal.doubts == ["log.csv: 'customer_id' was taken as user_id, but 'account_id' could be it as well"]


def test_a_column_that_means_something_else_here_is_not_read(tmp_path):
    proposal = chosen(english(tmp_path, position=pl.int_range(pl.len()) % 4))  # which begins at 0
    assert "position" not in proposal.events.written.columns


def test_day_folders_are_one_table(tmp_path):
    catalogue, log = tables(LANGUAGES["english"])
    write(tmp_path, items=catalogue)
    for (day,), rows in log.group_by(pl.col("timestamp").dt.date(), maintain_order=True):
        folder = tmp_path / "events" / f"date={day}"
        folder.mkdir(parents=True)
        rows.write_parquet(folder / "part.parquet")
    proposal = chosen(tmp_path)
    assert (proposal.events.source.name, proposal.events.source.n_rows) == ("events", 1500)
    assert proposal.doubts == []


def test_the_share_of_rows_without_an_item_raises_the_quarantine(tmp_path):
    catalogue, log = tables(LANGUAGES["english"])
    strays = log.with_columns(
        product_id=pl.when(pl.int_range(pl.len()) % 10 == 0).then(pl.lit("P9")).otherwise("product_id")
    )
    proposal = chosen(write(tmp_path, items=catalogue, log=strays))
    assert proposal.set_aside == pytest.approx(0.1)
    assert proposal.max_share == 0.13


def invoices() -> pl.DataFrame:
    """Four kinds of line of a wholesaler, 40 days of them."""
    days = [f"{1 + day // 28}/{1 + day % 28}/2011 8:26" for day in range(40)]
    lines = {
        "InvoiceNo": ["536365", "C536379", "536370", "536401"],
        "StockCode": ["85123A", "85123A", "POST", "71053"],
        "Description": ["WHITE  LANTERN", "WHITE LANTERN", "POSTAGE", "RED CANDLE"],
        "Quantity": ["6", "-1", "1", "2"],
        "UnitPrice": ["2.5", "2.5", "18", "4"],
        "CustomerID": ["17850.0", "17850.0", "17850.0", None],
    }
    rows = pl.concat([pl.DataFrame({**lines, "InvoiceDate": [day] * 4}) for day in days])
    mine = pl.DataFrame({**{name: values[3:] * 40 for name, values in lines.items()}, "InvoiceDate": days})
    goods = pl.concat([mine.with_columns(CustomerID=pl.lit(f"{user}.0")) for user in range(100, 130)])
    return pl.concat([rows, goods])


def test_invoices_become_a_log_with_returns_and_a_catalogue(tmp_path):
    proposal = chosen(write(tmp_path, lines=invoices()))
    events = proposal.events.written
    assert events.group_by("event").agg(pl.len(), pl.col("value").first()).sort("event").rows() == [
        ("purchase", 40 + 30 * 40, 15.0),
        ("return", 40, 2.5),
    ]
    assert max(events["user_id"]) == "17850"
    assert proposal.items.written.rows() == [("71053", "RED CANDLE"), ("85123A", "WHITE LANTERN")]
    assert list(proposal.events.notes)[-2:] == [
        "40 rows without a user are left out",
        "40 rows of no goods (codes without a digit: postage, fees) are left out",
    ]


def test_two_logs_are_refused_and_one_may_be_named(tmp_path):
    catalogue, log = tables(LANGUAGES["english"])
    views = log.filter(pl.col("event_type") == "view").drop("event_type")
    orders = log.filter(pl.col("event_type") != "view").drop("event_type")
    folder = write(tmp_path, items=catalogue, clicks=views, orders=orders)
    with pytest.raises(
        ConfigError, match=r"2 tables could be the log: 'clicks.csv', 'orders.csv'.*--events clicks.csv"
    ):
        chosen(folder)
    proposal = chosen(folder, events="orders.csv")
    assert proposal.events.source.name == "orders.csv"
    assert proposal.events.constants["event"][0] == "purchase"


@pytest.mark.parametrize(
    ("lacking", "words"),
    [
        ("timestamp", r"no times: log.csv \(users 'customer_id', items 'product_id'\)"),
        ("customer_id", "no log: .*log.csv lacks user"),
        ("product_id", "no log: .*log.csv lacks item"),
    ],
)
def test_a_log_without_times_users_or_items_is_refused(lacking, words, tmp_path):
    catalogue, log = tables(LANGUAGES["english"])
    with pytest.raises(ContractError, match=words):
        chosen(write(tmp_path, items=catalogue, log=log.drop(lacking)))


def test_a_folder_without_a_catalogue_a_log_or_a_table_is_refused(tmp_path):
    catalogue, log = tables(LANGUAGES["english"])
    with pytest.raises(ContractError, match=r"no catalogue: log.csv is a log"):
        chosen(write(tmp_path / "log", log=log))
    with pytest.raises(ContractError, match=r"no log: .*items.csv lacks"):
        chosen(write(tmp_path / "items", items=catalogue))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "Retail.xlsx").write_bytes(b"PK")
    with pytest.raises(ConfigError, match=r"no table in .*Spreadsheets are not read \('Retail.xlsx'\)"):
        chosen(tmp_path / "empty")


def test_too_short_a_log_is_refused(tmp_path):
    catalogue, log = tables(LANGUAGES["english"], days=3)
    with pytest.raises(ContractError, match=r"the log spans 3 days .* a timeline needs 5"):
        chosen(write(tmp_path, items=catalogue, log=log))


def test_what_was_seen_is_a_look_in_a_shop_and_a_use_elsewhere():
    assert graded_types({"visto": 9, "carrito": 3, "comprado": 1}).gains == {"visto": 1, "carrito": 2, "comprado": 3}
    assert graded_types({"visto": 9, "carrito": 3, "comprado": 1}).roles["clicked"] == ["visto"]
    assert graded_types({"click": 9, "visto": 3}).gains == {"click": 1, "visto": 2}


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"^init: no file or folder at '.*nothing\.csv'\. Name one that lies below"):
        chosen(english(tmp_path), events="nothing.csv")


def test_a_table_in_the_folder_comes_before_one_of_that_name_elsewhere(tmp_path, monkeypatch):
    catalogue, log = tables(LANGUAGES["english"])
    folder = write(tmp_path / "shop", items=catalogue, log=log)
    monkeypatch.chdir(write(tmp_path / "elsewhere", log=log.head(3), other=log))
    assert chosen(folder, events="log.csv").events.source.n_rows == log.height
    assert chosen(folder, events="other.csv").events.source.name == "other.csv"  # which lies nowhere else


@pytest.mark.parametrize("end", ["\n", "\r\n", "\u2028"])
def test_names_with_line_ends_stand_on_one_line_and_are_read_back(end, tmp_path):
    catalogue, log = tables(LANGUAGES["english"])
    sku, country = f"the{end}sku", f"its{end}country"
    users = log.select(pl.col(LANGUAGES["english"].user).unique(maintain_order=True), pl.lit("DE").alias(country))
    users[0, country] = "ES"
    folder = tmp_path / "shop"
    folder.mkdir()
    for name, table in {"items": catalogue.rename({"sku": sku}), "log": log, "users": users}.items():
        table.write_parquet(folder / f"{name}.parquet")
    proposed = init(folder, dry_run=True)
    (attributes,) = [line for line in proposed.text.split("\n") if line.startswith("# features: ")]
    assert yaml.safe_load(attributes.removeprefix("# "))["features"]["attributes"]["users"] == [country]
    assert yaml.safe_load(proposed.text)["data"]["items"]["columns"]["item_id"] == sku


def test_columns_that_users_share_values_of_are_offered_as_features(tmp_path):
    catalogue, log = tables(LANGUAGES["english"])
    users = log.select(pl.col(LANGUAGES["english"].user).unique(maintain_order=True)).with_row_index("row")
    users = users.with_columns(country=pl.when(pl.col("row") % 2 == 0).then(pl.lit("DE")).otherwise(pl.lit("ES")))
    text = init(write(tmp_path, items=catalogue, log=log, users=users), dry_run=True).text
    (line,) = [line for line in text.splitlines() if line.startswith("# features: ")]
    assert "users: [country]" in line  # and not the row's number, which tells the users apart


def test_numbers_with_a_decimal_comma_are_said(tmp_path):
    catalogue, log = tables(LANGUAGES["english"])
    price = LANGUAGES["english"].price
    catalogue = catalogue.with_columns(pl.format("{},50", pl.int_range(10, 10 + pl.len())).alias(price))
    text = init(write(tmp_path, items=catalogue, log=log), dry_run=True).text
    assert f"Not read as text: {price} (numbers with a decimal comma; written as 12.50" in text
