"""Requests: which user is ranked for as of which day, which items turned out relevant, and how days are split.

`engaged` makes a request of each user's day with an engagement, `logged` one of each list that the log says was shown;
both grade what followed by the same labels. `split` cuts the days into warm-up, blocks, validation and test. Nothing
here proposes candidates or reads a model.
"""
