"""What stages take: by hand-set clocks."""

import pytest

from pipelines.base import usage
from pipelines.base.progress import task
from pipelines.base.usage import Usage, measured, stage


@pytest.fixture
def clocks(monkeypatch):
    """Clocks that a test sets: ``clocks(wall, processor, peak)``; memory in KiB as Linux counts it."""
    now = {"wall": 0.0, "processor": 0.0, "peak": 0}
    monkeypatch.setattr("time.monotonic", lambda: now["wall"])
    monkeypatch.setattr("time.process_time", lambda: now["processor"])
    monkeypatch.setattr(usage.sys, "platform", "linux")

    class Taken:
        @property
        def ru_maxrss(self):
            return now["peak"]

    monkeypatch.setattr(usage.resource, "getrusage", lambda _: Taken())
    return lambda wall, processor, peak: now.update(wall=wall, processor=processor, peak=peak)


def test_stages_of_one_name_are_added_up_and_the_whole_counts_what_lies_between(clocks):
    clocks(10.0, 1.0, 1_000_000)
    with measured() as stages:
        with stage("reading"):
            clocks(12.0, 2.0, 2_000_000)
        clocks(15.0, 3.0, 2_000_000)
        with task("reading", 1) as advance:  # every piece of work that is shown is a stage
            advance(1)
            clocks(16.0, 5.0, 3_000_000)
    assert stages.by_name == {"reading": Usage(2.0 + 1.0, 1.0 + 2.0, 3_000_000 * 1024 / 1e6)}
    assert stages.total() == Usage(6.0, 4.0, 3072.0)


def test_a_stage_that_fails_or_that_nobody_measures_counts_nowhere():
    with measured() as stages, pytest.raises(ZeroDivisionError), stage("dividing"):
        1 / 0  # noqa: B018
    with stage("alone"):
        pass
    assert stages.by_name == {}
