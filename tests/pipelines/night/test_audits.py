"""Each audit on either side of its limit, by two nights made by hand."""

import polars as pl
import pytest

from pipelines.base.audit_config import AuditsConfig
from pipelines.night.audits import AUDITS, Compared, audit, blocking
from pipelines.night.measures import DAYS, InputMeasures, ListMeasures, Measures

CLICKS = tuple([100] * DAYS)
DECILES = tuple(float(tenth) for tenth in range(1, 10))


def night(day="2024-05-07", version="shop/1", rules="top: 20", **changed):
    """An ordinary night of 1,000 users and 500 items, with some of its measures changed."""
    inputs = {
        "events": 100_000,
        "by_day": {"click": CLICKS},
        "users": 1000,
        "strangers": 50,
        "items": 500,
        "on_sale": 400,
        "with_text": 500,
    }
    lists = {
        "lists": 1000,
        "rows": 20_000,
        "full": 1000,
        "wrong": 0,
        "equal": 0,
        "shown": 300,
        "new_rows": 100,
        "deciles": DECILES,
        "categories": {"Kitchen": 0.5, "Garden": 0.5},
        "fallback": 0,
    }
    return Measures(
        day=day,
        version=version,
        rules=rules,
        inputs=InputMeasures(**inputs | {key: value for key, value in changed.items() if key in inputs}),
        lists=ListMeasures(**lists | {key: value for key, value in changed.items() if key in lists}),
    )


def lists_of(users, items, scores=None):
    rows = [
        {
            "user_id": user,
            "rank": rank,
            "item_id": item,
            "score": float(len(items) - rank) if scores is None else scores,
        }
        for user in users
        for rank, item in enumerate(items, start=1)
    ]
    return pl.DataFrame(rows)


def verdicts(tonight, before=(), config=None, **compared):
    lists = compared.pop("lists", pl.DataFrame(schema={"user_id": pl.String, "score": pl.Float64}))
    findings = audit(Compared(tonight=tonight, before=list(before), lists=lists, **compared), config or AuditsConfig())
    return {finding.audit: finding.verdict for finding in findings}


def eve_of(n, *, kind="click", usual=100):
    """Events of one type as usual on every day but the eve."""
    return {kind: (*[usual] * (DAYS - 1), n)}


def test_an_ordinary_night_passes_every_audit_that_can_judge_it():
    lists = lists_of(["ann"], ["a", "b"])
    before = night("2024-05-06")
    told = verdicts(night(), [before], lists=lists.with_columns(score=pl.lit(5.5)), last_lists=lists)
    assert told.pop("scores") == "blocked"  # all of one score, where the last night's lay in ten parts
    assert set(told.values()) == {"passed"}
    assert [*told, "scores"].sort() == [*AUDITS].sort()


def test_the_first_night_is_judged_by_itself_alone():
    told = verdicts(night())
    assert {name for name, verdict in told.items() if verdict == "passed"} == {
        *("rows", "users_listed", "fallback", "equal_scores", "texts", "eve", "event_types")
    }
    assert set(told.values()) == {"passed", "not judged"}


@pytest.mark.parametrize(
    ("name", "just_passes", "no_longer"),
    [
        ("rows", {"wrong": 0}, {"wrong": 1}),
        ("users_listed", {"lists": 900}, {"lists": 899}),
        ("full_lists", {"full": 500}, {"full": 499}),
        ("fallback", {"fallback": 500}, {"fallback": 501}),
        ("equal_scores", {"equal": 50}, {"equal": 51}),
        ("texts", {"with_text": 400}, {"with_text": 399}),
        ("catalogue", {"on_sale": 320}, {"on_sale": 319}),
        ("users", {"users": 800, "lists": 800}, {"users": 799, "lists": 799}),
        ("log", {"events": 95_000}, {"events": 94_999}),
        ("items_shown", {"shown": 150}, {"shown": 149}),
        ("eve", {"by_day": eve_of(25)}, {"by_day": eve_of(24)}),
        ("event_types", {"by_day": eve_of(10)}, {"by_day": eve_of(9)}),
    ],
)
def test_each_audit_blocks_beyond_its_limit(name, just_passes, no_longer):
    last = night("2024-05-06")
    assert verdicts(night(**just_passes), [last])[name] == "passed"
    assert verdicts(night(**no_longer), [last])[name] == "blocked"


@pytest.mark.parametrize(
    ("name", "just_passes", "no_longer"),
    [
        ("strangers", {"strangers": 150}, {"strangers": 151}),
        ("new_items", {"new_rows": 4100}, {"new_rows": 4101}),
        ("categories", {"categories": {"Kitchen": 0.75, "Garden": 0.25}}, {"categories": {"Kitchen": 1.0}}),
    ],
)
def test_what_may_be_so_is_a_warning(name, just_passes, no_longer):
    last = night("2024-05-06")
    assert verdicts(night(**just_passes), [last])[name] == "passed"
    assert verdicts(night(**no_longer), [last])[name] == "warned"


