"""Signals: models of behaviour as of a day, what keeps their fits, and the candidate generators that read them."""
