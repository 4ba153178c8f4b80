"""The edge: command line, storage, MLflow, and one module a verb."""
