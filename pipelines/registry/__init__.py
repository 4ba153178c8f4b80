"""Versions: a bundle that can be verified, MLflow's runs and registry, who is champion."""
