"""The benchmarks' scoreboard: what is run, what is kept, what is counted, and what the README's table says of it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scoreboard import (
    BENCHMARKS,
    RESULTS,
    Benchmark,
    Outcome,
    Results,
    main,
    markdown,
    refuse_missed,
    run_quality,
    seeds_of,
)

from features.errors import BlockedError, ConfigError, IntegrityError

BENCHMARKS_FOLDER = Path(__file__).resolve().parent
ROOT = BENCHMARKS_FOLDER.parents[1]
SCRIPT = """
import json, sys, time
from pathlib import Path

here = Path(__file__).parent
data, seed = sys.argv[1], int(sys.argv[sys.argv.index("--seed") + 1])
told = json.loads((here / f"{data}.json").read_text())
line = {"data": data, "seed": seed, "validate": "--validate" in sys.argv}
line |= {"config": told["config"], "data_sha256": told["sha"]}
if "--plan" not in sys.argv:
    with (here / "ran").open("a") as ran:
        ran.write(f"{data} {seed}\\n")
    while (here / f"wait {seed}").exists():
        time.sleep(0.02)
    mean = told["means"][seed]
    line |= {
        "figures": {
            "ours, ndcg@10": {"mean": mean, "low": mean - 0.1, "high": mean + 0.2},
            "theirs, ndcg@10": {"mean": 0.1, "low": None, "high": None},
        },
        "paired": {"ours over theirs, ndcg@10": {"difference": mean - 0.1, "low": mean - 0.2, "high": 0.5}},
        "bars": {"ours, ndcg@10 >= 0.3": mean >= 0.3, "ours over theirs, ndcg@10 > 0": mean > 0.2},
        "seconds": 1.5,
        "peak_gib": 0.25,
    } | told.get("instead", {})
print("words before the result")
print(told.get("line") or json.dumps(line))
sys.exit(told.get("status", 0))
"""


class Bench:
    """Benchmarks that say what they are told to say, and note when they ran."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.results = folder / "scripts", folder / "results"
        self.folder.mkdir()
        (self.folder / "says.py").write_text(SCRIPT, encoding="utf-8")
        self.benchmarks = tuple(Benchmark(name, name.title(), "says.py", (name,), local=False) for name in ("a", "b"))
        for name in "ab":
            self.say(name)

    def say(self, name: str, **changes) -> None:
        result = {"config": {"trees": 10, "rate": [0.5]}, "sha": "d0", "means": [0.25, 0.5, 0.75]} | changes
        (self.folder / f"{name}.json").write_text(json.dumps(result), encoding="utf-8")

    def run(self, *chosen: str, seeds=(0,), **options):
        return run_quality(
            chosen or ("a",), seeds, self.results, benchmarks=self.benchmarks, scripts=self.folder, **options
        )

    @property
    def ran(self) -> list[str]:
        log = self.folder / "ran"
        return log.read_text(encoding="utf-8").splitlines() if log.exists() else []

    @property
    def file(self) -> Results:
        return Results.read(self.results / RESULTS)

    def table(self) -> list[str]:
        return markdown(self.file, self.benchmarks).splitlines()[2:]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_each_data_set_and_seed_is_run_once_and_kept(bench):
    facts = bench.run("a", "b", seeds=(0, 1))
    assert bench.ran == ["a 0", "a 1", "b 0", "b 1"]
    assert (facts["ran"], facts["test_scorings"], facts["failed"]) == (4, {"a": 2, "b": 2}, [])
    content = (bench.results / RESULTS).read_bytes()
    assert bench.run("a", "b", seeds=(1, 0))["ran"] == 0
    assert len(bench.ran) == 4
    assert (bench.results / RESULTS).read_bytes() == content
    bench.run("a", seeds=(0, 1, 2))
    assert bench.ran[4:] == ["a 2"]


def test_a_run_says_where_it_was_made(bench):
    bench.run()
    (run,) = bench.file.last("a").runs
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    assert (run.commit or "").removesuffix("-dirty") == head.stdout.strip()
    assert run.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"polars", "lightgbm", "torch"} <= set(run.versions)
    assert run.hardware["cores"] == os.cpu_count()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", run.finished)


def test_figures_over_seeds_are_means_with_the_least_and_the_largest(bench):
    bench.run(seeds=(0, 1, 2))
    series = bench.file.last("a")
    ndcg = series.over_seeds()["ours, ndcg@10"]
    assert ndcg == pytest.approx({"mean": 0.5, "low": 0.4, "high": 0.7, "least": 0.25, "most": 0.75})
    assert series.over_seeds()["theirs, ndcg@10"] == {"mean": 0.1, "low": None, "high": None, "least": 0.1, "most": 0.1}
    assert series.reached() == {"ours, ndcg@10 >= 0.3": [1, 2], "ours over theirs, ndcg@10 > 0": [0, 1, 2]}
    kept = json.loads((bench.results / RESULTS).read_text(encoding="utf-8"))["series"][0]
    assert kept["over_seeds"] == series.over_seeds()


