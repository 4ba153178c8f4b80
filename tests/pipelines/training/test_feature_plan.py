"""Families that other packages bring."""

import sys
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

from features.errors import ConfigError
from features.families.registry import FAMILIES
from features.families.titles import ItemTitle
from pipelines.training import feature_plan


class Shout(ItemTitle):
    """A family of another package."""

    name = "shout"


@pytest.fixture
def installed(monkeypatch):
    """As if a package offered something under the entry point group."""

    def offer(value):
        point = EntryPoint("family", value, feature_plan.GROUP)
        monkeypatch.setattr(feature_plan, "entry_points", lambda group: [point] if group == feature_plan.GROUP else [])

    yield offer
    FAMILIES.pop("shout", None)


def test_a_package_brings_its_families(installed, monkeypatch):
    monkeypatch.setitem(sys.modules, "shouting", SimpleNamespace(Shout=Shout, other=3))
    installed("shouting:Shout")
    feature_plan.load_families()
    feature_plan.load_families()  # once more changes nothing
    assert FAMILIES["shout"] is Shout
    for value, says in (("shouting:other", "is no subclass"), ("nowhere:X", "cannot be imported")):
        installed(value)
        with pytest.raises(ConfigError, match=says):
            feature_plan.load_families()
