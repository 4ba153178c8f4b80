"""What is on, what the log offers, what is refused; and a family of one's own."""

from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from single_events import relogged

from features.assemble import KEYS, Assembler
from features.config import (
    AttributesConfig,
    CalendarConfig,
    CandidatesConfig,
    FeaturesConfig,
)
from features.errors import ConfigError, ContractError
from features.families.lexical import TextWords
from features.families.manifest import Column, FeatureManifest, columns_of
from features.families.registry import (
    FAMILIES,
    FeatureSet,
    chosen,
    column_names,
    events_read,
    inputs_read,
    register,
    short_windows,
)
from features.families.request import source_group
from features.families.statistics import column_statistics, drifts, psi, statistics_of
from features.log.asof import AsOfIndex
from features.log.event_log import Calendar, EventLog, day_of
from features.log.inventory import FeatureInventory, slug
from features.requests.engaged import requests_tonight
from features.signals.family import Family, Plan, Rows, ratio

NAN = float("nan")
SOURCES = source_group(CandidatesConfig())
TONIGHT = day_of(date(2024, 1, 20))


class Weekends(Family):
    """As the README writes it."""

    name = "weekends"
    keys = ("user",)
    reads = ("user", "gain", "day")
    columns = {"user_weekend_share": "share of the user's engagements on a Saturday or Sunday"}

    def __init__(self, log, plan):  # noqa: ARG002
        weekend = log.engaged.filter((pl.col("day") + 3) % 7 >= 5)
        self._parts = [AsOfIndex.build(pl.col("user"), events) for events in (weekend, log.engaged)]

    def compute(self, rows):
        part, whole = (index.total(rows.user, rows.as_of_day) for index in self._parts)
        return {"user_weekend_share": ratio(part, whole)}


@pytest.fixture
def weekends():
    yield register(Weekends)
    FAMILIES.pop("weekends")


def log_of(*rows, items=None, **columns):
    """A log of (user, item, event, day of January 2024)."""
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "event", "day"], orient="row")
    events = events.select(
        "user_id",
        "item_id",
        "event",
        timestamp=pl.datetime(2024, 1, pl.col("day"), 12, time_zone="UTC", time_unit="us"),
        value=pl.lit(None, pl.Float64),
        **{name: pl.Series(values) for name, values in columns.items()},
    )
    items = events.select("item_id").unique() if items is None else pl.DataFrame(items)
    sale = dict.fromkeys(("available_from", "available_until"), pl.lit(None, pl.Datetime("us", "UTC")))
    return EventLog.build(
        events=events,
        items=items.with_columns(**sale),
        users=None,
        calendar=Calendar(CalendarConfig()),
        gains={"click": 1, "purchase": 3},
        keep=tuple(columns),
    )


