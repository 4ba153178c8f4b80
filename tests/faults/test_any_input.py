"""No traceback from any input: each project ends as the truth and its faults say, in a known way."""

from datetime import timedelta
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace

import polars as pl
import pytest
from hypothesis import HealthCheck, given, seed, settings
from odd_projects import FIRST, IDS, N_DAYS, N_ITEMS, SECRET, odd_projects

KNOWN_CODES = {0, 2, 10, 11, 12, 75}
FAST = {
    "max_tokens": 16,
    "train": {"last": 1},
    "precision": "fp32",
    "steps": 1,
    "head_steps": 2,
    "check_every": 2,
    "requests_per_batch": 8,
}
SETTINGS = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}


@pytest.fixture
def run(command, tmp_path, tiny_encoder):
    """Write a project and run a command on it."""
    fast = [f"--set=encoder={ {**FAST, 'model': str(tiny_encoder)} }", "--set=ranker={max_trees: 5, network: null}"]

    def ended(odd, *arguments):
        home = Path(mkdtemp(dir=tmp_path))  # of its own: MLflow keeps connections to a database's path
        return again(odd.write(home), *arguments)

    def again(path, *arguments):
        end = command(SimpleNamespace(path=path), *arguments, *fast)
        assert end.code in KNOWN_CODES, end.err
        assert "Traceback" not in end.err
        assert SECRET not in end.err + end.out
        assert "\x1b" not in end.err
        assert end.out if end.code == 0 else not end.out
        return SimpleNamespace(code=end.code, err=end.err, path=path, facts=end.facts if end.out else {})

    return SimpleNamespace(project=ended, again=again)


def holds(odd, run):
    meant = odd.meant()
    end = run.project(odd, "check")
    assert end.code == meant.code, end.err
    words = end.err.replace("\n", " ")
    assert [said for said in meant.says if said not in words] == []
    if meant.facts:
        facts = {**end.facts, **end.facts["tables"]["events"]}
        assert {name: facts[name] for name in meant.facts} == dict(meant.facts)
    if end.code == 0:
        keys = {warning["key"] for warning in end.facts["warnings"]}
        assert ("data.events" in keys) == (odd.story == "an event of 2098")
    if end.code == 0 and odd.fault == "stray files" and odd.layout != "glob of folders":
        assert len(end.facts["tables"]["events"]["files_left_out"]) == 3


def check_of_any(examples):
    @seed(1)
    @settings(max_examples=examples, **SETTINGS)
    @given(odd=odd_projects())
    def test(odd, run):
        holds(odd, run)

    return test


def night_of_any(examples):
    """Train and score: every user gets a list, of items of the catalogue alone."""

    @seed(2)
    @settings(max_examples=examples, **SETTINGS)
    @given(odd=odd_projects(faults=False))
    def test(odd, run):
        trained = run.project(odd, "train")
        if odd.story in {"gains logged late", "one item"} and trained.code:
            assert trained.code == 10
            assert "has a positive" in trained.err
            return
        assert trained.code == 0, trained.err
        night = run.again(trained.path, "score", "--version", "challenger", "--date", str(FIRST + timedelta(N_DAYS)))
        assert night.code == 0, night.err
        users = odd.truth["user"].n_unique()
        assert night.facts["users"] == users
        rankings = pl.concat(
            pl.read_parquet(file, glob=False) for file in sorted(Path(night.facts["attempt"]).glob("shard-*.parquet"))
        )
        known = pl.select(IDS[odd.ids](pl.int_range(N_ITEMS) + 100)).to_series()
        assert rankings["user_id"].n_unique() == users
        assert set(rankings["item_id"].cast(pl.String)) <= {said.removesuffix(".0") for said in _as_text(known)}

    return test


def _as_text(ids):
    return (ids if ids.dtype == pl.String else ids.cast(pl.String)).to_list()


test_check_ends_as_the_truth_says = check_of_any(30)
test_check_ends_as_the_truth_says_of_many = pytest.mark.slow(check_of_any(300))
test_a_night_of_many_projects_ranks_their_items = pytest.mark.slow(night_of_any(30))
