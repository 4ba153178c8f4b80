"""Feature families: columns about users, items, pairs and requests, made of what happened before each row's as-of day.

One file a family or a few of a kind; `registry` lists them and makes the columns, `manifest` says which columns a
version reads, `statistics` what a column looks like. No candidates are proposed here, and nothing is fitted on labels.

To add a family, subclass `Family` and register it; this one counts how often a user comes at the weekend:

    from features.signals.family import Family, ratio
    from features.families.registry import register
    from features.log.asof import AsOfIndex

    @register
    class Weekends(Family):
        name, keys, reads = "weekends", ("user",), ("user", "gain", "day")
        columns = {"user_weekend_share": "share of the user's engagements on a Saturday or Sunday"}

        def __init__(self, log, plan):
            weekend = log.engaged.filter((pl.col("day") + 3) % 7 >= 5)
            self._parts = [AsOfIndex.build(pl.col("user"), events) for events in (weekend, log.engaged)]

        def compute(self, rows):
            part, whole = (index.total(rows.user, rows.as_of_day) for index in self._parts)
            return {"user_weekend_share": ratio(part, whole)}

Then name it in `features.families`. From another package, offer the class under the entry point group
`nightrank.families` instead of registering it. Only events with ``day < as_of_day`` may move a value.
"""
