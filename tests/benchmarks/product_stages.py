"""The stages of a night and of a training, by the functions of the product that make them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from stages import Stages

import ranker.trees_and_network
from features.candidates.catalog import GENERATORS
from features.families.registry import FAMILIES
from features.signals.co_visitation import CoVisitation
from features.signals.ease import Ease
from features.signals.next_basket import BasketTransitions
from features.signals.popularity import Popularity, SegmentPopularity
from features.signals.queries import Queries
from features.signals.similar_users import LatelyEngaged, NearestUsers

__all__ = ["BARE", "Bare", "time_product"]

_SIGNALS = (CoVisitation, BasketTransitions, Ease, NearestUsers, LatelyEngaged, Popularity, SegmentPopularity, Queries)

_LEAST_ROWS = 10_000  # of a table: fewer (a bundle's own test, the fallback) tell of calling more than of predicting

BARE = "bare"
"""The stage of what the benchmark itself does in between."""

_TIMED = {
    "pipelines.inputs.read:read_for": "reading",
    "pipelines.inputs.read:read_events": "reading",
    "pipelines.inputs.check:read_inputs": "reading",
    "pipelines.inputs.read:Folding.update": "reading/fold files",
    "pipelines.inputs.read:Folding.log": "reading/make the log",
    "pipelines.training.chain:Chain._vectors": "encoding",
    "features.assemble:Assembler.__init__": "fits/indexes",
    "features.families.registry:FeatureSet.__init__": "fits/indexes of families",
    "features.candidates.union:CandidateGenerators.__post_init__": "fits/indexes of generators",
    "features.signals.text_neighbours:text_similarity": "fits/text_similarity",
    "features.candidates.union:CandidateGenerators.fit_cut": "candidates",
    "features.signals.similar_users:NearestUsers.scores": "candidates/nearest users",
    "features.signals.similar_users:engaged_lately": "candidates/what users alike engaged with",
    "features.assemble:histories": "candidates/histories",
    "features.candidates.union:histories": "candidates/histories",
    "features.candidates.union:CandidateGenerators.propose": "candidates",
    "features.candidates.union:facts_of": "candidates/facts of the cut",
    "features.candidates.cut:CandidateCut.score": "candidates/score of the cut",
    "features.families.registry:FeatureSet.compute": "features",
    "pipelines.training.chain:Chain.with_interest": "interest",
    "pipelines.night.lists:rank_users": "ranking",
    "ranker.trees_and_network:TreesAndNetwork.predict": "ranking",
    "ranker.listnet:ListNet.score": "network",
    "ranker.lambdamart:LambdaMart.score": "trees",
    "pipelines.stores.publish:Attempt.write": "writing",
    "pipelines.stores.publish:Attempt.finish": "writing",
    "pipelines.stores.publish:Attempt.verify": "writing",
    "pipelines.stores.publish:Attempt.publish": "writing",
    "encoders.model:InterestModel.agreement": "encoder/precision",
    "encoders.model:InterestModel.read_lower": "encoder/frozen layers",
    "encoders.model:InterestModel.pool": "encoder/upper layers",
    "pipelines.training.block_training:BlockTrainer.teach": "encoder",
    "pipelines.training.block_training:fit_block": "encoder/fine-tuning",
    "pipelines.training.labelled:ExampleCollector.add": "encoder/examples",
    "pipelines.training.train:keep_rows": "keeping rows",
    "pipelines.training.train:fit_ranker": "ranker",
    "pipelines.training.fitting:with_new_item_lists": "ranker/lists of new items",
    "ranker.lambdamart:LambdaMart.fit": "ranker/trees",
    "ranker.lambdamart:_dataset": "ranker/trees' bins",
    "ranker.listnet_fit:fit_listnet": "ranker/network",
    "ranker.trees_and_network:TreesAndNetwork.of": "ranker/share of the network",
    "pipelines.registry.register:judge_trained": "judging",
    "pipelines.registry.register:candidate_recall": "judging/recall of candidates",
    "pipelines.registry.register:recall_plot": "judging/plot",
    "pipelines.registry.register:register": "register",
    "pipelines.registry.register:write_bundle": "register/bundle",
    "pipelines.registry.tracking:Run.record": "register/record",
    "pipelines.registry.registry:Registry.register": "register/register",
    "pipelines.verbs.demo:promote": "promotion",
    "pipelines.verbs.demo:load_version": "loading the version",
    "pipelines.verbs.demo:write_dataset": "writing the data",
    "pipelines.verbs.demo:load_dataset": "writing the data",
    "pipelines.verbs.demo:register": "register",
}


def time_product(stages: Stages) -> None:
    """Time the product's stages, each signal, generator and family by its name."""
    stages.time(_TIMED)
    for kind, of, method in (
        ("fits", _SIGNALS, "fit"),
        ("candidates", GENERATORS, "propose"),
        ("features", FAMILIES.values(), "compute"),
    ):
        owners = {next(base for base in made.__mro__ if method in vars(base)) for made in of}
        for owner in owners:
            stages.wrap(owner, method, lambda made, kind=kind: f"{kind}/{made.name}")


@dataclass(slots=True)
class Bare:
    """`Booster.predict` of the rows that the product has just scored, on a float32 matrix that is ready.

    Attributes:
        every: It follows one in so many of the product's own predictions of many rows.
        rows: How many rows it was asked about.
        seconds: Its time by the clock, matrices excluded.
        cpu_seconds: Of all threads.
        scored: How many rows the product scored.
        model: Size of the booster.
    """

    every: int
    rows: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    scored: int = 0
    model: dict[str, int] = field(default_factory=dict)
    _calls: int = 0

    def follow(self, stages: Stages) -> None:
        """Predict after the product does; its time is the stage `BARE`."""
        product: Callable[..., Any] = ranker.trees_and_network.TreesAndNetwork.predict

        def predict(made: ranker.trees_and_network.TreesAndNetwork, table: pl.DataFrame) -> object:
            facts = product(made, table)
            self.scored += table.height
            if table.height >= _LEAST_ROWS:
                if self._calls % self.every == 0:
                    with stages.stage(BARE):
                        self._predict(made, table)
                self._calls += 1
            return facts

        ranker.trees_and_network.TreesAndNetwork.predict = predict  # type: ignore[method-assign, assignment]

    def _predict(self, made: ranker.trees_and_network.TreesAndNetwork, table: pl.DataFrame) -> None:
        booster = made.forest.boosters[0]
        matrix = np.ascontiguousarray(table.select(made.features).to_numpy(), np.float32)
        self.model = {"trees": booster.num_trees(), "features": booster.num_feature()}
        start, cpu = time.perf_counter(), time.process_time()
        booster.predict(matrix)
        self.seconds += time.perf_counter() - start
        self.cpu_seconds += time.process_time() - cpu
        self.rows += table.height
