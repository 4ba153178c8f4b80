"""Families that other packages bring."""

import pytest

from features.errors import ConfigError
from features.families.registry import FAMILIES
from pipelines.training.feature_plan import GROUP, load_families

SHOUT = """
from features.families.titles import ItemTitle

class Shout(ItemTitle):
    name = "shout"
"""


@pytest.fixture(autouse=True)
def _registry_as_before():
    yield
    FAMILIES.pop("shout", None)


def test_a_package_brings_its_families(install):
    install("shouting", SHOUT, group=GROUP, name="Shout")
    load_families()
    load_families()  # once more changes nothing
    assert FAMILIES["shout"].__module__ == "shouting"


@pytest.mark.parametrize(("source", "says"), [("Shout = 3", "is no subclass"), ("", "cannot be imported")])
def test_what_is_no_family_is_refused(source, says, install):
    install("whispering", source, group=GROUP, name="Shout")
    with pytest.raises(ConfigError, match=f"whispering:Shout.*{says}"):
        load_families()
