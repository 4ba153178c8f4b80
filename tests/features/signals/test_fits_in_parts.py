"""A signal's fit is made of some users at a time, and is the one of all users at once."""

import pytest

from features.log import positions
from features.signals.co_visitation import CoVisitation
from features.signals.ease import Ease
from features.signals.next_basket import BasketTransitions

SIGNALS = [CoVisitation(history_items=3, refresh_days=1), BasketTransitions(refresh_days=1), Ease()]


def fits_of(log, signal):
    """The fits of a few days, one of them before the log: their cells."""
    days = (log.first_day, log.first_day + 6, log.first_day + 14, log.last_day + 1)
    return [
        [part.tolist() for part in (fit.indptr, fit.indices, fit.data)]
        for fit in (signal.fit(log, day) for day in days)
    ]


@pytest.mark.parametrize("rows", [1, 7, 60])
@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)
def test_parts_of_any_size_give_the_same_fit(shop, monkeypatch, signal, rows):
    whole = fits_of(shop(3).log(), signal)
    monkeypatch.setattr(positions, "PART_ROWS", rows)
    assert fits_of(shop(3).log(), signal) == whole
    assert any(data for _, _, data in whole)
