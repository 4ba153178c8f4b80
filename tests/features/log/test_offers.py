from contextlib import nullcontext
from dataclasses import replace
from datetime import date

import polars as pl
import pytest

from features.config import FeaturesConfig
from features.errors import ContractError
from features.families.offers import ItemOffers
from features.families.registry import FeatureSet, inputs_read
from features.log.inventory import FeatureInventory
from features.log.offers import coded_offers
from features.signals.family import Plan
from pipelines.base.config import TableConfig
from pipelines.inputs.tables import read_raw

SPAN = {"first_day": date(2024, 4, 1), "last_day": date(2024, 4, 7)}
LATER = {"first_day": date(2024, 4, 7)}.items()
KINDS = ("display", "leaflet")


def offers(*rows):
    """(item_id, offer) of the same week, with what else is given."""
    return pl.DataFrame([{"item_id": item, "offer": offer, **SPAN, **dict(more)} for item, offer, *more in rows])


def test_days_are_counted_and_reach_is_everybody_where_nobody_says(shop):
    log = shop(0).log()
    coded = coded_offers(offers(("i03", "leaflet"), ("i00", "leaflet")), log)
    first = (date(2024, 4, 1) - date(1970, 1, 1)).days
    assert coded.select("first_day", "last_day", "reach").rows() == [(first, first + 6, 1.0)] * 2
    items = dict(log.items.select("item_id", "item").rows())
    assert coded["item"].to_list() == [items["i03"], items["i00"]]


def test_items_that_the_catalogue_lacks_say_nothing_unless_it_lacks_all(shop):
    log = shop(0).log()
    assert coded_offers(offers(("i03", "leaflet"), ("new", "leaflet")), log).height == 1
    with pytest.raises(ContractError, match="none of the 1 rows names an item of the catalogue"):
        coded_offers(offers(("new", "leaflet")), log)
    with pytest.raises(ContractError, match="item_id is Int64 here and String there"):
        coded_offers(offers((3, "leaflet")), log)
    with pytest.raises(ContractError, match="no rows"):
        coded_offers(offers(("i03", "leaflet")).clear(), log)


def test_every_fault_is_told_at_once_with_counts(shop):
    backwards = {"last_day": date(2024, 3, 1)}.items()
    rows = [
        ("i01", "leaflet", *backwards),
        (None, "leaflet"),
        ("i02", None),
        *(("i03", f"k{n}") for n in range(21)),
        ("i03", "k1"),
    ]
    table = offers(*rows).with_columns(reach=pl.when(pl.col("offer") == "k7").then(1.5).otherwise(0.5))
    with pytest.raises(ContractError) as told:
        coded_offers(table, shop(0).log())
    message = str(told.value)
    assert "rows break ends_after_it_begins 1 (first at row 0)" in message
    assert "rows break item_id_present 1 (first at row 1)" in message
    assert "rows break offer_nullability 1 (first at row 2)" in message
    assert "1 rows repeat an earlier one" in message
    assert "rows break reach_max 1 (first at row 10)" in message
    assert "first_day, last_day, reach" in message


def test_too_many_kinds_are_a_column_taken_for_another(shop):
    with pytest.raises(ContractError, match="offer has 21 kinds, 20 at most"):
        coded_offers(offers(*(("i03", f"k{n}") for n in range(21))), shop(0).log())


def test_kinds_that_would_share_a_column_have_columns_each(shop):
    log = shop(0).log()
    log = log.with_tables(offers=coded_offers(offers(("i03", "Front page"), ("i03", "front-page")), log))
    plan = Plan(FeaturesConfig(), FeatureInventory.of(log, FeaturesConfig()))
    now = [name for name in ItemOffers.columns_of(plan) if "now" in name]
    assert now == ["item_offer_now_front_page", "item_offer_now_front_page_2"]


def test_columns_that_are_missing_are_named(shop):
    with pytest.raises(ContractError, match="first_day"):
        coded_offers(offers(("i03", "leaflet")).drop("first_day"), shop(0).log())


def test_without_a_last_day_an_offer_holds_until_further_notice(shop):
    log, open_end = shop(0).log(), offers(("i03", "leaflet"), ("i04", "leaflet", ("last_day", None)))
    last = coded_offers(open_end, log)["last_day"].to_list()
    assert last[1] > last[0] + 100_000
    assert coded_offers(open_end.drop("last_day"), log)["last_day"].to_list() == [last[1]] * 2