def test_a_day_that_the_last_night_had_and_that_is_gone_blocks():
    last = night("2024-05-06")  # whose latest day is the one before tonight's eve
    lost = (*[100] * (DAYS - 2), 0, 100)
    half = (*[100] * (DAYS - 2), 50, 100)
    assert verdicts(night(by_day={"click": lost}), [last])["past_days"] == "blocked"
    assert verdicts(night(by_day={"click": half}), [last])["past_days"] == "passed"
    # A week later the day stands further back.
    later = night("2024-05-13", by_day={"click": (*[100] * (DAYS - 8), 0, *[100] * 7)})
    assert verdicts(later, [last])["past_days"] == "blocked"


def test_a_day_that_its_weekday_mostly_lacks_is_not_expected():
    saturdays = [100] * DAYS
    saturdays[DAYS - 1 :: -7] = [0] * (DAYS // 7)
    closed = night(by_day={"click": tuple(saturdays)})
    assert verdicts(closed)["eve"] == "not judged"
    assert verdicts(closed, eve_is_expected=True)["eve"] == "blocked"
    saturdays[DAYS - 8] = 100  # one Saturday of five
    assert verdicts(night(by_day={"click": tuple(saturdays)}))["eve"] == "not judged"
    assert verdicts(night(by_day=eve_of(0)))["eve"] == "blocked"
    assert verdicts(night(by_day=eve_of(0)), eve_is_expected=False)["eve"] == "not judged"


def test_a_rare_event_type_may_be_missing():
    clicks = {"click": CLICKS}
    assert verdicts(night(by_day=clicks | eve_of(0, kind="return", usual=19)))["event_types"] == "passed"
    assert verdicts(night(by_day=clicks | eve_of(0, kind="return", usual=20)))["event_types"] == "blocked"


def test_scores_and_lists_are_compared_within_a_version_and_its_rules_alone():
    rows = lists_of(["ann", "bob"], ["a", "b"], scores=0.5)
    other = lists_of(["ann", "bob"], ["c", "d"], scores=0.5)
    moved = {"lists": rows, "last_lists": other}
    told = verdicts(night(), [night("2024-05-06")], **moved)
    assert (told["scores"], told["overlap"]) == ("blocked", "warned")
    told = verdicts(night(version="shop/2"), [night("2024-05-06")], **moved)
    assert (told["scores"], told["overlap"]) == ("not judged", "not judged")
    told = verdicts(night(rules="top: 10"), [night("2024-05-06")], **moved)
    assert (told["scores"], told["overlap"]) == ("not judged", "not judged")


def test_scores_that_fall_evenly_into_the_deciles_have_not_moved():
    even = pl.DataFrame({"user_id": ["ann"] * 10, "score": [tenth + 0.5 for tenth in range(10)]})
    assert verdicts(night(), [night("2024-05-06")], lists=even)["scores"] == "passed"


def test_the_usual_share_without_a_list_is_the_median_of_the_nights_before():
    usual = [night(f"2024-05-0{day}", lists=600) for day in (6, 5, 4)]
    assert verdicts(night(lists=550), usual)["users_listed"] == "passed"
    assert verdicts(night(lists=499), usual)["users_listed"] == "blocked"


def test_lists_that_are_always_short_are_no_fault():
    always = [night(f"2024-05-0{day}", full=0) for day in (6, 5)]
    assert verdicts(night(full=0), always)["full_lists"] == "passed"


def test_where_lists_are_supplied_the_first_night_does_not_judge_who_has_one():
    assert verdicts(night(lists=400), supplied_lists=True)["users_listed"] == "not judged"
    assert verdicts(night(lists=400))["users_listed"] == "blocked"


def test_levels_and_limits_are_configured_in_short_or_whole():
    config = AuditsConfig.model_validate(
        {"log": False, "texts": "warn", "users": {"limit": 0.5}, "catalogue": {"level": "off"}}
    )
    assert (config.texts.level, config.texts.limit) == ("warn", 0.2)
    assert (config.users.level, config.users.limit) == ("block", 0.5)
    told = verdicts(night(events=1, with_text=1, users=500, lists=500, on_sale=1), [night("2024-05-06")], config)
    assert "log" not in told
    assert "catalogue" not in told
    assert (told["texts"], told["users"]) == ("warned", "passed")


def test_what_blocks_is_named():
    findings = audit(
        Compared(tonight=night(wrong=1, strangers=900), before=[night("2024-05-06")], lists=pl.DataFrame()),
        AuditsConfig(),
    )
    assert [finding.audit for finding in blocking(findings)] == ["rows"]
    assert {finding.audit for finding in findings if finding.verdict == "warned"} == {"strangers"}
