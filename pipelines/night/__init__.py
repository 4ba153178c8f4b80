"""What guards a night between writing and publishing: what is measured of it, and the audits that it must pass.

An audit is one function of `pipelines.night.audits`, with its threshold in `night.audits` of the configuration:

1. Measure what it needs in `Measures` (`pipelines/night/measures.py`), unless it is there.
2. Write a function that takes `Compared` and the audit's limit, and returns an `Opinion`; None where it cannot judge.
3. Add it to `AUDITS` with its name, and a field of that name with level, limit and description to `AuditsConfig`.
4. Test it in `tests/pipelines/night/test_audits.py` by two nights made by hand, one on either side of the limit.

Nothing here reads the clock or moves the pointer; `pipelines.verbs.score` does.
"""
