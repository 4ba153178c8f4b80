"""Orders candidates: rankers, what judges them, what they must beat, and why an item stands where it stands.

Here live what is computed from a table of features and labels, in memory. What reads or writes files, knows the
configuration as a whole or shows progress lives in `pipelines`; what reads texts in `encoders`, whose scores are
columns here. torch is imported where the network is trained, and nowhere else.

Public:

- Rankers: `ranker.ranker.Ranker` is what every ranker can do, `ranker.ranker.FitSupport` what a training lends it,
  `ranker.ranker.ranker_kind` finds one by name. `ranker.trees_and_network.TreesAndNetwork` is the default, made of
  `ranker.lambdamart.LambdaMart` and `ranker.listnet.ListNet` (trained by `ranker.listnet_fit.fit_listnet`).
- Metrics: `ranker.metrics.per_request`, `ranker.metrics.mean_metrics` and `ranker.metrics.ndcg_at`;
  `ranker.beyond_accuracy.beyond_accuracy`; `ranker.calibration`.
- Comparison: `ranker.compare.paired_difference`, `ranker.compare.clustered_intervals`, `ranker.compare.holm`, and over
  many systems `ranker.judge.judge`.
- Baselines: `ranker.baselines.BASELINES`. Explanations: `ranker.explain.reasons`.
- Configuration: `ranker.config.RankerConfig`, `ranker.config.EvaluationConfig`.

A ranker of your own is a class in a package of yours, with the methods of `ranker.ranker.Ranker`, and an entry point:

    class OneFeature:                                   # my_rankers.py
        tolerance = 0.0
        def __init__(self, features, column): self.features, self.column = features, column
        @classmethod
        def fit(cls, train, valid, *, features, config, seed, stop_at, support): return cls(features, features[0])
        def predict(self, table): return table[self.column].fill_nan(0).to_numpy().astype("float64")
        def contributions(self, table): return self.predict(table)[:, None] * [n == self.column for n in self.features]
        def files(self): return {"column.txt": self.column.encode()}
        @classmethod
        def read(cls, files, features): return cls(features, files["column.txt"].decode())

    [project.entry-points."nightrank.rankers"]          # pyproject.toml
    one_feature = "my_rankers:OneFeature"

`ranker: {kind: one_feature}` in the configuration then has it fitted, judged, kept in versions and run at night. A
ranker that learns some rows at a time shows how far it is by `support.progress`.
"""
