"""How good the nights of Online Retail turn out, and how well each is estimated before its labels are there.

    NIGHTRANK_DATA=... python tests/benchmarks/nights_replay.py [--to FOLDER] [--past 14] [--nights 30]

A version is trained once on what lies before the first night, with fewer candidates, generators and steps than the
defaults (`CUT`), so that a night takes seconds. Then each trading day's night is scored and published in order, as
`nightrank score` does, and each of the last `--nights` is estimated from the ones before it alone. Three estimates are
compared with the mean of the last 14 nights, by absolute error and by the interval score of Winkler (1972) at 95 %: the
width, and 40 times what lies outside. The bars: all nights publish, and the estimate of `nightrank monitor`, the last
of the three, beats the mean by both. In a folder that `--to` names, nights that are there are not scored again.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np

from features.errors import BlockedError
from pipelines.base.config import Config, load_config
from pipelines.inputs.check import read_inputs
from pipelines.monitor.estimate import Estimate, NightUsers, estimate, mean_of_last
from pipelines.monitor.nights import judged_nights, nights_of
from pipelines.monitor.realised import ALL, Realised
from pipelines.registry.register import register
from pipelines.registry.registry import CHALLENGER, CHAMPION, Registry
from pipelines.registry.tracking import Tracking
from pipelines.registry.versions import load_version
from pipelines.training.train import train
from pipelines.verbs.datasets import load_dataset
from pipelines.verbs.project import write_dataset, write_day
from pipelines.verbs.promote import promote
from pipelines.verbs.score import score

CUT = {
    "timeline": {"test_days": 7, "valid_days": 14, "ranker_days": 42, "blocks": 1},
    "candidates": {
        "max_per_request": 100,
        "ease": 0,
        "similar_users": 0,
        "popular_in_category": 0,
        "next_basket": 50,
        "popular": 60,
        "co_visited": 60,
        "text_neighbours": 0,
        "bought_before": 100,
        "new_arrivals": 10,
    },
    "encoder": {"max_tokens": 16, "train": {"last": 1}, "steps": 10, "head_steps": 40},
    "ranker": {"max_trees": 150, "num_leaves": 15, "network": {"epochs": 1}},
}
"""What is smaller than in the defaults."""
OVERRIDES = ("evaluation.resamples=500", "promotion.min_lift_over_baseline=-1.0", "evaluation.max_requests=500")
ALPHA = 0.05

Estimator = Callable[[Sequence[NightUsers], NightUsers], Estimate | None]


def main() -> int:
    """Replay the nights; the exit status says whether all bars were reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path)
    parser.add_argument("--past", type=int, default=14)
    parser.add_argument("--nights", type=int, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nightrank-nights-") as passing:
        folder = arguments.to or Path(passing)
        days, config, blocked = published_nights(folder, arguments.past + arguments.nights)
        log = read_inputs(config).log
        nights = nights_of(Path(config.output) / "rankings", most=len(days))
        judged = list(judged_nights(nights, log, config, end_day=log.last_day + 1))
    tellings = [_line(judged, number) for number in range(arguments.past, len(judged))]
    sys.stderr.write("".join(f"{line}\n" for line in tellings))
    errors = {name: errors_of(by, judged, first=arguments.past) for name, by in ESTIMATORS.items()}
    for name, (absolute, winkler, inside) in errors.items():
        sys.stderr.write(
            f"{name:34} absolute error {absolute:.4f}, interval score {winkler:.4f}, inside {inside:.0%}\n"
        )
    mean, ours = errors["mean of the last 14"], errors["estimate of nightrank monitor"]
    bars = {
        f"{len(days) - len(blocked)} of {len(days)} nights were published": not blocked,
        f"absolute error {ours[0]:.4f} < {mean[0]:.4f}": ours[0] < mean[0],
        f"interval score {ours[1]:.4f} < {mean[1]:.4f}": ours[1] < mean[1],
    }
    for bar, reached in bars.items():
        sys.stderr.write(f"{'reached' if reached else 'MISSED '}  {bar}\n")
    sys.stdout.write(json.dumps({"errors": errors, "bars": bars, "blocked": list(map(str, blocked))}) + "\n")
    return 0 if all(bars.values()) else 1


def published_nights(folder: Path, n: int) -> tuple[list[date], Config, list[date]]:
    """Train, and score the log's last trading days in order; returns these, the configuration, and what was blocked."""
    dataset = load_dataset("online-retail")
    dataset = replace(dataset, config={**dataset.config, **CUT})
    days = dataset.events["timestamp"].dt.date().unique().sort().to_list()[-n:]
    path = folder / "nightrank.yaml"
    config = load_config(
        path if path.exists() else write_dataset(dataset, folder, until=days[0], partitioned=True), OVERRIDES
    )
    registry = Registry(config)
    if registry.find(CHAMPION) is None:
        inputs = read_inputs(config)
        with Tracking(config).run() as run:
            register(train(inputs.log, config, run.series), inputs, config, run)
        promote(inputs.log, config, registry, CHALLENGER)
    for day in days:
        write_day(dataset, folder, day)
    name, bundle = load_version(registry, CHAMPION)
    inputs, blocked = read_inputs(config), []
    there = {night.day for night in nights_of(Path(config.output) / "rankings", most=n)}
    for day in days:
        try:
            if day not in there:
                score(inputs, config, when=day, version=name, bundle=bundle)
        except BlockedError as error:
            sys.stderr.write(f"{day} is blocked: {error}\n")
            blocked.append(day)
    return days, config, blocked


def pooled_mean(past: Sequence[NightUsers]) -> Estimate | None:
    """First try: the mean over all requests of the last 14 nights, so that busy nights count for more."""
    mean, last = mean_of_last(past), past[-14:]
    if mean is None:
        return None
    shift = float(np.average([night.mean for night in last], weights=[night.n_requests for night in last])) - mean.value
    return replace(mean, value=mean.value + shift, low=mean.low + shift, high=mean.high + shift)


def smoothed(past: Sequence[NightUsers]) -> Estimate:
    """Second try: exponential smoothing by 0.3, with the interval of what it missed on the past nights."""
    level, missed = past[0].mean, []
    for night in past[1:]:
        missed.append(night.mean - level)
        level += 0.3 * missed[-1]
    half = 1.96 * float(np.sqrt(np.mean(np.square(missed[-28:]))))
    return Estimate(level, level - half, level + half, len(past))


ESTIMATORS: dict[str, Estimator] = {
    "mean of the last 14": lambda past, _: mean_of_last(past),
    "1: mean weighted by requests": lambda past, _: pooled_mean(past),
    "2: exponential smoothing": lambda past, _: smoothed(past),
    "estimate of nightrank monitor": estimate,
}


def errors_of(
    by: Estimator, judged: Sequence[tuple[Realised, NightUsers]], *, first: int
) -> tuple[float, float, float]:
    """Mean absolute error, mean interval score, and the share of nights inside the interval."""
    rows = []
    for number in range(first, len(judged)):
        users = judged[number][1]
        made = by([each for _, each in judged[:number]], users)
        assert made is not None
        outside = max(made.low - users.mean, users.mean - made.high, 0.0)
        rows.append((abs(made.value - users.mean), made.high - made.low + 2 / ALPHA * outside, float(outside == 0)))
    absolute, winkler, inside = np.mean(rows, axis=0).tolist()
    return absolute, winkler, inside


def _line(judged: Sequence[tuple[Realised, NightUsers]], number: int) -> str:
    """A night: what it turned out to be, and what was estimated."""
    became, users = judged[number]
    past = [each for _, each in judged[:number]]
    ours, mean, of = estimate(past, users), mean_of_last(past), became.slices[ALL]
    assert ours is not None
    assert mean is not None
    return (
        f"{became.day}  realised {of.mean:.4f} [{of.low:.3f}, {of.high:.3f}] of {of.users} users  "
        f"estimate {ours.value:.4f} [{ours.low:.3f}, {ours.high:.3f}] off by {ours.value - of.mean:+.4f}  "
        f"mean of 14 {mean.value:.4f} off by {mean.value - of.mean:+.4f}"
    )


if __name__ == "__main__":
    sys.exit(main())
