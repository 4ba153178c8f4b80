"""Loading registered versions from verified bundles, and judging several on the same requests."""

import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import polars as pl
from pydantic import ValidationError

from features.config import RENAMED_FAMILIES
from features.errors import BlockedError, ConfigError, IntegrityError, listed
from features.frozen import Owner
from features.log.event_log import EventLog, date_of, day_of
from features.requests.split import Span, Split
from features.signals.family import Plan
from pipelines.base.config import Config
from pipelines.base.owners import keys_of, with_keys_of
from pipelines.base.progress import say
from pipelines.base.removed import without_removed
from pipelines.evaluation.ablate import Whole, parts_of, without
from pipelines.evaluation.evaluate import (
    ALL_SYSTEMS,
    FULL,
    TAKEN,
    Evaluation,
    chosen_names,
    evaluate,
    labelled_window,
    version_lists,
    window_of,
)
from pipelines.evaluation.external import External, coded_scores
from pipelines.evaluation.policy_figures import PolicyFigures, policy_figures, refuse_unknown_values
from pipelines.registry.bundle import Bundle, load_bundle
from pipelines.registry.registry import Registry
from pipelines.training.chain import Chain
from pipelines.training.labelled import Labelled
from pipelines.training.train import Predecessor

__all__ = [
    "continuing_config",
    "judge_versions",
    "load_version",
    "not_followed",
    "plan_of_version",
    "predecessor",
    "say_not_followed",
    "trained_config",
    "whole_version",
    "working_config",
]

_AGAINST_FORGETTING = {"replay_share": 0.95, "start_weight": 0.01}
_KEPT = (Owner.VERSION, Owner.TRAINING)
"""Owners of the keys that a version carries along."""


def working_config(config: Config, bundle: Bundle) -> Config:
    """Today's configuration with the keys of the version and of its training as they were trained.

    Raises:
        IntegrityError: The bundle's configuration is not one of this nightrank.
    """
    return with_keys_of(config, trained_config(bundle), _KEPT)


def trained_config(bundle: Bundle) -> Config:
    """The whole configuration that a version was trained under; harmless removed keys are dropped, old names read.

    Raises:
        IntegrityError: It is not one of this nightrank.
    """
    values = without_removed(bundle.config)
    if isinstance(encoder := values.get("encoder"), dict) and encoder.get("backend") == "auto":
        values["encoder"] = encoder | {"backend": bundle.model.backend}  # the one that was taken
    if isinstance(features := values.get("features"), dict) and "families" in features:
        families = [RENAMED_FAMILIES.get(name, name) for name in features["families"]]
        values["features"] = features | {"families": families}
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        keys = sorted({".".join(str(part) for part in fault["loc"]) for fault in error.errors()})
        raise IntegrityError(
            f"{bundle.folder}: config.yaml is no configuration of this nightrank ({listed(keys)}). Use the nightrank "
            "that the manifest names, or make the version anew with this one: nightrank train."
        ) from error


def not_followed(config: Config, bundle: Bundle, *, judged: bool = False) -> list[str]:
    """Keys owned by the version that have another value in today's configuration, sorted.

    Args:
        config: Today's configuration.
        bundle: The version, which goes by what it was trained with.
        judged: Include the filters and rules of `candidates`, since a past window is judged by those of the training.
    """
    then, now = (_own_keys(each, judged=judged) for each in (trained_config(bundle), config))
    return sorted(key for key in now if now[key] != then[key])


def say_not_followed(keys: list[str], version: str) -> None:
    """Report which keys of today's configuration a version does not follow, if any."""
    if keys:
        say(
            "keys not followed",
            keys=keys,
            version=version,
            because="the version works by what it was trained with, where they have other values",
            remedy="train and promote again to follow them, or set them back",
        )


def _own_keys(config: Config, *, judged: bool = False) -> dict[str, Any]:
    """Values of the keys that a version owns, without this machine's folders."""
    portable = Config.model_validate(config.portable())
    rules = keys_of(portable.candidates, {Owner.TONIGHT}, "candidates.") if judged else {}
    return keys_of(portable, {Owner.VERSION}) | rules


def plan_of_version(config: Config, bundle: Bundle) -> Plan:
    """The feature plan of a version under today's configuration."""
    own = working_config(config, bundle)
    return Plan(own.features, bundle.features.inventory, own.requests)


