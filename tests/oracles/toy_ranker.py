"""A ranker from outside, by the recipe of the package `ranker`: it ranks by the feature that goes with labels most."""

import json
from pathlib import Path

import numpy as np
import polars as pl

ENTRY_POINT = "one_feature"


class OneFeature:
    """Scores are the values of a feature, 0 where it is undefined, turned so that more is better."""

    tolerance = 0.0

    def __init__(self, features, column, sign):
        self.features, self.column, self.sign = features, column, sign

    @classmethod
    def fit(cls, train, valid, *, features, config, seed, stop_at, support):  # noqa: ARG003 - a ranker's signature
        with support.progress("", len(features), "features", "covariance {:.3f}") as report:
            covariance = []
            for number, name in enumerate(features, start=1):
                values = train[name].fill_nan(0).cast(pl.Float64).to_numpy()
                covariance.append(float(np.cov(values, train["label"].to_numpy())[0, 1]))
                report(number, covariance[-1])
        best = int(np.argmax(np.abs(covariance)))
        support.tell(column=features[best])
        return cls(features, features[best], float(np.sign(covariance[best])))

    def predict(self, table):
        return self.sign * table[self.column].fill_nan(0).cast(pl.Float64).to_numpy()

    def contributions(self, table):
        part = np.zeros((table.height, len(self.features)))
        part[:, self.features.index(self.column)] = self.predict(table)
        return part

    def files(self):
        return {"column.json": json.dumps([self.column, self.sign]).encode()}

    @classmethod
    def read(cls, files, features):
        return cls(features, *json.loads(files["column.json"]))


def install(folder: Path, monkeypatch, value: str = "toy_ranker:OneFeature") -> None:
    """Make it known as an installed package would: by an entry point."""
    about = folder / "toy_ranker-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-ranker\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(f"[nightrank.rankers]\n{ENTRY_POINT} = {value}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