def test_dates_of_a_csv_are_read_and_what_is_none_is_told(shop, tmp_path):
    path, log = tmp_path / "offers.csv", shop(0).log()
    table = offers(("i03", "leaflet"), ("i04", "leaflet"))
    table.write_csv(path)
    read = read_raw(TableConfig(path=str(path)), name="offers").frame
    assert coded_offers(read, log).equals(coded_offers(table, log))
    with pytest.raises(ContractError, match=r"rows break first_day_unreadable 1 \(first at row 1: written like"):
        coded_offers(read.with_columns(first_day=pl.Series(["2024-04-01", "1.4.2024"])), log)


@pytest.mark.parametrize("kind", [pl.Datetime("us", "Europe/Berlin"), pl.Int64])
def test_what_is_another_day_elsewhere_is_no_date(shop, kind):
    table = offers(("i03", "leaflet")).with_columns(pl.col("first_day").cast(pl.Datetime("us")).cast(pl.Int64))
    table = table.with_columns(pl.col("first_day").cast(kind))
    with pytest.raises(ContractError, match=r"column 'first_day' is .*; write it as Date or as text like 2024-12-31"):
        coded_offers(table, shop(0).log())


def test_a_clock_without_a_zone_is_its_date(shop):
    log, table = shop(0).log(), offers(("i03", "leaflet"))
    clock = table.with_columns(pl.col("first_day").cast(pl.Datetime("us")) + pl.duration(hours=5))
    assert coded_offers(clock, log).equals(coded_offers(table, log))


def test_a_batch_knows_the_offers_of_its_day_but_no_later_ones(shop):
    log = shop(0).log()
    log = log.with_tables(offers=coded_offers(offers(("i03", "leaflet"), ("i03", "display", *LATER)), log))
    first = (SPAN["first_day"] - date(1970, 1, 1)).days
    for day, kinds in ((first - 1, ()), (first, ("leaflet",)), (first + 5, ("leaflet",)), (first + 6, KINDS)):
        assert FeatureInventory.of(log.before(day), FeaturesConfig()).offers == kinds


def test_only_a_version_that_reads_offers_needs_them(shop):
    log = replace(shop(0), offers=None).log()
    offered = log.with_tables(offers=coded_offers(offers(("i03", "leaflet")), log))
    for families, lacks in ((("item", "pair"), False), (("item", "pair", "offers"), True)):
        config = FeaturesConfig(families=families)
        plan = Plan(config, FeatureInventory.of(offered, config))
        plan.inventory.require(offered, inputs_read(plan))
        with pytest.raises(ContractError, match="there is no table of offers") if lacks else nullcontext():
            plan.inventory.require(log, inputs_read(plan))


def test_a_kind_that_tonights_table_lacks_is_no_offer(shop):
    log = shop(0).log()
    both = log.with_tables(offers=coded_offers(offers(("i03", "leaflet"), ("i03", "display")), log))
    one = log.with_tables(offers=coded_offers(offers(("i03", "leaflet")), log))
    config = FeaturesConfig(families=("pair", "offers"))
    plan = Plan(config, FeatureInventory.of(both, config))
    asked = one.offers.select(user=pl.lit(0), item="item", as_of_day=pl.col("first_day") + 3)
    found = FeatureSet(one, plan).compute(asked).select(pl.selectors.starts_with("item_offer_now")).row(0, named=True)
    assert found == {"item_offer_now_display": 0.0, "item_offer_now_leaflet": 1.0}


def test_kinds_whose_names_look_alike_keep_their_columns(shop):
    log = shop(0).log()
    log = log.with_tables(offers=coded_offers(offers(("i03", "leaflet"), ("i03", "28d leaflet")), log))
    config = FeaturesConfig(families=("pair", "offers"))
    assert (
        len(
            [
                name
                for name in FeatureSet(log, Plan(config, FeatureInventory.of(log, config))).columns
                if "offer" in name
            ]
        )
        == 4
    )


def test_dates_of_another_form_are_shown_with_what_is_read(shop):
    wrong = offers(("i03", "leaflet")).with_columns(first_day=pl.lit("01.05.2024"))
    with pytest.raises(
        ContractError, match=r"first_day_unreadable 1 \(first at row 0: written like '99\.99\.9999'"
    ) as caught:
        coded_offers(wrong, shop(0).log())
    assert "names an item" not in str(caught.value)
