"""The edge of the system: all files, the clock, the environment, MLflow and the command line are handled here alone.

`features`, `encoders` and `ranker` compute on frames and tensors and import nothing from here. The rooms, from the top
down; a room imports only rooms below it:

- `cli`: commands and their options.
- `verbs`: one module a verb of the command line, and the gates of a promotion.
- `registry`: bundles of versions, MLflow's runs and registry, who is champion.
- `evaluation`: systems judged on a window, scores of other systems, ablations.
- `training`: from a log to labelled rows, fine-tuning by blocks, fitting of rankers.
- `inputs`: from files to checked tables and the event log.
- `stores`: what lies on disk under `output`, apart from bundles and MLflow's own files.
- `base`: the configuration, progress, tables for a person, how commands end.

Public, for use from Python; other names may change in any release:

- `pipelines.base.config`: `Config`, `load_config`
- `pipelines.inputs.check`: `Inputs`, `read_inputs`, `summary`, `text_fields`
- `pipelines.inputs.read`: `read_events`
- `pipelines.training.train`: `Trained`, `train`
- `pipelines.evaluation.evaluate`: `Evaluation`
- `pipelines.registry.bundle`: `Bundle`, `load_bundle`
- `pipelines.registry.register`: `Registered`, `register`
- `pipelines.registry.registry`: `Registry`, `Version`
- `pipelines.registry.versions`: `judge_versions`, `load_version`
- `pipelines.stores.publish`: `Published`, `published`
- `pipelines.verbs.datasets`: `Dataset`, `load_dataset`, `simulated`
- `pipelines.verbs.gates`: `Gate`, `gates_of`
- `pipelines.verbs.project`: `write_dataset`, `write_day`
- `pipelines.verbs.promote`: `promote`
- `pipelines.verbs.score`: `Publishing`, `score`
"""
