"""Shared by the tests of pipelines: packages of others, as if they were installed."""

import sys

import pytest


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Install a package of one module: ``install("toy", source, group="nightrank.gates", name="covers")``."""
    modules = []

    def make(module, source, *, group, name):
        folder = tmp_path / f"site-{module}"
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / f"{module}.py").write_text(source, encoding="utf-8")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}:{name}\n", encoding="utf-8")
        monkeypatch.syspath_prepend(str(folder))
        modules.append(module)

    yield make
    for module in modules:
        sys.modules.pop(module, None)
