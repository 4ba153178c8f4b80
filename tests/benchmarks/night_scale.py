"""A night from tables to published shards, for ever more users of one simulated shop, by one trained version.

    python tests/benchmarks/night_scale.py [--users 10_000 100_000 1_000_000] [--to FOLDER] [--first USERS]

Each user has about 20 events in 112 days and gets the best of 100 candidates. The version is trained once, on the
smallest number of users, and scores all logs: ids are what they are, and items the same. Each night is a process of
two threads that runs `nightrank score` with nothing kept from before; generating and training are not counted, and kept
in the folder that `--to` or NIGHTRANK_BENCH names.

After some of the portions the same booster predicts the same rows from a ready float32 matrix: bare `Booster.predict`,
alternating with the product, and not counted as the night's. The bars: time a user within 1.3x from the fewest users to
the most; for a million at most 6 GB and 60 minutes; rows a second at least 20 % of bare prediction's.

The product makes a portion's candidates and features in a thread of its own while the portion before is scored. Stages
are those of the main thread: there `ranking` holds the waiting for that thread, and its processor time is charged to
the stage that runs beside.

`--first` takes a quick look: of a whole log only so many users are ranked, and what a whole night would take is
reckoned from what they took. `--profile` keeps cProfile's statistics beside each project.
"""

import argparse
import cProfile
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
from large_shop import LargeShop, write_project
from processes import kept_in, run
from product_stages import BARE, Bare, time_product
from stages import Stages, by_stage

from pipelines.stores.storage import read_json

SHOP = LargeShop()
SETTINGS: dict[str, object] = {
    "candidates": {"max_per_request": 100},
    "timeline": {"test_days": 2, "valid_days": 2, "ranker_days": 4, "blocks": 1},
    "encoder": {"head_steps": 20, "steps": 5},
    "output": "out",
}
ONCE = ("reading", "encoding", "fits", "other")
"""Stages that take as long however many users are ranked."""
MILLION, MOST_BYTES, MOST_SECONDS = 1_000_000, 6e9, 3600
GROWTH, BAR, AIM = 1.3, 0.2, 0.35
BARE_EVERY = 4  # portions


def main() -> int:
    """Run each number of users; the exit status says whether the bars were reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=kept_in("night"))
    parser.add_argument("--users", type=whole, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--first", type=whole, help="rank only so many users of each log")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        sys.stdout.write(json.dumps(job(arguments.job, arguments.first, profile=arguments.profile)) + "\n")
        return 0
    sizes = sorted(arguments.users)
    trained = trained_project(arguments.to, sizes[0])
    nights = {}
    for users in sizes:
        config = write_project(SHOP, arguments.to, users, SETTINGS)
        give_version(trained.parent, config.parent)
        options = ["--profile"] if arguments.profile else []
        options += ["--first", str(arguments.first)] if arguments.first else []
        nights[users] = run([sys.executable, "-P", __file__, "--job", str(config), *options])
        sys.stderr.write("\n".join(night_lines(users, nights[users])) + "\n")
    bars = judged(nights)
    for bar, reached in bars.items():
        sys.stderr.write(f"{'reached' if reached else 'MISSED '}  {bar}\n")
    sys.stdout.write(json.dumps({"nights": nights, "bars": bars}) + "\n")
    return 0 if all(bars.values()) else 1


def whole(text: str) -> int:
    """A whole number, perhaps with underscores."""
    return int(text.replace("_", ""))


def trained_project(folder: Path, users: int) -> Path:
    """The configuration of the project whose version scores all; trained unless it is."""
    config = write_project(SHOP, folder, users, SETTINGS)
    if not (config.parent / "trained.json").exists():
        shutil.rmtree(config.parent / "out", ignore_errors=True)
        output = run([sys.executable, "-m", "pipelines.cli.app", "train", "--config", str(config)])
        (config.parent / "trained.json").write_text(json.dumps(output), encoding="utf-8")
    return config


def give_version(trained: Path, project: Path) -> None:
    """A project's output is the version and its vectors; of earlier nights it has nothing."""
    if project != trained:
        shutil.rmtree(project / "out", ignore_errors=True)
        shutil.copytree(trained / "out", project / "out", ignore=shutil.ignore_patterns("state", "rankings"))
    for made in ("state", "rankings"):
        shutil.rmtree(project / "out" / made, ignore_errors=True)


