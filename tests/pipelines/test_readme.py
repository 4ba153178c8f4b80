"""What the README shows works as it stands there."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
import yaml
from typer.main import get_command

from encoders.config import ClickModelConfig
from features.config import FeaturesConfig
from features.families.registry import FAMILIES, chosen
from pipelines.base.config import load_click_config, load_config
from pipelines.cli.app import app
from pipelines.inputs.check import read_inputs
from pipelines.stores.storage import write_parquet

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The README's own configuration, beside tables of the shape that it describes."""
    block, *_ = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    path = tmp_path / "nightrank.yaml"
    path.write_text(block, encoding="utf-8")
    write_parquet(
        pl.DataFrame(
            {"sku": ["a", "b"], "department": ["Kitchen", None], "title": ["Red mug", "Pan"], "description": ["", None]}
        ),
        tmp_path / "items.parquet",
    )
    at = datetime(2024, 5, 1, 12, tzinfo=UTC)
    events = {"customer": [1, 2], "sku": ["a", "b"], "action": ["click", "view"], "at": [at, at]}
    write_parquet(pl.DataFrame(events), tmp_path / "events" / "date=2024-05-01" / "part.parquet")
    return path


def test_the_example_for_ones_own_tables_reads_them(example: Path) -> None:
    inputs = read_inputs(load_config(example))
    assert inputs.log.items["category"].to_list() == ["Kitchen", None]
    assert inputs.log.events["gain"].to_list() == [1, 0]  # a click counts 1, a view is context
    assert not inputs.quarantine


def test_the_example_of_features_names_what_there_is() -> None:
    _, block, _ = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    config = FeaturesConfig.model_validate(yaml.safe_load(block)["features"])
    assert [family.name for family in chosen(config)] == list(config.families)
    told = set(re.findall(r"^\| (`.*?) \| .* \| .* \|$", README, flags=re.MULTILINE))
    assert set(FAMILIES) <= {name for cell in told for name in re.findall(r"`(\w+)`", cell)}


def test_the_example_for_headlines_is_a_configuration(tmp_path: Path) -> None:
    *_, block = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    (tmp_path / "clicks.yaml").write_text(block, encoding="utf-8")
    config = load_click_config(tmp_path / "clicks.yaml")
    assert config.data.clicks.columns == {"group": "test_id", "text": "headline"}
    assert config.click_model == ClickModelConfig()


def test_the_family_of_ones_own_is_the_one_that_the_notebook_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    notebook = json.loads((ROOT / "notebooks/features.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert any(cell.startswith(block.strip()) for cell in cells)


def test_every_command_that_is_shown_exists() -> None:
    shown = set(re.findall(r"^nightrank ([\w-]+)", README, flags=re.MULTILINE)) | {"rollback", "demo"}
    assert shown <= set(get_command(app).commands)  # type: ignore[attr-defined]


def test_every_exit_code_that_is_raised_is_explained() -> None:
    from features import errors

    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)}
    explained = {int(code) for code in re.findall(r"^\| (\d+) \|", README, flags=re.MULTILINE)}
    assert codes - {1} <= explained
