"""Approvals: of a bundle, once a name, kept in the store."""

from pathlib import Path

import pytest
from small_registry import add_versions

from features.errors import ConfigError, IntegrityError
from pipelines.registry.approvals import Approvals, tags_of


def authors(registry, number):
    return [each.author for each in Approvals(registry).read(registry.version(number).digest)]


def test_an_approval_says_who_when_and_of_which_bundle(registry, elsewhere):
    version = registry.version("2")
    Approvals(registry).approve(version, " Ada  Lovelace", reason="see https://ann:pw@tickets.example/7")
    (kept,) = Approvals(elsewhere).read()
    assert (kept.author, kept.version, kept.digest) == ("Ada Lovelace", "2", version.digest)
    assert kept.reason == "see https://tickets.example/7"
    assert kept.by
    assert kept.at.endswith("+00:00")


def test_an_approval_is_of_one_bundle_and_not_of_another(registry):
    Approvals(registry).approve(registry.version("2"), "Ada")
    assert (authors(registry, "2"), authors(registry, "3")) == (["Ada"], [])


@pytest.mark.parametrize("again", ["Ada Lovelace", "ada  lovelace "])
def test_nobody_counts_twice(again, registry):
    approvals, version = Approvals(registry), registry.version("2")
    approvals.approve(version, "Ada Lovelace")
    with pytest.raises(ConfigError, match="has approved this bundle of nightrank/2 already"):
        approvals.approve(version, again)
    approvals.approve(version, "Grace Hopper")
    assert sorted(authors(registry, "2")) == ["Ada Lovelace", "Grace Hopper"]


@pytest.mark.parametrize("name", ["", " \n"])
def test_an_approval_by_nobody_is_refused_with_the_command(name, registry):
    with pytest.raises(ConfigError, match=r"by nobody.*nightrank approve --version 2 --as NAME"):
        Approvals(registry).approve(registry.version("2"), name)
    assert Approvals(registry).read() == []


def test_an_altered_bundle_is_not_approved(registry):
    version = registry.version("2")
    run = Path(registry.config.output) / "mlartifacts" / version.run_id / "artifacts" / "bundle"
    for copy in (run, registry.cached_bundle(version)):
        (copy / "config.yaml").write_text("altered", encoding="utf-8")
    with pytest.raises(IntegrityError, match=r"config\.yaml was altered"):
        Approvals(registry).approve(version, "Ada")
    assert Approvals(registry).read() == []


def test_an_approval_whose_tags_were_taken_away_counts_for_nothing(registry):
    Approvals(registry).approve(registry.version("2"), "Ada")
    (model,) = registry.client.search_registered_models("name LIKE '~nightrank.approval-%'")
    registry.client.delete_registered_model_tag(model.name, "nightrank.digest")
    assert Approvals(registry).read() == []


def test_a_version_has_the_tags_of_mlflow(registry):
    add_versions(registry, 1)
    registry.client.set_model_version_tag("nightrank", "5", "reviewed", "yes")
    assert tags_of(registry, registry.version("5"))["reviewed"] == "yes"


def test_a_version_of_another_model_is_refused_and_its_own_whole_name_read(registry):
    assert registry.version("nightrank/2").number == "2"
    with pytest.raises(ConfigError, match=r"--version 2 --set tracking\.model_name=shop"):
        registry.version("shop/2")
