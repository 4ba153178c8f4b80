from datetime import date

import polars as pl
import pytest

from features.errors import ContractError
from features.offers import coded_offers

SPAN = {"first_day": date(2024, 4, 1), "last_day": date(2024, 4, 7)}


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
    rows = [("i01", "leaflet", *backwards), (None, "leaflet"), ("i02", None), *(("i03", f"k{n}") for n in range(21))]
    table = offers(*rows).with_columns(reach=pl.when(pl.col("offer") == "k7").then(1.5).otherwise(0.5))
    with pytest.raises(ContractError) as told:
        coded_offers(table, shop(0).log())
    message = str(told.value)
    assert "1 rows break ends_after_it_begins (first at row 0)" in message
    assert "1 rows break item_id_present (first at row 1)" in message
    assert "1 rows break offer_nullability (first at row 2)" in message
    assert "1 rows break reach_max (first at row 10)" in message
    assert "first_day, last_day, reach" in message


def test_too_many_kinds_are_a_column_taken_for_another(shop):
    with pytest.raises(ContractError, match="offer has 21 kinds, 20 at most"):
        coded_offers(offers(*(("i03", f"k{n}") for n in range(21))), shop(0).log())


def test_kinds_that_would_share_a_column_are_refused(shop):
    with pytest.raises(ContractError, match="the kinds 'Front page' and 'front-page' would give one column name"):
        coded_offers(offers(("i03", "Front page"), ("i03", "front-page")), shop(0).log())


def test_columns_that_are_missing_are_named(shop):
    with pytest.raises(ContractError, match="last_day"):
        coded_offers(offers(("i03", "leaflet")).drop("last_day"), shop(0).log())
