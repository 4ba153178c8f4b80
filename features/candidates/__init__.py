"""Candidates: generators, their union, its filters and its cut, and how much of the truth they find."""
