"""Offers: conditions of items that are planned for a span of days, such as a leaflet, a display or a price cut."""

from datetime import date

import polars as pl

from features.errors import ContractError
from features.log.event_log import EventLog
from features.tables.contracts import check_table, rules_broken
from features.tables.dtypes import dtype_name, ids_like
from features.tables.frames import CodedOffers
from features.tables.schemas import Offers

__all__ = ["coded_offers"]

_NAME = "offers"
_MOST_KINDS = 20  # each makes two columns
_NO_END = date(2299, 12, 31)


def coded_offers(frame: pl.DataFrame, log: EventLog) -> pl.DataFrame:
    """Check a table of offers and code it.

    An offer is in force from the batch of its first day to that of its last, and no earlier batch sees it. Write down
    the plan as of the first day: what was learned afterwards would leak. Offers of items that are
    not in the catalogue say nothing.

    Args:
        frame: item_id, offer (its kind), first_day (a date), and optionally last_day (a date, included; null for until
            further notice) and reach (the share of shops, or of people, that it reaches; null for all).
        log: The log whose items it must name.

    Returns:
        `features.tables.frames.CodedOffers`.

    Raises:
        ContractError: Columns are missing, rows break a rule, there are too many kinds, or no item is in the catalogue;
            all with counts.
    """
    checked = check_table(frame, Offers, name=_NAME, required=("item_id", "offer", "first_day"))
    items = log.items.select("item", "item_id")
    faults = [f"rows break {rule}" for rule in rules_broken(checked)]
    if checked.n_duplicates:
        faults.append(f"{checked.n_duplicates} rows repeat an earlier one (where each is a part, add up their reach)")
    good, kinds = checked.good, checked.good["offer"].unique().sort()
    if len(kinds) > _MOST_KINDS:
        faults.append(f"offer has {len(kinds)} kinds, {_MOST_KINDS} at most")
    coded = good.with_columns(ids_like(good["item_id"], items.schema["item_id"]))
    in_catalogue = coded.join(items, on="item_id", maintain_order="left")
    if in_catalogue.is_empty() and not good.is_empty():
        faults.append(
            f"none of the {frame.height} rows names an item of the catalogue (item_id is "
            f"{dtype_name(good['item_id'].dtype)} here and {dtype_name(items['item_id'].dtype)} there)"
        )
    if faults:
        raise ContractError(
            f"{_NAME}: {'; '.join(faults)}. Write one row an offer: item_id, offer, first_day, last_day, reach."
        )
    whole = in_catalogue.with_columns(pl.col("last_day").fill_null(_NO_END), pl.col("reach").fill_null(1.0))
    return CodedOffers.cast(whole)
