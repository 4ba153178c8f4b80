"""Families and generators that other packages bring."""

import sys
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import polars as pl
import pytest

from features.candidates import catalog
from features.config import CandidatesConfig
from features.errors import ConfigError
from features.families.registry import FAMILIES
from features.families.titles import ItemTitle
from features.signals.generator import Generator
from features.signals.top_k import top_k
from pipelines.training import feature_plan


class Shout(ItemTitle):
    """A family of another package."""

    name = "shout"


class Cheapest(Generator):
    """A generator of another package."""

    name = "cheapest"
    meaning = "the cheapest items"

    def propose(self, requests, history):  # noqa: ARG002
        items = self.inputs.log.items.select("item", score=1 / (1 + pl.col("price")))
        return top_k(requests.select("request").join(items, how="cross"), self.most)


@pytest.fixture
def installed(monkeypatch):
    """As if a package offered something under an entry point group."""
    monkeypatch.setitem(sys.modules, "shouting", SimpleNamespace(Shout=Shout, Cheapest=Cheapest, other=3))
    monkeypatch.setattr(catalog, "_REGISTERED", {})

    def offer(value, of):
        point = EntryPoint("it", value, of)
        monkeypatch.setattr(feature_plan, "entry_points", lambda group: [point] if group == of else [])

    yield offer
    FAMILIES.pop("shout", None)


def test_a_package_brings_its_families_and_generators(installed):
    for value, group in (("shouting:Shout", "nightrank.families"), ("shouting:Cheapest", "nightrank.generators")):
        installed(value, group)
        feature_plan.load_plugins()
        feature_plan.load_plugins()  # once more changes nothing
    assert FAMILIES["shout"] is Shout
    assert catalog.generators_of(CandidatesConfig(extra={"cheapest": 5}))[-1] is Cheapest


@pytest.mark.parametrize("group", feature_plan.GROUPS)
def test_what_cannot_be_brought_is_refused(installed, group):
    for value, says in (("shouting:other", "is no subclass"), ("nowhere:X", "cannot be imported")):
        installed(value, group)
        with pytest.raises(ConfigError, match=says):
            feature_plan.load_plugins()