def day(number):
    return (datetime(2024, 1, number, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days


@pytest.mark.parametrize("at_night", [False, True])
def test_a_family_of_ones_own_is_a_dozen_lines(weekends, at_night):
    log = log_of(("u", "a", "click", 5), ("u", "a", "click", 6), ("u", "a", "click", 7), ("u", "a", "click", 8))
    log = replace(log, labels=None, raw=None) if at_night else log
    config = FeaturesConfig(families=("pair", "weekends"))
    assembler = Assembler(log, CandidatesConfig(), None, Plan(config, FeatureInventory.of(log, config)))
    asked = requests_tonight(pl.Series([0], dtype=pl.UInt32), day(8))
    assert assembler.portion(asked).rows["user_weekend_share"].item() == np.float32(2 / 3)  # the 6th and the 7th
    assert weekends.name in {column.family for column in columns_of(assembler.families, [])}


def test_a_second_family_of_a_name_is_refused(weekends):
    other = type("Other", (weekends,), {})
    with pytest.raises(ConfigError, match="'weekends' is registered already"):
        register(other)


def test_a_renamed_family_is_read_by_its_old_name_with_a_warning():
    for old, today in (("own_attribute", "profile_attribute"), ("user_attribute", "user_item_attribute")):
        with pytest.warns(UserWarning, match=f"'{old}' is called '{today}' now"):
            assert FeaturesConfig(families=("pair", old)).families == ("pair", today)
        with pytest.warns(UserWarning, match=today):
            assert Column(name="own_attribute_age", family=old, meaning="", text=False).family == today
        with pytest.raises(ConfigError, match=f"'{old}' is what the feature family '{today}' was called"):
            register(type("Other", (Weekends,), {"name": old}))


def test_no_column_enters_the_table_but_through_a_family_or_a_declared_group(shop):
    tables = shop(0)
    assembler = Assembler(tables.log(), CandidatesConfig(), tables.text_vectors, tables.plan)
    asked = requests_tonight(pl.int_range(7, dtype=pl.UInt32, eager=True), tables.first_day + 20)
    declared = [name for family in tables.plan.config.families for name in FAMILIES[family].columns_of(tables.plan)]
    declared += SOURCES.columns
    assert assembler.portion(asked).rows.columns == [*KEYS, *declared]
    assert [column.name for column in columns_of(assembler.families, [SOURCES])] == declared
    assert len(set(declared)) == len(declared)
    assert set(tables.plan.config.families) == set(FAMILIES)  # all of them were on


def test_text_families_are_marked_as_such(shop):
    tables = shop(0)
    families = FeatureSet(tables.log(), tables.plan)
    told = {"comments", "text_title", "text_words", "text_phrases", "text_query", "vectors"}
    assert {name for name, family in FAMILIES.items() if family.is_text} == told
    assert families.text == {name for name, family in families.columns.items() if family.name in told}
    content = ("text_neighbours", "new_arrivals", "popular_in_category", "by_query")
    assert SOURCES.text == {f"{source}_{part}" for source in content for part in ("rank", "score")}


def test_what_is_counted_by_a_text_field_knows_a_text(shop):
    tables = shop(0)
    plain, textual = (
        FeatureSet(tables.log(), Plan(tables.plan.config, tables.plan.inventory.model_copy(update={"text": fields})))
        for fields in (("title",), ("title", "category"))
    )
    more = {name for name in textual.columns if name.startswith("user_category_")} - {"user_category_entropy"}
    assert more
    assert textual.text - plain.text == more


def test_what_the_log_lacks_makes_no_columns():
    log = log_of(("u", "a", "click", 5), ("v", "b", "click", 6))
    config = FeaturesConfig()
    plan = Plan(config, FeatureInventory.of(log, config))
    assert plan.inventory == FeatureInventory(kinds=("click",), counted=(), inputs=(), text=(), vocabularies={})
    found = FeatureSet(log, plan).columns
    assert {family.name for family in found.values()} == {"user", "item", "pair", "similar_users", "ease", "request"}
    absent = ("price", "category", "shown", "click", "return", "comment", "text", "vector")
    assert not [name for name in found if any(word in name for word in absent)]


def test_a_night_that_lacks_an_input_names_all_of_it(shop):
    tables = shop(0)
    log = tables.log()
    poorer = replace(
        relogged(
            log,
            log.events.filter(pl.col("kind") != "impression")
            .drop("query")
            .with_columns(value=pl.lit(None, pl.Float64)),
        ),
        items=log.items.with_columns(price=pl.lit(None, pl.Float64)),
    )
    tables.plan.inventory.require(log, inputs_read(tables.plan))
    with pytest.raises(ContractError) as raised:
        tables.plan.inventory.require(poorer, inputs_read(tables.plan))
    nothing = ("items has nothing in 'price'", "events has nothing in 'query'", "events has nothing in 'value'")
    for lacking in nothing:
        assert lacking in str(raised.value)
    assert tables.plan.inventory.gone(poorer) == ("impression",)


def test_what_no_family_reads_may_be_missing_at_night(shop):
    tables = shop(0)
    log = tables.log()
    assert "events.value" in tables.plan.inventory.inputs
    assert events_read(tables.plan) == ("mood", "query", "text", "timestamp")  # values are summed by day
    families = tuple(name for name in tables.plan.config.families if name != "value")
    plan = replace(tables.plan, config=tables.plan.config.model_copy(update={"families": families}))
    silent = relogged(log, log.events.with_columns(value=pl.lit(None, pl.Float64)))
    plan.inventory.require(silent, inputs_read(plan))


def test_values_of_events_that_do_not_count_make_no_columns(shop):
    tables = shop(0)
    value = pl.when(pl.col("event") == "impression").then("value")
    log = replace(tables, events=tables.events.with_columns(value)).log()
    assert log.events["value"].null_count() < log.events.height
    assert "events.value" not in FeatureInventory.of(log, FeaturesConfig()).inputs


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"families": ("pair", "itm")}, "no family is called 'itm'. Did you mean 'item'?"),
        ({"families": ("pair", "zzzz")}, "There are 'user'"),
        ({"families": ("pair", "pair")}, "stands twice"),
        ({"families": ("user",)}, "'pair' must be on"),
        ({"attributes": AttributesConfig(items=("user",))}, "cannot be an attribute"),
    ],
)
def test_a_wrong_choice_of_families_is_refused(told, says):
    with pytest.raises(ConfigError, match=says.replace("?", r"\?")):
        chosen(FeaturesConfig(**told))


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"attributes": AttributesConfig(items=("bran",))}, "'bran' is no column of items; did you mean 'brand'"),
        ({"attributes": AttributesConfig(users=("contry",))}, "did you mean 'country'"),
        ({"vectors": ("pictures",)}, "features.vectors: 'pictures' is no column of items; did you mean 'picture'"),
        ({"sentiment": "mod"}, "features.sentiment: 'mod' is no column of events; did you mean 'mood'"),
    ],
)
def test_an_unknown_column_names_the_nearest(shop, told, says):
    with pytest.raises(ConfigError, match=says):
        FeatureInventory.of(shop(0).log(), FeaturesConfig(**told))


