"""Families and generators that other packages bring."""

import pytest

from features.candidates import catalog
from features.config import CandidatesConfig
from features.errors import ConfigError
from features.families.registry import FAMILIES
from pipelines.training.feature_plan import GROUPS, load_plugins

SHOUT = """
from features.families.titles import ItemTitle

class Shout(ItemTitle):
    name = "shout"
"""
CHEAPEST = """
import polars as pl
from features.signals.generator import Generator
from features.signals.top_k import top_k

class Cheapest(Generator):
    name = "cheapest"
    meaning = "the cheapest items"

    def propose(self, requests, history):
        items = self.inputs.log.items.select("item", score=1 / (1 + pl.col("price")))
        return top_k(requests.select("request").join(items, how="cross"), self.most)
"""


@pytest.fixture(autouse=True)
def _registries_as_before(monkeypatch):
    monkeypatch.setattr(catalog, "_REGISTERED", {})
    yield
    FAMILIES.pop("shout", None)


def test_a_package_brings_its_families(install):
    install("shouting", SHOUT, group="nightrank.families", name="Shout")
    load_plugins()
    load_plugins()  # once more changes nothing
    assert FAMILIES["shout"].__module__ == "shouting"


def test_a_package_brings_its_generators(install):
    install("thrifty", CHEAPEST, group="nightrank.generators", name="Cheapest")
    load_plugins()
    load_plugins()  # once more changes nothing
    assert catalog.generators_of(CandidatesConfig(extra={"cheapest": 5}))[-1].__module__ == "thrifty"


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(("source", "says"), [("Shout = 3", "is no subclass"), ("", "cannot be imported")])
def test_what_is_of_no_such_kind_is_refused(source, says, group, install):
    install("whispering", source, group=group, name="Shout")
    with pytest.raises(ConfigError, match=f"whispering:Shout.*{says}"):
        load_plugins()