def job(config: Path, first: int | None, *, profile: bool) -> dict[str, Any]:
    """One night, in this process."""
    import pipelines.verbs.score
    from pipelines.cli.app import app

    of_all: Callable[..., pl.Series] = pipelines.verbs.score._users
    if first is not None:
        pipelines.verbs.score._users = lambda *arguments: of_all(*arguments).head(first)
    stages, bare = Stages(), Bare(every=BARE_EVERY)
    time_product(stages)
    bare.follow(stages)
    arguments = ["score", "--config", str(config), "--date", f"{SHOP.night}", "--version", "challenger"]
    profiler = cProfile.Profile()
    with stages.running():
        if profile:
            profiler.runcall(app, arguments, standalone_mode=False)
            profiler.dump_stats(config.parent / "night.prof")
        else:
            app(arguments, standalone_mode=False)
    ranked = read_json(next((config.parent / "out/rankings").rglob("manifest.json")), what="rankings")["users"]
    facts = {
        "ranked": ranked,
        "rows": bare.scored,
        "bare_rows": bare.rows,
        "bare_seconds": bare.seconds,
        "model": bare.model,
    }
    return {**stages.facts(), **facts, "bare_cpu_seconds": bare.cpu_seconds}


def figures(users: int, night: Mapping[str, Any]) -> dict[str, float]:
    """What a night's line of JSON comes to; the benchmark's own share of its time is left out."""
    own = {name: of for name, of in by_stage(night["spent"]).items() if name != BARE}
    part = users / night["ranked"]
    seconds, cpu = (
        sum(of[key] * (1 if name in ONCE else part) for name, of in own.items()) for key in ("seconds", "cpu_seconds")
    )
    rows = night["rows"] * part
    bare, bare_cpu = (night["bare_rows"] / max(night[f"bare_{key}"], 1e-9) for key in ("seconds", "cpu_seconds"))
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "ms_a_user": 1000 * seconds / users,
        "cpu_ms_a_user": 1000 * cpu / users,
        "rows_a_second": rows / seconds,
        "share_of_bare": rows / seconds / bare,
        "cpu_share_of_bare": rows / cpu / bare_cpu,
        "peak_rss": night["peak_rss"],
        "peak_anon": max(of["peak_anon"] for of in own.values()),
    }


def night_lines(users: int, night: Mapping[str, Any]) -> list[str]:
    """A night for people: its figures, its stages, and the parts of them."""
    measured = figures(users, night)
    few = "" if night["ranked"] == users else f" (reckoned from {night['ranked']} of them)"
    words = (
        f"{users} users{few}: {measured['seconds']:.1f} s, {measured['cpu_seconds']:.1f} processor s; "
        f"{measured['ms_a_user']:.2f} ms a user, {measured['cpu_ms_a_user']:.2f} processor ms; "
        f"{measured['rows_a_second']:.0f} rows/s, {measured['share_of_bare']:.1%} of bare predict "
        f"({measured['cpu_share_of_bare']:.1%} by processor time) of {night['model']}; "
        f"peak {measured['peak_rss'] / 1e9:.2f} GB, anonymous {measured['peak_anon'] / 1e9:.2f} GB"
    )
    lines, stages = [words], by_stage(night["spent"])
    for stage, of in sorted(stages.items(), key=lambda pair: -pair[1]["seconds"]):
        lines.append(spent_line(stage, of, night["ranked"]))
        parts = [(name, part) for name, part in night["spent"].items() if name.partition("/")[0] == stage]
        if len(parts) > 1:
            parts.sort(key=lambda pair: -pair[1]["seconds"])
            lines += [spent_line(f"  {name}", part, night["ranked"]) for name, part in parts]
    if night["missing"]:
        lines.append(f"not timed, since they are not there: {', '.join(night['missing'])}")
    return lines


def spent_line(name: str, of: Mapping[str, float], users: int) -> str:
    """What a stage took."""
    return (
        f"  {name:44} {of['seconds']:9.2f} s {of['cpu_seconds']:9.2f} processor s "
        f"{1000 * of['seconds'] / users:8.3f} ms a user {of['calls']:7.0f} calls  "
        f"RSS {of['peak_rss'] / 1e9:5.2f} GB, anonymous {of['peak_anon'] / 1e9:5.2f} GB"
    )


def judged(nights: Mapping[int, Mapping[str, Any]]) -> dict[str, bool]:
    """Which bars were reached, by what they say; those of a million users only where they were scored."""
    measured = {users: figures(users, night) for users, night in nights.items()}
    few, many = min(measured), max(measured)
    growth = measured[many]["ms_a_user"] / measured[few]["ms_a_user"]
    share = min(of["share_of_bare"] for of in measured.values())
    bars = {f"{share:.1%} of bare predict >= {BAR:.0%} (aim {AIM:.0%})": share >= BAR}
    if many > few:
        bars[f"time a user from {few} to {many} users: {growth:.2f}x <= {GROWTH}x"] = growth <= GROWTH
    if many >= MILLION:
        seconds, peak = measured[many]["seconds"], measured[many]["peak_rss"]
        bars[f"{many} users in {seconds / 60:.1f} minutes <= {MOST_SECONDS / 60:.0f}"] = seconds <= MOST_SECONDS
        bars[f"{many} users in {peak / 1e9:.2f} GB <= {MOST_BYTES / 1e9:.0f} GB"] = peak <= MOST_BYTES
    return bars


if __name__ == "__main__":
    sys.exit(main())
