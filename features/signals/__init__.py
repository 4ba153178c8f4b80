"""Signals: models of behaviour that are fitted on what happened before a day, and the generators that read them.

One file a signal. `base` says what a signal is, `generator` what a generator is, and `family` what a feature family is;
the rooms above use them. `cache` keeps fits by day; `top_k` and `similarity` rank sparse scores. Signals read a log and
nothing else: no requests, no labels, no features.

To add a signal, subclass `Signal` as a frozen dataclass of its settings; this one is each item's last active day (the
day after the fit for an item without one):

    from features.signals.base import Signal

    @dataclass(frozen=True)
    class LastActive(Signal[np.ndarray]):
        name = "last_active"

        def fit(self, log, fit_day):
            items = np.arange(log.items.height)
            return fit_day - log.item_index.days_since_last(items, np.full_like(items, fit_day))

A family or a generator then asks the cache for the fit of a day: ``AsOfCache(log).fitted(LastActive(), day)``. Equal
signals share their fits. A signal that scores items for users subclasses `UserSignal`, whose rows are cached as well.
"""