def test_the_first_scoring_counts_and_every_scoring_is_counted(bench):
    bench.run(seeds=(0, 1))
    before = bench.table()
    bench.say("a", means=[0.9, 0.9, 0.9])
    facts = bench.run(again=True)
    assert facts["test_scorings"] == {"a": 3}
    series = bench.file.last("a")
    assert [(run.seed, run.scoring) for run in series.runs] == [(0, 1), (1, 2), (0, 3)]
    assert [run.figures["ours, ndcg@10"].mean for run in series.first] == [0.25, 0.5]
    assert [row.replace("3x", "2x") for row in bench.table()] == before
    assert facts["missed"] == ["a, ours, ndcg@10 >= 0.3"]  # that of the first


@pytest.mark.parametrize("changed", [{"config": {"trees": 11, "rate": [0.5]}}, {"sha": "d1"}])
def test_another_configuration_or_other_data_are_scored_and_the_count_goes_on(bench, changed):
    bench.run()
    bench.say("a", means=[0.5, 0.5, 0.5], **changed)
    assert bench.run()["test_scorings"] == {"a": 2}
    assert [run.scoring for run in bench.file.last("a").runs] == [2]
    assert "0.5000 [0.4000, 0.7000]" in bench.table()[1]
    bench.say("a")  # as it was: nothing runs, and it is what is asked for again
    assert bench.run()["ran"] == 0
    assert "0.2500 [0.1500, 0.4500]" in bench.table()[1]
    assert "2x" in bench.table()[1]


def test_validation_scores_no_test(bench):
    facts = bench.run(validate=True)
    assert (facts["ran"], facts["test_scorings"]) == (1, {"a": 0})
    assert bench.file.last("a") is None
    assert bench.file.scorings("a", validation=True) == 1
    bench.run()
    assert bench.ran == ["a 0", "a 0"]


@pytest.mark.slow
def test_a_killed_verb_loses_the_run_under_way_alone(bench):
    (bench.folder / "wait 1").touch()
    code = (
        "import sys; from pathlib import Path; "
        f"sys.path.insert(0, {str(BENCHMARKS_FOLDER)!r}); from scoreboard import Benchmark, run_quality; "
        f"run_quality(('a',), (0, 1, 2), Path({str(bench.results)!r}), scripts=Path({str(bench.folder)!r}), "
        "benchmarks=(Benchmark('a', 'A', 'says.py', ('a',), local=False),))"
    )
    verb = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL)
    patience = time.monotonic() + 120
    while "a 1" not in bench.ran and time.monotonic() < patience:
        time.sleep(0.02)
    os.killpg(verb.pid, signal.SIGKILL)
    verb.wait()
    assert bench.ran == ["a 0", "a 1"]
    assert [run.seed for run in bench.file.last("a").runs] == [0]
    (bench.folder / "wait 1").unlink()
    assert bench.run(seeds=(0, 1, 2))["ran"] == 2
    assert bench.ran[2:] == ["a 1", "a 2"]
    assert bench.file.scorings("a") == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": 3}, "a: says.py, seed 0, ended with 3"),
        ({"line": "Traceback"}, "printed another last line than expected: the line: Invalid JSON"),
        ({"instead": {"bars": {}}}, "bars: Dictionary should have at least 1 item"),
        ({"instead": {"seed": 7}}, "told of a, seed 7"),
        ({"instead": {"data_sha256": "d1"}}, "another configuration or data than it had planned"),
        ({"instead": {"figures": {"ours": {"mean": "high", "low": None, "high": None}}}}, "figures.ours.mean"),
        ({"instead": {"extra": 1}}, "extra: Extra inputs are not permitted"),
    ],
)
def test_a_script_without_a_right_last_line_is_passed_over_and_named(bench, changes, message):
    bench.say("a", **changes)
    facts = bench.run("a", "b")
    assert (facts["ran"], facts["test_scorings"]) == (1, {"a": 0, "b": 1})
    assert message in facts["failed"][0]
    with pytest.raises(BlockedError, match=re.escape(message)):
        refuse_missed(facts)


def test_a_missed_bar_is_a_result_and_refused(bench):
    bench.say("a", status=1)
    facts = bench.run(seeds=(0, 1))
    assert facts["ran"] == 2
    assert facts["missed"] == ["a, ours, ndcg@10 >= 0.3"]  # by seed 0
    with pytest.raises(BlockedError, match=r"1 bars were missed, 0 benchmarks failed") as refused:
        refuse_missed(facts)
    assert refused.value.exit_code == 11
    refuse_missed(bench.run(seeds=(1,)))  # seed 1 reached all


def test_a_script_that_ends_without_a_word_is_named(bench):
    (bench.folder / "says.py").write_text("import sys; sys.exit(1)", encoding="utf-8")
    assert "ended with 1 and no result" in bench.run()["failed"][0]


