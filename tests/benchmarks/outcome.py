"""What the benchmarks of quality share: their command line, and the one line of JSON that each prints last."""

import argparse
import hashlib
import math
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy.typing as npt
import polars as pl
import yaml
from scoreboard import Difference, Figure, Outcome, Setup

from pipelines.inputs.tables import fingerprint_of
from pipelines.stores.storage import sha256_of
from ranker.compare import clustered_interval, paired_difference

_START = time.monotonic()
_DIGITS = 6


def command_line(doc: str | None) -> argparse.ArgumentParser:
    """The options of every benchmark.

    Args:
        doc: What `--help` says.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--validate", action="store_true", help="score a validation cut in place of the test")
    parser.add_argument("--plan", action="store_true", help="print what would run, and run nothing")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    return parser


def changes(overrides: Sequence[str]) -> dict[str, Any]:
    """The values of `--set`, by key."""
    return {key: yaml.safe_load(value) for key, _, value in (override.partition("=") for override in overrides)}


def data_root() -> Path:
    """The folder of the data sets, which NIGHTRANK_DATA names."""
    root = os.environ.get("NIGHTRANK_DATA")
    if not root:
        sys.exit("NIGHTRANK_DATA must name the folder of the data sets.")
    return Path(root)


def files_sha256(folder: Path) -> str:
    """Of the names and contents of a folder's files."""
    return fingerprint_of([(file.name, sha256_of(file)) for file in sorted(folder.iterdir())])


def tables_sha256(*tables: pl.DataFrame) -> str:
    """Of tables' names of columns and rows, whatever file they came from."""
    digest = hashlib.sha256()
    for table in tables:
        digest.update(table.write_csv().encode())
    return digest.hexdigest()


def measured(
    by_system: Mapping[str, npt.ArrayLike], clusters: npt.NDArray | pl.Series, metric: str
) -> tuple[dict[str, Figure], dict[str, Difference]]:
    """Each system's mean, and the first one's paired difference from each of the others; told as they are found.

    Args:
        by_system: (requests,) values by system.
        clusters: (requests,) the user of each.
        metric: Name of what was measured.
    """
    ours, *others = by_system
    figures, pairs = {}, {}
    for system, values in by_system.items():
        mean = clustered_interval(values, clusters)
        tell(f"{system:30}{metric} {mean.mean:.4f} [{mean.low:.4f}, {mean.high:.4f}]")
        figures[f"{system}, {metric}"] = figure(mean.mean, mean.low, mean.high)
    for other in others:
        name = f"{ours} over {other}, {metric}"
        gap = paired_difference(by_system[ours], by_system[other], clusters).difference
        tell(f"{name}: {gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]")
        pairs[name] = difference(gap.mean, gap.low, gap.high)
    return figures, pairs


def figure(mean: float, low: float | None = None, high: float | None = None) -> Figure:
    """A mean with its interval, if it has one."""
    return Figure(mean=round(mean, _DIGITS), low=_finite(low), high=_finite(high))


def difference(mean: float, low: float | None = None, high: float | None = None) -> Difference:
    """A mean difference with its interval, if it has one."""
    return Difference(difference=round(mean, _DIGITS), low=_finite(low), high=_finite(high))


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, _DIGITS)


@dataclass(frozen=True, slots=True)
class Trial:
    """A benchmark that runs."""

    setup: Setup

    @classmethod
    def start(cls, arguments: argparse.Namespace, *, data: str, config: Mapping[str, Any], data_sha256: str) -> Self:
        """What the command line asks for; told `--plan`, it is printed, and that is all.

        Args:
            arguments: Of `command_line`.
            data: Name of the benchmark.
            config: All that is configured, plain values, without the seed and without this machine's folders.
            data_sha256: Of the content of the data.
        """
        setup = Setup.model_validate(
            {
                "data": data,
                "seed": arguments.seed,
                "validate": arguments.validate,
                "config": config,
                "data_sha256": data_sha256,
            }
        )
        if arguments.plan:
            sys.stdout.write(setup.model_dump_json(by_alias=True) + "\n")
            sys.exit(0)
        return cls(setup)

    def conclude(
        self,
        figures: Mapping[str, Figure],
        pairs: Mapping[str, Difference],
        *,
        least: Mapping[str, float] | None = None,
        above_zero: Sequence[str] = (),
        others: Mapping[str, bool] | None = None,
    ) -> int:
        """Print the bars for people, and the outcome.

        Args:
            figures: By system, slice and metric.
            pairs: Paired differences.
            least: Of figures, what they must reach.
            above_zero: Pairs whose interval must lie above 0.
            others: Bars of another kind; each text begins with the name of its figure or pair.

        Returns:
            The exit status: 0 if all bars were reached, else 1.
        """
        bars = {f"{name} >= {bar:g}": figures[name].mean >= bar for name, bar in (least or {}).items()}
        bars |= {f"{name} > 0": pairs[name].low is not None and pairs[name].low > 0 for name in above_zero}
        bars |= others or {}
        outcome = Outcome(
            **self.setup.model_dump(by_alias=True),
            figures=dict(figures),
            paired=dict(pairs),
            bars=bars,
            seconds=round(time.monotonic() - _START, 1),
            peak_gib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        )
        for bar, reached in bars.items():
            tell(f"{'reached' if reached else 'MISSED '}  {bar}")
        tell(f"{outcome.seconds:.0f} s, at most {outcome.peak_gib:.2f} GiB")
        sys.stdout.write(outcome.model_dump_json(by_alias=True) + "\n")
        return 0 if all(bars.values()) else 1


def tell(line: str) -> None:
    """A line of progress."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
