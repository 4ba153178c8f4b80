"""A registry of four versions that hold no model; its database is made once a session and copied."""

import shutil

import pytest
from small_registry import add_versions, config_of

from pipelines.registry.registry import Registry


@pytest.fixture(scope="session")
def four_versions(tmp_path_factory):
    """The output folder of a registry with versions 1 to 4 and no champion; copy it."""
    output = tmp_path_factory.mktemp("registry") / "out"
    add_versions(Registry(config_of(output)), 4)
    return output


@pytest.fixture
def registry(four_versions, tmp_path):
    """Versions 1 to 4, of which none was ever champion."""
    return Registry(config_of(shutil.copytree(four_versions, tmp_path / "out")))


@pytest.fixture
def elsewhere(registry, tmp_path):
    """The same registry from another machine: with an output folder of its own."""
    uri = f"sqlite:///{registry.config.output}/mlflow.db"
    folder = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "out" / "bundles", folder / "bundles")
    return Registry(config_of(folder, uri))
