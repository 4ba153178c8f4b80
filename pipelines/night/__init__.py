"""A night: its lists, what guards it between writing and publishing, and the steps that a scheduler runs.

`lists` ranks users shard by shard, `measures`, `audits` and `guard` judge what came out, and `steps` keeps how each
step of `nightrank nightly` ended.

An audit is one function of `pipelines.night.audits`, with its threshold in `night.audits` of the configuration:

1. Measure what it needs in `Measures` (`pipelines/night/measures.py`), unless it is there.
2. Write a function that takes `Compared` and the audit's limit, and returns an `Opinion`; None where it cannot judge.
3. Add it to `AUDITS` with its name, and a field of that name with level, limit and description to `AuditsConfig`.
4. Test it in `tests/pipelines/night/test_audits.py` by two nights made by hand, one on either side of the limit.

No audit reads the clock, and nothing here moves the pointer; `pipelines.verbs.score` does.
"""
