"""The public names of pipelines: what the package's docstring lists, and what is called by other people's code."""

import inspect
import re
from importlib import import_module

import pytest

import pipelines

PARAMETERS = {
    "pipelines.base.config.load_config": ["path", "overrides"],
    "pipelines.inputs.check.read_inputs": ["config", "allow_empty", "write"],
    "pipelines.inputs.read.read_events": ["config", "allow_empty"],
    "pipelines.training.train.train": ["log", "config", "watch", "continues"],
    "pipelines.registry.bundle.load_bundle": ["folder"],
    "pipelines.registry.register.register": ["trained", "inputs", "config", "run", "external"],
    "pipelines.registry.versions.load_version": ["registry", "wanted"],
    "pipelines.stores.publish.published": ["root"],
    "pipelines.verbs.datasets.load_dataset": ["name", "full"],
    "pipelines.verbs.gates.gates_of": ["evaluation", "config", "champion", "facts"],
    "pipelines.verbs.project.write_dataset": ["dataset", "folder", "until", "partitioned"],
    "pipelines.verbs.promote.promote": ["log", "config", "registry", "wanted", "judged", "reason"],
    "pipelines.verbs.score.score": [
        *("inputs", "config", "when", "version", "bundle", "dry_run", "allow_hindsight", "publishing"),
    ],
}
OTHERS = {
    "pipelines.base.config.Config",
    "pipelines.inputs.check.Inputs",
    "pipelines.inputs.check.summary",
    "pipelines.inputs.check.text_fields",
    "pipelines.training.train.Trained",
    "pipelines.evaluation.evaluate.Evaluation",
    "pipelines.registry.bundle.Bundle",
    "pipelines.registry.register.Registered",
    "pipelines.registry.registry.Registry",
    "pipelines.registry.registry.Version",
    "pipelines.registry.versions.judge_versions",
    "pipelines.stores.publish.Published",
    "pipelines.verbs.datasets.Dataset",
    "pipelines.verbs.datasets.simulated",
    "pipelines.verbs.gates.Gate",
    "pipelines.verbs.project.write_day",
    "pipelines.verbs.score.Publishing",
}


def public_names():
    lines = re.findall(r"^- `(pipelines\.[\w.]+)`: (.+)$", pipelines.__doc__, re.MULTILINE)
    return [(module, name) for module, names in lines for name in re.findall(r"`(\w+)`", names)]


def test_the_docstring_lists_every_name_that_is_kept_stable():
    listed = {f"{module}.{name}" for module, name in public_names()}
    assert listed == PARAMETERS.keys() | OTHERS


@pytest.mark.parametrize(("module", "name"), public_names())
def test_a_public_name_is_exported_and_documented(module, name):
    there = import_module(module)
    assert name in there.__all__
    assert inspect.getdoc(getattr(there, name))


@pytest.mark.parametrize(("qualified", "parameters"), PARAMETERS.items())
def test_public_functions_keep_their_parameters(qualified, parameters):
    module, _, name = qualified.rpartition(".")
    assert list(inspect.signature(getattr(import_module(module), name)).parameters) == parameters


def test_the_docstring_names_every_room():
    rooms = re.findall(r"^- `(\w+)`: ", pipelines.__doc__, re.MULTILINE)
    assert rooms == ["cli", "verbs", "registry", "evaluation", "training", "inputs", "stores", "base"]
    for room in rooms:
        assert len(import_module(f"pipelines.{room}").__doc__.splitlines()) >= 1
