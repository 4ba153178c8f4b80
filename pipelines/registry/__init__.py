"""Versions: verifiable bundles, MLflow's runs and registry, aliases and the journal of promotions.

All calls of MLflow are made here, inside `tracking_errors`. Whether a version may go live is decided by the gates
(`pipelines.verbs.gates`).
"""