def load_version(registry: Registry, wanted: str) -> tuple[str, Bundle]:
    """Name (`model/number`) and verified bundle of a version, by number or alias."""
    version = registry.version(wanted)
    return version.name, load_bundle(registry.bundle_folder(version))


def continuing_config(config: Config) -> Config:
    """The configuration of a training that continues a version: with replay and weight decay to the start.

    Where they are not set, `encoder.start_weight` is 0.01 and `encoder.replay_share` 0.95: where a few days are new,
    all that the rows hold, up to `encoder.max_requests`.
    """
    unset = {key: value for key, value in _AGAINST_FORGETTING.items() if key not in config.encoder.model_fields_set}
    return config.model_copy(update={"encoder": config.encoder.model_copy(update=unset)})


def predecessor(registry: Registry, wanted: str, config: Config) -> Predecessor:
    """A version for a training to continue, by number or alias.

    Raises:
        ConfigError: There is none, it was trained otherwise than `config` says (all keys are named), or by a nightrank
            that kept no rows.
        IntegrityError: Its bundle is not as it was written.
    """
    name, bundle = load_version(registry, wanted)
    other = not_followed(config, bundle)
    if other:
        raise ConfigError(
            f"{name} was trained with another {', '.join(other)} than is configured. Set back what "
            f"{bundle.folder / 'config.yaml'} says, or train from the start, without --continue."
        )
    if bundle.model.queries:
        raise ConfigError(
            f"{name} reads the queries of requests, which the rows that it would be reminded of do not keep. Train "
            "from the start, without --continue."
        )
    training = _training(name, bundle)
    return Predecessor(
        name=name,
        digest=bundle.digest,
        model=bundle.model,
        encoder_day=day_of(date.fromisoformat(training["encoder_day"])),
        features=bundle.features.ranker,
        inventory=bundle.features.inventory,
        cut=bundle.cut,
        rows=training["rows"],
    )


def _training(name: str, bundle: Bundle) -> dict[str, Any]:
    """The lineage of a version's training, from its manifest.

    Raises:
        ConfigError: The version is too old to have one.
    """
    training: dict[str, Any] | None = bundle.manifest.get("training")
    if training is None:
        raise ConfigError(
            f"{name} was trained by a nightrank that kept no rows to go on from. Train from the start (without "
            "--continue)."
        )
    return training


def whole_version(name: str, bundle: Bundle, chain: Chain) -> Whole:
    """A version as a whole to leave parts out of, with the chain that scores with it."""
    training, then = _training(name, bundle), trained_config(bundle)
    test_start = day_of(bundle.window[0])
    return Whole(
        chain=chain,
        config=chain.config.model_copy(update={"evaluation": then.evaluation}),
        columns=bundle.features.columns,
        ranker=bundle.ranker,
        behaviour_ranker=bundle.behaviour_ranker,
        encoder_day=day_of(date.fromisoformat(training["encoder_day"])),
        valid=Split.valid_before(test_start, chain.log, then.timeline, then.labels),
        rows=training["rows"],
    )


def _parts(name: str, bundle: Bundle, names: str) -> list[str]:
    """The parts of a version that `--ablate` names; none for an empty text."""
    if not names:
        return []
    _training(name, bundle)  # before anything is scored
    available = parts_of(bundle.features.columns, trained_config(bundle).data.items.text_fields)
    return chosen_names(names, available, unknown=f"--ablate: {{}} is no part of {name}")


