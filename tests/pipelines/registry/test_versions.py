"""Which configuration a version works under: what is its own, what is tonight's, and what is said of the difference."""

from dataclasses import replace

import pytest

from features.errors import IntegrityError
from features.log.event_log import day_of
from pipelines.base.config import Config
from pipelines.registry import versions
from pipelines.registry.registry import Registry
from pipelines.registry.versions import judge_versions, load_version, not_followed, say_not_followed, working_config


@pytest.fixture(scope="module")
def champion(trained_project):
    return load_version(Registry(trained_project.config), "champion")


@pytest.fixture
def told(trained_project):
    """Today's configuration with some keys changed, by dotted path."""

    def change(**keys):
        config = trained_project.config
        for path, value in keys.items():
            config = changed(config, path.split("__"), value)
        return config

    return change


def changed(section, keys, value):
    key, *further = keys
    value = changed(getattr(section, key), further, value) if further else value
    return section.model_copy(update={key: value})


def filled(model, mark, path=""):
    """A configuration whose every key holds a mark and its own path."""
    values = {
        name: (mark, path + name) if field.description else filled(field.annotation, mark, f"{path}{name}.")
        for name, field in model.model_fields.items()
    }
    return model.model_construct(**values)


def keys(model, path=""):
    """Path and description of every key."""
    for name, field in model.model_fields.items():
        if field.description:
            yield path + name, field.description
        else:
            yield from keys(field.annotation, f"{path}{name}.")


def value(config, path):
    for name in path.split("."):
        config = getattr(config, name)
    return config


def test_every_key_comes_from_whom_its_description_says(champion, monkeypatch):
    monkeypatch.setattr(versions, "trained_config", lambda _: filled(Config, "bundle"))
    own = working_config(filled(Config, "today"), champion[1])
    comes_from = {
        "Tonight's.": "today",
        "The evaluation's.": "today",
        "The version's.": "bundle",
        "The training's.": "bundle",
    }
    checked = 0
    for path, description in keys(Config):
        (source,) = [source for word, source in comes_from.items() if description.endswith(word)]
        assert value(own, path) == (source, path)
        checked += 1
    assert checked > 120


def test_an_unchanged_configuration_is_followed_in_another_folder_too(trained_project, champion, tmp_path):
    config = trained_project.copy(tmp_path / "elsewhere").config
    assert not_followed(config, champion[1], judged=True) == []
    assert working_config(config, champion[1]).model_copy(update={"encoder": config.encoder}) == config


def test_keys_that_are_the_versions_own_are_named_once_and_without_values(told, champion, capfd):
    name, bundle = champion
    config = told(
        labels__gains={"click": 1, "a secret type": 2},
        calendar__timezone="Asia/Tokyo",
        candidates__popular=3,
        candidates__blocked=("i000001",),
        encoder__model="package:other/model",
        encoder__steps=99,
        ranker__max_trees=1,
        timeline__test_days=2,
        night__top=1,
        evaluation__resamples=100,
    )
    own = ["calendar.timezone", "candidates.popular", "encoder.model", "labels.gains"]
    assert not_followed(config, bundle) == own
    assert not_followed(config, bundle, judged=True) == sorted([*own, "candidates.blocked"])
    capfd.readouterr()
    say_not_followed(own, name)
    said = capfd.readouterr().err
    assert all(key in said for key in own)
    assert name in said
    assert "train and promote again" in said
    say_not_followed([], name)
    assert capfd.readouterr().err == ""


def test_a_bundle_of_another_nightrank_is_refused_with_its_keys(told, champion):
    _, bundle = champion
    other = replace(bundle, config={**bundle.config, "sed": 1, "night": {"tops": 3}})
    with pytest.raises(IntegrityError, match=r"no configuration of this nightrank \('night\.tops', 'sed'\)\. Use the"):
        working_config(told(), other)


def test_an_old_bundle_with_a_removed_key_is_read_where_it_was_off_and_else_refused(told, champion):
    _, bundle = champion

    def old(value):
        ranker = {**bundle.config["ranker"], "position_debias": value}
        return replace(bundle, config={**bundle.config, "ranker": ranker})

    assert working_config(told(), old(False)) == working_config(told(), bundle)  # noqa: FBT003 - a YAML value
    with pytest.raises(
        IntegrityError, match=r"\('ranker\.position_debias'\).* make the version anew .*: nightrank train"
    ):
        working_config(told(), old(True))  # noqa: FBT003 - a YAML value


def test_an_old_bundle_is_read_whatever_a_removed_key_that_made_nothing_of_it_says(told, champion):
    _, bundle = champion
    bounded = replace(
        bundle, config={**bundle.config, "features": {**bundle.config["features"], "max_memory_gb": 16.0}}
    )
    assert working_config(told(), bounded) == working_config(told(), bundle)


def test_an_old_bundle_whose_backend_was_measured_has_the_one_that_was_taken(told, champion):
    _, bundle = champion
    measured = replace(bundle, config={**bundle.config, "encoder": {**bundle.config["encoder"], "backend": "auto"}})
    assert working_config(told(), measured) == working_config(told(), bundle)
    assert measured.config["encoder"]["backend"] == "auto"  # what was read stays as it was


def test_a_past_window_is_judged_under_the_filters_of_the_training(trained_project, told, champion, capfd):
    name, bundle = champion
    first, last = (day_of(day) for day in bundle.window)
    items = trained_project.inputs.log.items["item_id"].to_list()
    config = told(candidates__blocked=tuple(items[::2]), candidates__already_bought="drop")
    found = judge_versions(
        trained_project.inputs.log, config, {name: bundle}, first_day=first, end_day=last + 1, chosen="full system"
    )
    then = trained_project.registered.evaluation.as_json()
    assert found.as_json()["systems"] == [row for row in then["systems"] if row["system"] == "full system"]
    assert found.as_json()["candidate_recall"] == then["candidate_recall"]
    assert '"keys": ["candidates.already_bought", "candidates.blocked"]' in capfd.readouterr().err


def test_two_versions_are_judged_under_the_filters_of_the_first(trained_project, told, champion):
    _, bundle = champion
    last = day_of(bundle.window[1])
    items = trained_project.inputs.log.items["item_id"].to_list()
    blocking = {**bundle.config, "candidates": {**bundle.config["candidates"], "blocked": items[::2]}}
    both = {"free": bundle, "blocking": replace(bundle, config=blocking)}

    def recall(*names):
        judged = {name: both[name] for name in names}
        log, day = trained_project.inputs.log, last - 3
        found = judge_versions(log, told(), judged, first_day=day, end_day=last + 1, chosen=f"full system, {names[-1]}")
        means = found.judged.table.filter(slice="all", metric="ndcg@10")
        return dict(means.select("system", "mean").rows()), found.judged.ceiling["recall"][0]

    free, of_free = recall("free", "blocking")
    assert free["full system"] == free["blocking"]
    blocked, of_blocked = recall("blocking", "free")
    assert blocked["full system"] == blocked["free"]
    assert of_blocked < of_free
