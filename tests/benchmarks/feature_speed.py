"""Features at scale: against DuckDB, against pandas, and the night against folding everything.

    python tests/benchmarks/feature_speed.py [--to FOLDER] [--runs 3]        # 10 million events
    python tests/benchmarks/feature_speed.py --incremental                   # one new day on 180 days
    python tests/benchmarks/feature_speed.py --events 1_000_000              # a quick look

A skewed log of 180 days (`feature_data.py`; 100,000 users and 50,000 items at 10 million events) is written to
Parquet, a file a day, with 2 million candidate rows: 10,000 requests of the last 28 days times 200 items. Features of
the families user, item and pair are then made from the same files, Parquet in and Parquet out (zstd), each run in a
process of its own, with the same number of threads and the same memory limit:

- ours, as a command makes them: the tables read and held against their contracts
  (`pipelines.inputs.check.read_inputs`), and the families asked a thousand requests at a time (`FeatureSet`);
- set-based SQL in DuckDB (`features_duckdb.py`), runs alternating with ours;
- straightforward pandas (`features_pandas.py`), one as-of day after the other, on a tenth of the events and rows,
  against ours on that tenth; and pandas at once, written the way of the SQL, for comparison.

All make the same 71 columns (counts by event type, gaps, decay, shares, ...), and must agree in every value of every
column: to six digits, but for decayed counts, which ours adds up in whole 1/65536ths and the others as floats, to that
step an event. Our peak must keep the limit. Seconds are those of the job without the import of libraries; processor
seconds and peaks are those of the whole process, as the kernel counts them.

`--incremental` reads the tables as a night does: all 180 days at once, and the last day when 179 are known.

DuckDB and pandas are no dependencies: they run in the environment whose Python BENCH_PYTHON names, or in one that is
made below `--to`.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import yaml
from feature_data import Size, write_day, write_tables

HERE = Path(__file__).resolve().parent
OURS = (sys.executable, "-P", __file__)  # -P: or this file would stand for the package of its name
THREADS = 2
MAX_MEMORY_GB = 4.0
PACKAGES = ("duckdb", "pandas", "pyarrow")
TOLERANCE = 1e-6
DECAY_STEP = 1 / 65536  # of an event's weight in a decayed count of ours, and the least there is
INCREMENTAL_BAR = 20.0
DUCKDB_BAR, PANDAS_BAR = 1.0, 10.0
FAMILIES = ("user", "item", "pair")
PORTION_ROWS = 200_000  # of a thousand requests, as commands ask
INPUT_COLUMNS = ("row", "user_id", "item_id", "as_of")


def main() -> int:
    """Run what was asked for; the exit status says whether its bars were reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path(tempfile.gettempdir()) / "nightrank-bench-features")
    parser.add_argument("--events", type=lambda text: int(text.replace("_", "")), default=Size.events)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--incremental", action="store_true")
    parser.add_argument("--job", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        measured = {"ours": ours, "read": read}[arguments.job[0]](Path(arguments.job[1]))
        sys.stdout.write(json.dumps(measured) + "\n")
        return 0
    size = sized(arguments.events)
    folder = write_tables(arguments.to / f"{size.events}", size)
    if arguments.incremental:
        bars = incremental(folder, size, arguments.runs)
    else:
        bars = compared(arguments.to, folder, size, arguments.runs)
    for name, reached in bars.items():
        say(f"{'reached' if reached else 'MISSED '}  {name}")
    return 0 if all(bars.values()) else 1


def sized(events: int) -> Size:
    """Users, items and requests as of 10 million events; fewer of all for a quick look."""
    share = min(1.0, events / Size.events)
    whole = Size()
    return replace(
        whole,
        events=events,
        users=int(whole.users * share),
        items=int(whole.items * share),
        requests=int(whole.requests * share),
    )


def compared(root: Path, folder: Path, size: Size, runs: int) -> dict[str, bool]:
    """Ours, DuckDB and pandas, alternating."""
    python = bench_python(root)
    tenth = write_tables(
        root / f"{size.events}-tenth", replace(size, events=size.events // 10, requests=size.requests // 10)
    )
    spill = root / "spill"
    limits = [str(THREADS), str(MAX_MEMORY_GB), str(spill)]
    jobs = {
        "ours": [*OURS, "--job", "ours", str(folder)],
        "DuckDB": [python, str(HERE / "features_duckdb.py"), *tables(folder, "duckdb"), *limits],
        "ours, a tenth": [*OURS, "--job", "ours", str(tenth)],
        "pandas, a tenth": [python, str(HERE / "features_pandas.py"), *tables(tenth, "pandas"), "by-day"],
        "pandas at once": [python, str(HERE / "features_pandas.py"), *tables(tenth, "pandas-at-once"), "at-once"],
    }
    ran: dict[str, list[Ran]] = {name: [] for name in jobs}
    for _ in range(runs):
        for name, job in jobs.items():
            ran[name].append(run(job))
    shutil.rmtree(spill, ignore_errors=True)
    medians = {name: statistics.median([one.seconds for one in all_]) for name, all_ in ran.items()}
    processor = {name: statistics.median([one.processor for one in all_]) for name, all_ in ran.items()}
    peaks = {name: max(one.peak for one in all_) for name, all_ in ran.items()}
    for name, all_ in ran.items():
        spread = ", ".join(f"{second:.2f}" for second in sorted(one.seconds for one in all_))
        say(
            f"{name:<16} median {medians[name]:7.2f} s of {spread}; processor {processor[name]:.2f} s; "
            f"peak {peaks[name]:.2f} GiB"
        )
    say(f"DuckDB takes {processor['DuckDB'] / processor['ours']:.2f} times our processor time")
    agree(folder, "duckdb")
    agree(tenth, "pandas")
    agree(tenth, "pandas-at-once")
    say(f"pandas at once takes {medians['pandas at once'] / medians['ours, a tenth']:.1f} times our time on a tenth")
    of_pandas = medians["pandas, a tenth"] / medians["ours, a tenth"]
    of_duckdb = medians["DuckDB"] / medians["ours"]
    return {
        f"DuckDB takes {of_duckdb:.2f} times our time, at least {DUCKDB_BAR}": of_duckdb >= DUCKDB_BAR,
        f"pandas takes {of_pandas:.1f} times our time on a tenth, at least {PANDAS_BAR}": of_pandas >= PANDAS_BAR,
        f"peak {peaks['ours']:.2f} GiB below {MAX_MEMORY_GB}": peaks["ours"] < MAX_MEMORY_GB,
    }


def incremental(folder: Path, size: Size, runs: int) -> dict[str, bool]:
    """One new day on all days but the last against all days at once."""
    out = configure(folder).parent / "out"
    newest = max((folder / "events").iterdir())
    ran: dict[str, list[Ran]] = {"all": [], "one": []}
    for _ in range(runs):
        shutil.rmtree(out, ignore_errors=True)
        newest.unlink(missing_ok=True)
        run([*OURS, "--job", "read", str(folder)])
        write_day(folder, size, size.days - 1)
        ran["one"].append(run([*OURS, "--job", "read", str(folder)]))
        shutil.rmtree(out)
        ran["all"].append(run([*OURS, "--job", "read", str(folder)]))
    if ran["one"][-1].printed["digest"] != ran["all"][-1].printed["digest"]:
        raise SystemExit("the logs differ")
    one, whole = (statistics.median([each.seconds for each in ran[name]]) for name in ("one", "all"))
    say(f"one new day {one:.3f} s, all {size.days} days {whole:.2f} s; peak of all {ran['all'][-1].peak:.2f} GiB")
    return {
        f"one day is {whole / one:.0f} times cheaper than all, at least {INCREMENTAL_BAR}": whole / one
        >= INCREMENTAL_BAR
    }


def ours(folder: Path) -> dict[str, float]:
    """The feature table by nightrank."""
    from features.families.registry import FeatureSet
    from features.log.codes import Codes
    from pipelines.base.config import load_config
    from pipelines.inputs.check import read_inputs
    from pipelines.stores.storage import write_parquet
    from pipelines.training.feature_plan import plan_of

    config, out = load_config(configure(folder)), folder / "ours"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    start = time.perf_counter()
    log = read_inputs(config).log
    families = FeatureSet(log, plan_of(log, config))
    rows = pl.read_parquet(folder / "rows.parquet").with_row_index("row")
    coded = pl.DataFrame(
        {
            "user": Codes.of(log.user_ids).code(rows["user_id"]),
            "item": Codes.of(log.items["item_id"]).code(rows["item_id"]),
            "as_of_day": log.calendar.days(rows["as_of"]),
        }
    )
    for number, first in enumerate(range(0, rows.height, PORTION_ROWS)):
        columns = families.compute(coded.slice(first, PORTION_ROWS))
        table = pl.concat([rows.slice(first, PORTION_ROWS), columns], how="horizontal")
        write_parquet(table, out / f"{number:05d}.parquet")
    return {"seconds": time.perf_counter() - start}


def read(folder: Path) -> dict[str, object]:
    """The log as a night reads it."""
    import hashlib

    from pipelines.base.config import load_config
    from pipelines.inputs.read import read_night

    config = load_config(configure(folder))
    start = time.perf_counter()
    log = read_night(config).log
    seconds = time.perf_counter() - start
    digest = hashlib.sha256(log.cells.cells.tobytes() + log.cells.counts.tobytes()).hexdigest()
    return {"seconds": seconds, "digest": digest}


def configure(folder: Path) -> Path:
    """The configuration of a project over the tables of a folder, below it."""
    path = folder / "project" / "nightrank.yaml"
    path.parent.mkdir(exist_ok=True)
    data = {"items": {"path": str(folder / "items.parquet")}, "events": {"path": str(folder / "events")}}
    path.write_text(yaml.safe_dump({"data": data, "features": {"families": list(FAMILIES)}}))
    return path


def tables(folder: Path, name: str) -> list[str]:
    """Arguments that name the tables."""
    return [str(folder / "events"), str(folder / "rows.parquet"), str(folder / f"{name}.parquet")]


@dataclass(frozen=True)
class Ran:
    """A process that ended well.

    Attributes:
        printed: What it printed last.
        processor: Seconds of processor time, imports included.
        peak: Largest resident set, in GiB.
    """

    printed: dict[str, object]
    processor: float
    peak: float

    @property
    def seconds(self) -> float:
        """Of its work, by the clock."""
        return float(self.printed["seconds"])


def run(command: list[str]) -> Ran:
    """Run a process to its end."""
    environment = {**os.environ, "POLARS_MAX_THREADS": str(THREADS), "PYTHONPATH": f"{HERE.parent.parent}:{HERE}"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        out, err = process.stdout.read(), process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(err.decode()[-2000:])
    printed = json.loads(out.splitlines()[-1])
    return Ran(
        printed if isinstance(printed, dict) else {"seconds": printed},
        used.ru_utime + used.ru_stime,
        used.ru_maxrss / 2**20,
    )


def agree(folder: Path, name: str) -> None:
    """Stop where the other table has other columns, or a value that differs.

    NaN is null, and quotients may differ in the last bit of a float.
    """
    mine = pl.read_parquet(folder / "ours" / "*.parquet").sort("row")
    other = pl.read_parquet(folder / f"{name}.parquet").sort("row").fill_null(float("nan"))
    columns = [column for column in mine.columns if column not in INPUT_COLUMNS]
    if set(columns) != set(other.columns) - {"row"} or not mine["row"].equals(other["row"].cast(mine["row"].dtype)):
        raise SystemExit(f"{name}: another table")
    for column in columns:
        one, two = mine[column].cast(pl.Float64), other[column].cast(pl.Float64)
        steps = DECAY_STEP * mine["item_events_all"].cast(pl.Float64) * column.startswith("item_decayed_")
        near = ((one - two).abs() <= TOLERANCE * two.abs() + steps) | (one.is_nan() & two.is_nan())
        if not near.all():
            raise SystemExit(f"{name}: {column} differs in {(~near).sum()} of {mine.height} rows")
    say(f"{name} agrees in all {len(columns)} columns of {mine.height} rows")


def bench_python(root: Path) -> str:
    """Python of an environment that has DuckDB and pandas."""
    if named := os.environ.get("BENCH_PYTHON"):
        return named
    folder = root / "venv"
    if not (folder / "done").exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        (folder / "done").touch()
    return str(folder / "bin" / "python")


def say(text: str) -> None:
    """Tell on stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