def test_fault_58_two_event_types_of_one_column_name_have_a_column_each():
    assert slug("Add to cart") == slug("add-to-cart") == "add_to_cart"
    log = log_of(("u", "a", "click", 5), ("u", "a", "Add", 5), ("u", "a", "add", 5), ("u", "a", "add", 6))
    told = FeaturesConfig(families=("item", "pair"))
    plan = Plan(told, FeatureInventory.of(log, told))
    made = FeatureSet(log, plan).compute(pl.DataFrame({"user": [0], "item": [0], "as_of_day": [TONIGHT]}))
    assert made["item_events_add_all"].to_list() == [1]  # "Add" stands before "add"
    assert made["item_events_add_2_all"].to_list() == [2]


def test_attributes_of_one_column_name_have_a_column_each():
    catalogue = {"item_id": ["a", "b"], "Brand": [1.0, 2.0], "brand": [3.0, 4.0], "Category": [5.0, 6.0]}
    log = log_of(("u", "a", "click", 5), items={**catalogue, "category": ["x", "y"]})
    families = ("pair", "user_category", "user_item_attribute", "item_attribute")
    told = FeaturesConfig(families=families, attributes={"items": ("Brand", "brand", "Category")})
    plan = Plan(told, FeatureInventory.of(log, told))
    names = column_names(plan)
    assert len(set(names)) == len(names)
    made = FeatureSet(log, plan).compute(
        pl.DataFrame({"request": [0], "user": [0], "item": [1], "as_of_day": [TONIGHT]})
    )
    found = {name: made[name][0] for name in names if name.startswith("item_attribute_")}
    assert found == {"item_attribute_brand": 2.0, "item_attribute_brand_2": 4.0, "item_attribute_category": 6.0}


def test_fault_58_a_type_that_occurs_no_longer_counts_nothing_and_stops_nothing():
    rows = [("u", "a", "click", 5), ("u", "a", "view", 6)]
    inventory = FeatureInventory.of(log_of(*rows), FeaturesConfig())
    later = log_of(rows[0])
    inventory.require(later, ())
    assert inventory.gone(later) == ("view",)
    plan = Plan(FeaturesConfig(families=("item", "pair")), inventory)
    asked = pl.DataFrame({"user": [0], "item": [0], "as_of_day": [TONIGHT]})
    made = FeatureSet(later, plan).compute(asked)
    assert made["item_events_view_all"].to_list() == [0]
    assert made["item_events_all"].to_list() == [1]


def test_a_frozen_vocabulary_keeps_its_codes_and_knows_what_it_does_not_know():
    catalogue = {"item_id": ["a", "b", "c", "d"], "brand": ["x", "y", "y", None]}
    log = log_of(("u", "a", "click", 5), items=catalogue)
    config = FeaturesConfig(attributes=AttributesConfig(items=("brand",)), families=("pair", "item_attribute"))
    inventory = FeatureInventory.of(log, config)
    assert inventory.vocabularies == {"items.brand": ("y", "x")}
    later = log_of(("u", "a", "click", 5), items={**catalogue, "brand": ["new", "x", "y", None]})
    rows = pl.DataFrame({"request": [0] * 4, "user": [0] * 4, "item": range(4), "as_of_day": [day(9)] * 4})
    rows = rows.with_columns(pl.lit(1).alias(name) for name in SOURCES.columns)
    found = FeatureSet(later, Plan(config, inventory)).compute(rows)["item_attribute_brand"]
    assert found.to_list() == pytest.approx([0, 2, 1, NAN], nan_ok=True)


