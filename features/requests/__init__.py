"""Requests, the unit of ranking, what turned out true of them, and how the days are split."""