def judge_versions(
    log: EventLog,
    config: Config,
    versions: Mapping[str, Bundle],
    *,
    first_day: int,
    end_day: int,
    external: External | None = None,
    chosen: str = ALL_SYSTEMS,
    ablate: str = "",
) -> Evaluation:
    """Judge versions on the requests of a window, the first of them in full and against the others.

    Where one of the versions was trained on logged requests, all are judged on these. Candidates of all are filtered by
    the rules (`candidates.blocked` and the like) that the first was trained with, not by today's: an item that is
    blocked tonight was there in a past window, and baselines may rank it too. Keys with other values in the file than
    in the versions are reported. What `promotion` asks of slices and groups is measured against the second version.

    Args:
        log: The log the window lies in.
        config: Today's configuration.
        versions: By name; the first is compared with the others and with the baselines.
        first_day: First day of the window.
        end_day: Day after its last.
        external: Scores of other systems, as `pipelines.evaluation.external.read_scores` reads them, judged beside
            them.
        chosen: Names of the systems to judge, as `pipelines.evaluation.evaluate.evaluate` takes them.
        ablate: Parts of the first version, commas between them, that it is judged without too; see
            `pipelines.evaluation.ablate`.

    Raises:
        ConfigError: A system or a part is unknown, an external system is called as one of ours, or the rows that the
            first version learned from are needed and not there.
        IntegrityError: These rows were altered.
        ContractError: External scores break their contract; see `pipelines.evaluation.external.coded_scores`.
        BlockedError: A version has seen something of the window, or two versions ask other requests of one log.
    """
    opens = log.calendar.as_of(first_day)
    late = [name for name, bundle in versions.items() if bundle.cutoff > opens]
    if late:
        raise BlockedError(
            f"the window opens on {date_of(first_day)}, and {', '.join(late)} has seen events or labels after that. "
            "Choose a later window (--from), or an older version."
        )
    refuse_unknown_values(config.promotion, log)
    parts = _parts(*next(iter(versions.items())), ablate)
    lists: dict[str, pl.DataFrame] = {}
    reference: Labelled | None = None
    span = Span(first_day, end_day, end_day)
    for name, bundle in versions.items():
        say_not_followed(not_followed(config, bundle, judged=True), name)
    under = config.model_copy(update={"candidates": trained_config(next(iter(versions.values()))).candidates})
    own_configs = {name: working_config(under, bundle) for name, bundle in versions.items()}
    logged = any(own.requests.source == "logged" for own in own_configs.values())
    for name, bundle in versions.items():
        own = own_configs[name]
        if logged:
            own = own.model_copy(update={"requests": own.requests.model_copy(update={"source": "logged"})})
        start = time.perf_counter()
        chain = Chain(log, own, bundle.model, bundle.features.inventory, cut=bundle.cut)
        labelled = labelled_window(chain, own, span, name=f"Scoring with {name}", encoder_day=first_day)
        own_lists = version_lists(labelled, bundle.ranker, bundle.behaviour_ranker, bundle.pooling)
        if reference is None:
            reference, lists, vectors = labelled, dict(own_lists), chain.zero_shot
            cost = _Cost.since(start, requests=labelled.requests.height)
            if parts:
                lists |= whole_version(name, bundle, chain).lists(parts, labelled)
        else:
            _refuse_other_requests(reference, labelled, name)
            lists[name] = next(iter(own_lists.values()))
    assert reference is not None  # callers name at least one version
    lists |= coded_scores(external or {}, reference, log, taken={*TAKEN, *lists})
    evaluation = evaluate(
        log,
        config,
        reference,
        lists=lists,
        first_day=first_day,
        vectors=vectors,
        chosen=chosen,
        ablated={part: without(part) for part in parts},
    )
    systems = [FULL, *list(versions)[1:2]]
    figures = PolicyFigures()
    if (config.promotion.slices or config.promotion.groups) and chosen == ALL_SYSTEMS:
        window = window_of(log, config, reference, first_day)
        figures = policy_figures(evaluation.judged, window, lists, log, config, systems=systems)
    return replace(evaluation, policy=replace(figures, request_ms=cost.request_ms, memory_gb=cost.memory_gb))


@dataclass(frozen=True, slots=True)
class _Cost:
    """What it took to score a window: see `PolicyFigures`."""

    request_ms: float
    memory_gb: float

    @classmethod
    def since(cls, start: float, *, requests: int) -> "_Cost":
        """The cost from a time of `time.perf_counter` until now; Linux counts peak memory in KiB."""
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return cls((time.perf_counter() - start) * 1000 / max(requests, 1), peak_bytes / 1e9)


def _refuse_other_requests(reference: Labelled, others: Labelled, name: str) -> None:
    keys = ["request", "user", "as_of_day"]
    if not reference.requests.select(keys).equals(others.requests.select(keys)):
        raise BlockedError(
            f"{name} asks other requests of the log than the first version: their calendar or features.roles.shown "
            "differ, so that they cannot be compared. Judge them one by one."
        )
