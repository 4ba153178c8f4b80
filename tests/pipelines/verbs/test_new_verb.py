"""A verb of somebody else's, made by the recipe of `pipelines.verbs`: the same options, result and exit codes."""

import json
import subprocess
import sys

import pytest

STOCK = '''
import sys

from features.errors import BlockedError
from pipelines.cli.app import app, main
from pipelines.cli.commands import Closing, command
from pipelines.cli.options import DEFAULT, ConfigPath, Overrides, open_inputs


def items_on_sale(inputs, config):
    items = inputs.log.items.height
    if items < config.night.top:
        raise BlockedError(f"{items} items are fewer than night.top ({config.night.top}).")
    return {"items": items}


@command(app, ["stock"])
def stock(config: ConfigPath = DEFAULT, overrides: Overrides = []) -> Closing:
    """Number of items."""
    from pipelines.base import report

    settings, inputs = open_inputs(config, overrides, allow_empty=False)
    report.result(items_on_sale(inputs, settings))
    return Closing("counted the items on sale")


main()
'''


@pytest.mark.parametrize(
    ("override", "code", "facts"), [("night.top=10", 0, {"items": 120}), ("night.top=500", 11, None)]
)
def test_a_new_verb_follows_the_recipe(override, code, facts, shop_project, tmp_path):
    project = shop_project.copy(tmp_path / "project")
    script = tmp_path / "stock.py"
    script.write_text(STOCK, encoding="utf-8")
    arguments = [sys.executable, str(script), "stock", "--config", str(project.path), "--set", override]
    ended = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stderr
    assert (json.loads(ended.stdout) if ended.stdout else None) == facts
    assert ("night.top" in ended.stderr) == (code == 11)
