"""From a log to a trained version: the chain of candidates and rows, labels, sampling, fine-tuning, fitting rankers.

Evaluation and nights share the chain, so that all three see the same rows. Nothing here writes a bundle, calls MLflow
or judges a system.
"""
