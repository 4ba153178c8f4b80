"""The recipes in the docstrings of families, candidates and signals, followed to the letter from outside."""

import re
from dataclasses import dataclass
from datetime import date
from textwrap import dedent

import numpy as np
import polars as pl
import pytest

import features.candidates
import features.families
import features.signals
from features.assemble import Assembler
from features.candidates import catalog
from features.config import CandidatesConfig, FeaturesConfig
from features.errors import ConfigError
from features.families.manifest import columns_of
from features.families.registry import FAMILIES
from features.log.inventory import FeatureInventory
from features.signals.cache import AsOfCache
from features.signals.family import Plan


@pytest.fixture
def followed(monkeypatch):
    """Runs the code of a room's docstring, and forgets what it registered when the test ends."""
    monkeypatch.setattr(catalog, "_REGISTERED", {})
    before = dict(FAMILIES)

    def follow(room):
        code = "\n".join(re.findall(r"^(?: {4}.*)?$", room.__doc__, flags=re.MULTILINE))
        names = {"pl": pl, "np": np, "dataclass": dataclass, "__name__": "recipe"}
        exec(dedent(code), names)
        return names

    yield follow
    for name in set(FAMILIES) - set(before):
        FAMILIES.pop(name)


def test_a_family_of_the_recipe_makes_its_column(followed, shop):
    tables = shop(0)
    followed(features.families)
    log, config = tables.log(), FeaturesConfig(families=("pair", "weekends"))
    assembler = Assembler(log, CandidatesConfig(), None, Plan(config, FeatureInventory.of(log, config)))
    rows = assembler.portion(tables.requests_on(30)).rows
    first = log.engaged.filter((pl.col("user") == rows["user"][0]) & (pl.col("day") < rows["as_of_day"][0]))
    shares = [date.fromordinal(date(1970, 1, 1).toordinal() + day).weekday() >= 5 for day in first["day"]]
    assert rows["user_weekend_share"][0] == pytest.approx(np.mean(shares), rel=1e-6)
    assert "weekends" in {column.family for column in columns_of(assembler.families, [])}


def test_a_generator_of_the_recipe_proposes_up_to_its_quota(followed, shop):
    tables = shop(0)
    followed(features.candidates)
    log, requests = tables.log(), tables.requests_on(30)
    nothing_else = dict.fromkeys(catalog.SOURCES, 0)
    assembler = Assembler(log, CandidatesConfig(**nothing_else, extra={"cheapest": 2}), None)
    rows = assembler.portion(requests).rows
    cheapest = log.items.drop_nulls("price").sort("price", "item").head(2).with_row_index("order", offset=1)
    proposed = rows.select("item", "cheapest_rank", "cheapest_score").unique().join(cheapest, on="item")
    assert 0 < proposed.height == rows["item"].n_unique() <= 2
    assert proposed["cheapest_rank"].to_list() == proposed["order"].to_list()
    assert proposed["cheapest_score"].to_list() == (1 / (1 + proposed["price"])).cast(pl.Float32).to_list()
    assert [name for name in assembler.features if name.startswith("cheapest")] == ["cheapest_rank", "cheapest_score"]
    assert not assembler.text_features & {"cheapest_rank", "cheapest_score"}


def test_an_unknown_or_a_taken_name_of_a_generator_is_refused(followed, shop):
    cheapest = followed(features.candidates)["Cheapest"]
    with pytest.raises(
        ConfigError, match=r"candidates.extra: no generator is called 'cheapst'. Did you mean 'cheapest'"
    ):
        Assembler(shop(0).log(), CandidatesConfig(extra={"cheapst": 1}), None)
    for name in ("cheapest", "popular"):
        with pytest.raises(ConfigError, match=f"candidates: '{name}' is taken"):
            catalog.register(type("Other", (cheapest,), {"name": name}))


def test_a_signal_of_the_recipe_is_fitted_by_the_cache(followed, shop):
    log = shop(0).log()
    signal = followed(features.signals)["LastActive"]()
    day = log.last_day
    found = AsOfCache(log).fitted(signal, day)
    for item in range(log.items.height):
        days = log.engaged.filter((pl.col("item") == item) & (pl.col("day") < day))["day"]
        assert found[item] == (days.max() if len(days) else day + 1)
