"""Why an item stands where it does: parts that add up, words that follow the numbers, and what is missing."""

import io
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from features.errors import ConfigError
from pipelines.night.lists import rank_users
from pipelines.registry.registry import Registry
from pipelines.registry.versions import load_version, working_config
from pipelines.verbs.explain import (
    explain_item,
    explain_list,
    explanation_tables,
    move_tables,
    ranked_for,
    why_moved,
)


@pytest.fixture(scope="module")
def champion(trained_project):
    return load_version(Registry(trained_project.config), "champion")


@pytest.fixture(scope="module")
def user(trained_project):
    """Id of a user with a history."""
    log = trained_project.inputs.log
    return str(log.user_ids[int(log.active_users[0])])


@pytest.fixture(scope="module")
def ranked_on(trained_project, champion, user):
    def ranked(days_before, **changed):
        name, bundle = champion
        return ranked_for(
            trained_project.inputs.log,
            trained_project.config,
            user=user,
            when=trained_project.day - timedelta(days=days_before),
            version=name,
            bundle=replace(bundle, **changed),
        )

    return ranked


@pytest.fixture(scope="module")
def tonight(ranked_on):
    return ranked_on(0)


def item_at(ranked, rank):
    row = int(np.flatnonzero(ranked.ranks == rank)[0])
    return str(ranked.chain.log.items["item_id"][int(ranked.rows["item"][row])])


def shown(tables):
    console = Console(file=io.StringIO(), width=120)
    for table in tables:
        console.print(table)
    return console.file.getvalue()


def test_the_list_is_the_night_s(tonight, champion, trained_project):
    name, bundle = champion
    config = working_config(trained_project.config, bundle)
    night = rank_users(tonight.chain, config, tonight.rows["user"][:1], int(tonight.rows["as_of_day"][0]), name, bundle)
    facts = explain_list(tonight)
    assert [str(item["item_id"]) for item in facts["items"]] == night["item_id"].cast(pl.String).to_list()
    assert [item["score"] for item in facts["items"]] == night["score"].to_list()
    assert facts["candidates"] == tonight.rows.height > len(facts["items"])
    assert "because" in shown(explanation_tables(facts))


@pytest.mark.parametrize("rank", [1, 3, 15])
def test_the_parts_of_an_item_add_up_to_its_score_over_the_mean(tonight, rank):
    facts = explain_item(tonight, item_at(tonight, rank))
    assert facts["rank"] == rank
    assert sum(each["part"] for each in facts["families"]) + facts["rest"] == pytest.approx(facts["above"], abs=1e-12)
    assert abs(facts["rest"]) < 0.05 * max(abs(facts["above"]), 1.0)
    by_size = [abs(each["part"]) for each in facts["families"]]
    assert by_size == sorted(by_size, reverse=True)
    assert "nearest of the history" in shown(explanation_tables(facts))


def test_what_an_item_below_the_list_lacks_is_the_difference_to_the_last_that_is_shown(tonight):
    top = tonight.config.night.top
    below, last = (explain_item(tonight, item_at(tonight, rank)) for rank in (top + 4, top))
    assert below["change"]["lacks"] == pytest.approx(last["score"] - below["score"])
    assert below["change"]["to_rank"] == top
    parts = [each["part"] for each in below["change"]["behind_in"]]
    assert parts
    assert parts == sorted(parts, reverse=True)
    assert min(parts) > 0
    assert f"It lacks {below['change']['lacks']:.4f}" in shown(explanation_tables(below))


def test_without_the_families_that_keep_it_on_the_list_an_item_would_fall_from_it(tonight):
    top = tonight.config.night.top
    facts = explain_item(tonight, item_at(tonight, top))
    next_score = explain_item(tonight, item_at(tonight, top + 1))["score"]
    needed = [each["family"] for each in facts["families"] if facts["score"] - each["part"] < next_score]
    assert sorted(facts["change"]["only_because_of"]) == sorted(needed)
    assert facts["change"]["margin"] == pytest.approx(facts["score"] - next_score)


