"""What the packages' docstrings list as public is there."""

import importlib
import re

import pytest


def listed(package: str) -> list[str]:
    """Dotted names in backticks that begin with the package's own."""
    return re.findall(rf"`({package}(?:\.\w+)+)`", importlib.import_module(package).__doc__ or "")


@pytest.mark.parametrize("package", ["features", "encoders", "ranker", "pipelines"])
def test_names_that_a_docstring_lists_are_there(package):
    for name in listed(package):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            module, _, attribute = name.rpartition(".")
            assert attribute in importlib.import_module(module).__all__, name


@pytest.mark.parametrize("package", ["encoders", "ranker"])
def test_a_package_says_what_is_public(package):
    assert len(listed(package)) >= 10