def test_windows_that_reach_before_the_first_event_are_told():
    log = log_of(("u", "a", "click", 5))
    plan = Plan(FeaturesConfig(), FeatureInventory.of(log, FeaturesConfig()))
    assert short_windows(plan, 100, 200) == ()
    assert short_windows(plan, 100, 189) == (90,)
    assert short_windows(plan, 100, 110) == (28, 90)


def test_only_the_most_frequent_words_are_kept():
    items = {"item_id": ["a", "b", "c"], "title": ["red mug", "red lamp", "blue lamp"]}
    log = log_of(("u", "a", "click", 5), items=items)
    config = FeaturesConfig(max_words=3)
    words = TextWords(log, Plan(config, FeatureInventory.of(log, config, text=("title",)))).tokens
    assert words.vocabulary.to_list() == ["blue", "lamp", "red"]  # twice, twice, and of the rest the first
    assert words.counts.tolist() == [1, 2, 2]


def test_distinct_keys_are_found_alike_by_table_and_by_sorting():
    rng = np.random.default_rng(0)
    small = {name: rng.integers(0, 5, 400) for name in ("user", "item", "as_of_day")}
    sparse = {name: column * (1 if name == "as_of_day" else 10**9) for name, column in small.items()}
    for columns in (small, sparse):
        rows = Rows(columns)
        distinct, place = rows.distinct(("user", "item"))
        triples = list(zip(columns["user"], columns["item"], columns["as_of_day"], strict=True))
        found = list(zip(distinct.user, distinct.item, distinct.as_of_day, strict=True))
        assert found == sorted(set(triples))
        assert [found[n] for n in place] == triples


def test_statistics_and_drift_by_hand():
    told = column_statistics(np.array([1.0, 2.0, 3.0, NAN]))
    assert (told.rows, told.null_share, told.mean, told.least, told.largest) == (4, 0.25, 2.0, 1.0, 3.0)
    assert told.std == pytest.approx((2 / 3) ** 0.5)
    assert told.edges == (1.0, 2.0, 3.0)
    assert told.shares == (0.25, 0.25, 0.25, 0.0, 0.25)
    assert psi(np.array([3.0, NAN, 2.0, 1.0]), told) == 0
    moved = psi(np.array([1.0, 1.0, 3.0, NAN]), told)  # a half against a quarter, nothing against a quarter
    assert moved == pytest.approx(0.25 * np.log(2) + (1e-4 - 0.25) * np.log(1e-4 / 0.25))
    nothing = column_statistics(np.array([NAN, NAN]))
    assert (nothing.mean, nothing.null_share, nothing.edges, nothing.shares) == (None, 1.0, (), (0.0, 1.0))
    frame = pl.DataFrame({"a": [1.0, 2.0], "b": [0.0, 0.0]})
    assert drifts(frame, {"a": statistics_of(frame)["a"]}) == {"a": 0.0}


def test_a_manifest_that_contradicts_itself_is_refused(shop):
    tables = shop(0)
    columns = columns_of(FeatureSet(tables.log(), tables.plan), [SOURCES])
    names = [column.name for column in columns]
    told = {
        "ranker": names,
        "behaviour": [column.name for column in columns if not column.text],
        "columns": [column.model_dump() for column in columns],
        "inventory": tables.plan.inventory.model_dump(),
        "unknown_code": 0,
        "zero_shot_pooling": "mean",
    }
    manifest = FeatureManifest.model_validate(told)
    assert FeatureManifest.model_validate_json(manifest.model_dump_json()) == manifest
    assert {column.windows_days for column in columns if column.family == "pair"} == {(7, 28, 90)}
    once = {("supply" if name == "inventory" else name): value for name, value in told.items()}
    assert FeatureManifest.model_validate(once) == manifest  # bundles of before call the inventory so
    for fault in (
        {"ranker": names[::-1]},
        {"ranker": ["stranger"]},
        {"behaviour": names},
        {"columns": [*told["columns"], told["columns"][0]]},
        {"more": 1},
    ):
        with pytest.raises(ValidationError):
            FeatureManifest.model_validate({**told, **fault})
