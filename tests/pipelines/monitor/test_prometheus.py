"""The textfile of metrics, read by a parser of the format's lines."""

import re
from datetime import date

from pipelines.monitor.drift import Drift
from pipelines.monitor.estimate import Estimate
from pipelines.monitor.prometheus import metrics_text
from pipelines.monitor.realised import ALL, FALLBACK, Realised, SliceNdcg

SAMPLE = re.compile(r'^([a-z_]+)(?:\{([a-z_]+)="((?:[^"\\\n]|\\["\\n])*)"\})? ([-+0-9.e]+)$')
CLOSED = {ALL: SliceNdcg(0.25, 0.2, 0.3, 40, 39), FALLBACK: SliceNdcg(0.125, None, None, 1, 1)}
NIGHTS = [
    Realised(date(2024, 5, 5), "v1", "closed", {ALL: SliceNdcg(0.5, 0.4, 0.6, 40, 39)}),
    Realised(date(2024, 5, 6), "v1", "closed", CLOSED),
    Realised(date(2024, 5, 7), "v1", "open", {}),
]
DRIFTS = [Drift("columns", "blocked", 0.5, 0.75, "age"), Drift("scores", "not judged", 0.5, None, "")]


def parsed(text):
    """Samples by name and label; every line is a sample after the HELP and TYPE of its metric."""
    samples, described = {}, []
    for line in text.splitlines():
        if line.startswith("# HELP "):
            described.append(line.split()[2])
            assert line.endswith(".")
        elif line.startswith("# TYPE "):
            assert line == f"# TYPE {described[-1]} gauge"
        else:
            name, _, label, value = SAMPLE.match(line).groups()
            assert name == described[-1]
            samples[name, label] = float(value)
    assert len(described) == len(set(described))
    return samples


def test_the_last_closed_night_the_estimate_and_the_drift_are_reported():
    text = metrics_text(NIGHTS, DRIFTS, Estimate(0.5, 0.25, 0.75, 14), opened_seconds=1715040000)
    assert text.endswith("\n")
    assert parsed(text) == {
        ("nightrank_live_cutoff_timestamp_seconds", None): 1715040000,
        ("nightrank_realised_ndcg", "all"): 0.25,
        ("nightrank_realised_ndcg", "fallback users"): 0.125,
        ("nightrank_realised_ndcg_low", "all"): 0.2,
        ("nightrank_realised_ndcg_high", "all"): 0.3,
        ("nightrank_realised_users", "all"): 39,
        ("nightrank_realised_users", "fallback users"): 1,
        ("nightrank_estimated_ndcg", None): 0.5,
        ("nightrank_estimated_ndcg_low", None): 0.25,
        ("nightrank_estimated_ndcg_high", None): 0.75,
        ("nightrank_drift_distance", "columns"): 0.75,
        ("nightrank_drift_limit", "columns"): 0.5,
        ("nightrank_drift_blocked", "columns"): 1,
    }


def test_what_is_not_there_has_no_metric():
    assert parsed(metrics_text(NIGHTS[2:], [], None, opened_seconds=0)) == {
        ("nightrank_live_cutoff_timestamp_seconds", None): 0
    }
