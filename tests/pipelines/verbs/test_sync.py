"""`sync`: entries are written once, and what cannot be written stays on disk."""

from pathlib import Path

import pytest

from features.errors import ConfigError
from pipelines.registry.registry import Registry
from pipelines.stores.spool import spool, spooled
from pipelines.verbs.sync import sync

ENTRY = {"kind": "degraded", "date": "2024-02-25", "version": "nightrank/1", "why": "it was down", "attempt": "x"}


@pytest.fixture
def config(trained_project, tmp_path):
    return trained_project.copy(tmp_path / "project").config


def test_entries_are_written_as_tags_and_writing_them_again_comes_to_the_same(config):
    for _ in range(2):  # as after a kill between writing and removing
        spool(Path(config.output), ENTRY)
        assert sync(config) == {"written": 1, "left": 0, "champion": "nightrank/1", "agrees": None}
        tags = Registry(config).client.get_model_version("nightrank", "1").tags
        assert tags["nightrank.degraded.2024-02-25"] == "it was down"
        assert spooled(Path(config.output)) == {}
    assert sync(config)["written"] == 0


def test_what_is_refused_stays_and_stops_no_other(config):
    output = Path(config.output)
    spool(output, ENTRY | {"kind": "of tomorrow's nightrank"})
    spool(output, ENTRY)
    with pytest.raises(ConfigError, match="1 of 2 entries of the spool stay on disk: entries of the kind"):
        sync(config)
    assert [entry["kind"] for entry in spooled(output).values()] == ["of tomorrow's nightrank"]
