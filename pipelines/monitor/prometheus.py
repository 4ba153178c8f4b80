"""What was seen of the nights as a Prometheus textfile, for the node exporter's textfile collector.

Labels are names of slices and of checks alone: no id and no text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipelines.monitor.drift import Drift
from pipelines.monitor.estimate import Estimate
from pipelines.monitor.realised import Realised

__all__ = ["metrics_text"]


@dataclass(frozen=True)
class _Gauge:
    """A metric and its samples: the labels and value of each."""

    name: str
    words: str
    samples: list[tuple[dict[str, str], float]] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {self.words}"
        yield f"# TYPE {self.name} gauge"
        for labels, value in self.samples:
            inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            yield f"{self.name}{{{inner}}} {value!r}" if inner else f"{self.name} {value!r}"


def metrics_text(
    nights: Sequence[Realised], drifts: Sequence[Drift], estimate: Estimate | None, *, opened_seconds: float
) -> str:
    """The metrics, HELP and TYPE before the samples of each; a metric without a sample is left out.

    Args:
        nights: What became of each night, oldest first; the last whose labels have closed is reported.
        drifts: The verdicts on the live night.
        estimate: Of the live night's NDCG.
        opened_seconds: The cut-off of the live night, in seconds since 1970.
    """
    closed = [night for night in nights if night.state == "closed"][-1:]
    judged = [drift for drift in drifts if drift.value is not None]
    gauges = [
        _Gauge("nightrank_live_cutoff_timestamp_seconds", "Cut-off of the live night.", [({}, float(opened_seconds))]),
        *_realised(closed),
        *(_estimated(estimate) if estimate is not None else []),
        _Gauge(
            "nightrank_drift_distance",
            "How far the live night is from the nights before, by check, in the unit of the check.",
            [({"check": drift.check}, float(drift.value or 0.0)) for drift in judged],
        ),
        _Gauge(
            "nightrank_drift_limit",
            "Largest distance that is allowed, by check.",
            [({"check": drift.check}, float(drift.limit)) for drift in judged],
        ),
        _Gauge(
            "nightrank_drift_blocked",
            "1 where a distance is beyond a limit that blocks, else 0.",
            [({"check": drift.check}, float(drift.verdict == "blocked")) for drift in judged],
        ),
    ]
    return "".join(f"{line}\n" for gauge in gauges if gauge.samples for line in gauge.lines())


def _realised(nights: Sequence[Realised]) -> list[_Gauge]:
    """NDCG of a night by slice, its limits, and how many users it is of."""
    rows = [({"slice": name}, of) for night in nights for name, of in night.slices.items()]
    bias = "biased by exposure"
    return [
        _Gauge(
            "nightrank_realised_ndcg",
            f"Mean NDCG of the last night whose labels have closed, by slice, {bias}.",
            [(labels, float(of.mean)) for labels, of in rows],
        ),
        _Gauge(
            "nightrank_realised_ndcg_low",
            "Lower end of its 95 % interval.",
            [(labels, float(of.low)) for labels, of in rows if of.low is not None],
        ),
        _Gauge(
            "nightrank_realised_ndcg_high",
            "Upper end of its 95 % interval.",
            [(labels, float(of.high)) for labels, of in rows if of.high is not None],
        ),
        _Gauge(
            "nightrank_realised_users",
            "Users who acted on that night, by slice.",
            [(labels, float(of.users)) for labels, of in rows],
        ),
    ]


def _estimated(estimate: Estimate) -> list[_Gauge]:
    words = "NDCG of the live night, estimated before its labels are there"
    return [
        _Gauge("nightrank_estimated_ndcg", f"{words}.", [({}, estimate.value)]),
        _Gauge("nightrank_estimated_ndcg_low", "Lower end of its 95 % interval.", [({}, estimate.low)]),
        _Gauge("nightrank_estimated_ndcg_high", "Upper end of its 95 % interval.", [({}, estimate.high)]),
    ]


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