def test_what_cannot_run_is_refused_at_once_with_the_remedy(bench, monkeypatch):
    monkeypatch.delenv("NIGHTRANK_DATA", raising=False)
    bench.benchmarks = (*bench.benchmarks, Benchmark("c", "C", "lost.py"))
    with pytest.raises(ConfigError) as refused:
        bench.run("a", "c", "d")
    for part in (
        "unknown 'd'. There are 'a', 'b', 'c'",
        "'c' need NIGHTRANK_DATA",
        "--data a --data b",
        "no 'lost.py' in",
    ):
        assert part in str(refused.value)
    assert bench.ran == []


def test_a_broken_results_file_is_named_before_anything_runs(bench):
    bench.results.mkdir()
    (bench.results / RESULTS).write_text('{"series": [{"data": "a"}]}', encoding="utf-8")
    with pytest.raises(IntegrityError, match=r"series\.0\.validate: Field required"):
        bench.run()
    assert bench.ran == []


def test_the_table_has_a_row_a_bar_and_names_what_was_not_run(bench):
    bench.run(seeds=(0, 1, 2))
    assert bench.table() == [
        "| A | ours over theirs, ndcg@10 > 0 | 0.4000 [0.3000, 0.5000] | 0.1500 to 0.6500 | 3 of 3 seeds | 3x |",
        "| A | ours, ndcg@10 >= 0.3 | 0.5000 [0.4000, 0.7000] | 0.2500 to 0.7500 | 2 of 3 seeds | 3x |",
        "| B | not run yet | | | | |",
    ]


def test_seeds_are_numbers_each_once():
    assert seeds_of("2, 0,2") == [2, 0]
    for wrong in ("", "0,", "-1", "a"):
        with pytest.raises(ConfigError, match="--seeds"):
            seeds_of(wrong)


def test_every_benchmark_has_its_script():
    assert all((BENCHMARKS_FOLDER / benchmark.script).is_file() for benchmark in BENCHMARKS)
    assert len({benchmark.data for benchmark in BENCHMARKS}) == len(BENCHMARKS)


def test_what_the_benchmarks_print_is_what_the_verb_reads(bench):
    script = f"""
import sys
sys.path.insert(0, {str(BENCHMARKS_FOLDER)!r})
import numpy as np
from outcome import Trial, changes, command_line, measured

arguments = command_line(None).parse_args()
trial = Trial.start(arguments, data="a", config=changes(["trees=3"]), data_sha256="d0")
found = {{"ours": np.array([1.0, 0.5, 0.75]), "theirs": np.array([0.5, 0.0, 0.25])}}
figures, pairs = measured(found, np.arange(3), "ndcg@10")
least, above_zero = {{"ours, ndcg@10": 0.76}}, ["ours over theirs, ndcg@10"]
sys.exit(trial.conclude(figures, pairs, least=least, above_zero=above_zero, others={{"theirs, low": True}}))
"""
    (bench.folder / "says.py").write_text(script, encoding="utf-8")
    bench.benchmarks = (Benchmark("a", "A", "says.py", local=False),)
    facts = bench.run()
    assert (facts["failed"], facts["missed"]) == ([], ["a, ours, ndcg@10 >= 0.76"])
    series = bench.file.last("a")
    assert series.config == {"trees": 3}
    (run,) = series.runs
    assert (run.figures["ours, ndcg@10"].mean, run.figures["theirs, ndcg@10"].mean) == (0.75, 0.25)
    gap = run.paired["ours over theirs, ndcg@10"]
    assert (gap.difference, gap.low, gap.high) == (0.5, 0.5, 0.5)
    assert run.bars == {"ours, ndcg@10 >= 0.76": False, "ours over theirs, ndcg@10 > 0": True, "theirs, low": True}


def test_the_readmes_show_the_results_file():
    path = BENCHMARKS_FOLDER / "results" / RESULTS
    readmes = [(folder / "README.md").read_text(encoding="utf-8") for folder in (BENCHMARKS_FOLDER, ROOT)]
    shown = re.findall(r"<!-- quality -->\n(.*?)<!-- /quality -->", "".join(readmes), flags=re.DOTALL)
    results = Results.read(path)
    assert shown
    assert set(shown) == {markdown(results)}
    assert {series.data for series in results.series} <= {benchmark.data for benchmark in BENCHMARKS}


def test_the_results_file_holds_what_its_runs_come_to(tmp_path):
    path = BENCHMARKS_FOLDER / "results" / RESULTS
    Results.read(path).write(tmp_path / RESULTS)
    assert (tmp_path / RESULTS).read_bytes() == path.read_bytes()


def test_the_table_is_printed_without_running_anything(capsys, tmp_path):
    assert main(["--table", "--to", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed == markdown(Results())
    assert printed.count("not run yet") == len(BENCHMARKS)


@pytest.mark.parametrize("arguments", [("--seeds", "one"), ("--data", "nothing-like-it")])
def test_wrong_words_end_with_2(capsys, arguments, tmp_path):
    assert main(["--to", str(tmp_path), *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert arguments[1] in printed.err


def test_an_outcome_is_of_one_shape():
    assert set(Outcome.model_json_schema(by_alias=True)["required"]) == {
        *("data", "seed", "validate", "config", "data_sha256", "figures", "paired", "bars", "seconds", "peak_gib")
    }