def test_the_nearest_of_the_history_are_of_the_history_and_by_text(tonight):
    facts = explain_item(tonight, item_at(tonight, 2))
    had = set(tonight.chain.log.items["item_id"].gather(tonight.portion.history["item"]).to_list())
    similarities = [each["similarity"] for each in facts["nearest"]]
    assert {each["item_id"] for each in facts["nearest"]} <= had - {facts["item_id"]}
    assert similarities == sorted(similarities, reverse=True)
    assert all(each["text"] for each in facts["nearest"])


def common_item(first, second, rank):
    """The item that stands at about a rank on the second day and is a candidate on both."""
    both = set(first.rows["item"].to_list())
    order = np.argsort(second.ranks)
    codes = [int(second.rows["item"][int(row)]) for row in order if int(second.rows["item"][int(row)]) in both]
    return str(second.chain.log.items["item_id"][codes[rank]])


@pytest.mark.parametrize("rank", [0, 6, 20])
def test_the_parts_of_a_move_add_up_to_the_difference_of_the_scores(ranked_on, tonight, rank):
    before = ranked_on(6)
    item = common_item(before, tonight, rank)
    facts = why_moved(before, tonight, item)
    assert facts["difference"] == pytest.approx(facts["to"]["score"] - facts["from"]["score"], abs=1e-12)
    assert sum(each["part"] for each in facts["parts"]) == pytest.approx(facts["difference"], abs=1e-9)
    assert {each["what"].partition(":")[0] for each in facts["parts"]} <= {"columns", "text", "competitors"}
    assert f"score on {tonight.when}" in shown(move_tables(facts))


def test_another_version_has_a_part_of_its_own(ranked_on, tonight):
    before = ranked_on(0, ranker=tonight.bundle.behaviour_ranker, digest="0" * 64)
    item = common_item(before, tonight, 1)
    facts = why_moved(before, tonight, item)
    parts = {each["what"]: each["part"] for each in facts["parts"]}
    assert sum(parts.values()) == pytest.approx(facts["difference"], abs=1e-9)
    assert parts["version"] == pytest.approx(facts["difference"], abs=1e-6)


def test_nothing_moves_within_a_night(tonight):
    facts = why_moved(tonight, tonight, item_at(tonight, 4))
    assert facts["difference"] == 0
    assert sum(abs(each["part"]) for each in facts["parts"]) == pytest.approx(0, abs=1e-9)
    assert (facts["overtook"], facts["overtaken_by"]) == (0, 0)


def test_who_passed_whom_is_counted(ranked_on, tonight):
    before = ranked_on(6)
    item = common_item(before, tonight, 6)
    facts = why_moved(before, tonight, item)
    codes = [set(ranked.rows["item"].to_list()) for ranked in (before, tonight)]
    both = codes[0] & codes[1]
    places = [
        {int(code): int(rank) for code, rank in zip(ranked.rows["item"], ranked.ranks, strict=True)}
        for ranked in (before, tonight)
    ]
    own = tonight.chain.log.items["item_id"].cast(pl.String).index_of(item)
    passed = [(places[0][code] < places[0][own], places[1][code] < places[1][own]) for code in both]
    assert facts["overtook"] == passed.count((True, False))
    assert facts["overtaken_by"] == passed.count((False, True))


def test_what_is_missing_is_said(trained_project, champion, tonight):
    name, bundle = champion
    log, config, day = trained_project.inputs.log, trained_project.config, trained_project.day
    with pytest.raises(ConfigError, match=r"no event before .* is of this user"):
        ranked_for(log, config, user="nobody", when=day, version=name, bundle=bundle)
    with pytest.raises(ConfigError, match="the catalogue has no item"):
        explain_item(tonight, "nothing")
    others = set(range(log.items.height)) - set(tonight.rows["item"].to_list())
    left_out = str(log.items["item_id"][min(others)])
    with pytest.raises(ConfigError, match="no candidate of this user"):
        explain_item(tonight, left_out)
