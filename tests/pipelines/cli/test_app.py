"""The command line's manners: help, exit codes, one JSON line, and nothing of the data in the logs."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from pipelines.registry.registry import Registry
from pipelines.registry.tracking import Tracking

VERBS = ("init", "check", "train", "evaluate", "promote", "rollback", "history", "score", "status", "data", "demo")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def project(shop_project, tmp_path):
    return shop_project.copy(tmp_path / "project")


def retitle(project, title: str | list[str], **columns) -> None:
    path = project.folder / "items.parquet"
    items = pl.read_parquet(path)
    titles = title if isinstance(title, list) else [title]
    many = pl.Series((titles * items.height)[: items.height])
    items.with_columns(title=many, **columns).write_parquet(path)


def test_help_lists_every_verb(command):
    ended = command(None, "--help")
    assert ended.code == 0
    assert [verb for verb in VERBS if not re.search(rf"\b{verb}\b", ended.out)] == []


def test_help_imports_nothing_heavy():
    code = (
        "import sys; import pipelines.cli.app; "
        "heavy = {'torch', 'mlflow', 'lightgbm', 'polars', 'transformers', 'pytorch_lightning'} & set(sys.modules); "
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(("own", "heeded"), [({}, "4"), ({"OPENBLAS_THREAD_TIMEOUT": "20"}, "20")])
def test_threads_are_asked_not_to_spin_before_numpy_is_there_to_start_them(own, heeded):
    script = (
        "import os, sys; import pipelines.cli.app; "
        "print('numpy' in sys.modules, os.environ['GOMP_SPINCOUNT'], os.environ['OPENBLAS_THREAD_TIMEOUT'])"
    )
    ours = {"GOMP_SPINCOUNT", "OPENBLAS_THREAD_TIMEOUT"}
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    ran = subprocess.run(
        [sys.executable, "-c", script], env=environment | own, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["False", "1000", heeded]


@pytest.mark.parametrize("arguments", [("scroe",), ("score",), ("score", "--date", "tomorrow"), ("check", "--no-such")])
def test_wrong_usage_ends_with_2(arguments, project, command):
    ended = command(project, *arguments)
    assert ended.code == 2
    assert ended.out == ""


@pytest.mark.parametrize("verb", [("check",), ("train",), ("promote",), ("score", "--date", "2024-02-25"), ("status",)])
def test_an_unknown_key_is_refused_with_the_nearest_known_one(verb, project, command):
    project.change(ranker={"num_leafs": 7})
    ended = command(project, *verb)
    assert ended.code == 2
    assert ended.err == "nightrank: ConfigError\nranker.num_leafs: unknown key. Did you mean 'num_leaves'?\n"
    assert ended.out == ""


def test_a_missing_configuration_says_how_to_name_one(project, command):
    project.path.unlink()
    ended = command(project, "check")
    assert ended.code == 2
    assert "`--config` names one that lies elsewhere" in ended.err


def test_a_missing_table_ends_with_2(project, command):
    (project.folder / "items.parquet").unlink()
    ended = command(project, "check")
    assert ended.code == 2
    assert "data.items.path: no .parquet" in ended.err


def test_overrides_reach_the_configuration(project, command):
    ended = command(project, "check", "--set", "data.items.text=[description]", "--set", "output=elsewhere")
    assert list(ended.facts["text"]) == ["description"]
    assert command(project, "check", "--set", "seed=-1").code == 2


def test_check_says_what_is_there_in_one_line_of_json(project, command):
    facts = command(project, "check").facts
    assert facts["users"] == 60
    assert facts["items"] == 120
    assert facts["first_event"] < facts["last_event"] < "2024-02-25"
    assert facts["text"]["title"]["unknown_share"] < 0.2
    assert facts["quarantine"] == {}


@pytest.mark.parametrize("verb", ["check", "train"])
def test_texts_that_the_encoder_cannot_read_stop_with_the_remedy(verb, project, command):
    retitle(project, "红色咖啡杯")
    ended = command(project, verb)
    assert ended.code == 10
    assert re.search(r"title \(\d\d+%\)", ended.err)
    assert "description (" not in ended.err
    assert "data.max_unknown_share (20%)" in ended.err
    assert "a multilingual one" in ended.err
    if verb == "check":
        assert ended.facts["text"]["title"]["unknown_share"] > 0.9
    else:
        assert [path.name for path in (project.folder / "out").iterdir()] == ["state"]  # of the log that was read


HOSTILE = [
    '=HYPERLINK("http://x.example","y")',
    "\x1b[31mred\x1b[0m",
    "two\nlines",
    "<script>alert(1)</script>",
    "[/b]@x\t",
]


def test_fault_40_hostile_titles_and_event_types_are_not_shown_raw(trained_project, tmp_path, command):
    """Fault 40, of logs and terminals."""
    project = trained_project.copy(tmp_path / "project")
    project.change(data={"max_unknown_share": 1.0})
    retitle(project, HOSTILE, description=pl.lit(HOSTILE[1]))
    path = next(project.folder.glob("events/*/events.parquet"))
    kind = pl.when(pl.int_range(pl.len()) == 0).then(pl.lit("[/b]\x1b[31m")).otherwise("event").alias("event")
    pl.read_parquet(path, hive_partitioning=False).with_columns(kind).write_parquet(path)
    for verb in (("check",), ("score", "--date", "2024-02-25")):
        ended = command(project, *verb)
        assert ended.code == 0, ended.err
        assert len(ended.out.splitlines()) == 1
        for told in (ended.out, ended.err):
            assert "\x1b" not in told
            assert not [title for title in HOSTILE if title in told]
    assert "\\x1b[31m" in command(project, "check").err  # the type's name, escaped


def test_status_of_a_project_that_published_nothing(project, command):
    ended = command(project, "status")
    assert ended.facts == {"live": None}
    assert "nightrank score" in ended.err


def test_fault_3_a_folder_that_is_no_folder_or_a_full_disk_is_told_in_one_line(project, command):
    """Fault 3's way out: what cannot be written ends with 75."""
    (project.folder / "out").write_text("in the way")
    ended = command(project, "train")
    assert ended.code == 75
    assert "Traceback" not in ended.err


def test_sigterm_ends_with_143(project, command, monkeypatch):
    """Exit 143 after SIGTERM, with nothing registered and the run marked as failed."""
    monkeypatch.setattr("pipelines.registry.register.register", lambda *_: signal.raise_signal(signal.SIGTERM))
    monkeypatch.setattr("pipelines.training.train.train", lambda *_, **__: None)
    ended = command(project, "train")
    assert ended.code == 143
    assert ended.out == ""
    assert Registry(project.config).versions() == []
    tracking = Tracking(project.config)
    (run,) = tracking.client.search_runs([tracking.experiment_id])
    assert run.info.status == "FAILED"


def test_data_writes_a_project_to_start_from(tmp_path, command, monkeypatch):
    from features.shop.simulator import ShopConfig
    from pipelines.verbs import datasets

    small = datasets.simulated(ShopConfig(users=5, items=20, days=8))
    monkeypatch.setattr(datasets, "load_dataset", lambda _: small)
    ended = command(None, "data", "simulated", "--to", str(tmp_path / "new"))
    assert Path(ended.facts["config"]).is_file()
    assert json.loads(ended.out)["config"] in ended.err.replace("\n", "")


def test_an_unknown_data_set_is_refused(tmp_path, command):
    ended = command(None, "data", "movielens", "--to", str(tmp_path))
    assert ended.code == 2
    assert "'complete-journey', 'ifdb', 'online-retail', 'simulated', 'wikispeedia'" in ended.err
