"""Judging systems on the same requests: a version's, the baselines, other systems' scores, versions without a part.

Metrics and intervals themselves are in `ranker`. Nothing here promotes, registers or publishes.
"""
