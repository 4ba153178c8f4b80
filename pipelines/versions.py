"""Registered versions at work: load one from its verified bundle, and judge several on the same requests."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import polars as pl

from features.errors import BlockedError, ConfigError
from features.families.base import Plan
from features.split import Span, Split
from features.timeline import EventLog, date_of, day_of
from pipelines.ablate import Whole, parts_of, without
from pipelines.bundle import Bundle, load_bundle
from pipelines.chain import Chain
from pipelines.config import Config, flat
from pipelines.evaluate import ALL_SYSTEMS, TAKEN, Evaluation, chosen_names, evaluate, version_lists
from pipelines.external import External, coded_scores
from pipelines.registry import Registry
from pipelines.train import Labelled, Predecessor, label

__all__ = [
    "continuing_config",
    "judge_versions",
    "load_version",
    "plan_of_version",
    "predecessor",
    "whole_version",
    "working_config",
]

_AGAINST_FORGETTING = {"replay_share": 0.95, "start_weight": 0.01}
_FITTED = (
    *("calendar.", "requests.", "labels.", "candidates.", "features.", "data.items.text"),
    *(
        f"encoder.{key}"
        for key in ("model", "max_tokens", "pooling", "passage_prefix", "train", "precision", "backend")
    ),
    "encoder.item_embeddings",
    "encoder.history_items",
)
"""Keys, or how they begin, that a version's weights, features and rows depend on."""


def working_config(config: Config, bundle: Bundle) -> Config:
    """Today's paths, night and gates with the version's own calendar, requests, labels, candidates and encoder."""
    kept = Config.model_validate(bundle.config)
    items = config.data.items.model_copy(update={"text": kept.data.items.text})
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"items": items}),
            "calendar": kept.calendar,
            "requests": kept.requests,
            "labels": kept.labels,
            "candidates": kept.candidates,
            "features": kept.features,
            "encoder": kept.encoder,
        }
    )


def plan_of_version(config: Config, bundle: Bundle) -> Plan:
    """What the columns of a version are made of, at work under today's configuration."""
    own = working_config(config, bundle)
    return Plan(own.features, bundle.features.supply, own.requests)


def load_version(registry: Registry, wanted: str) -> tuple[str, Bundle]:
    """Name (`model/number`) and verified bundle of a version, by number or alias."""
    version = registry.version(wanted)
    return version.name, load_bundle(registry.bundle_folder(version))


def continuing_config(config: Config) -> Config:
    """The configuration of a training that goes on from a version: with something against forgetting.

    Where they are not set, `encoder.start_weight` is 0.01 and `encoder.replay_share` 0.95: where a few days are new,
    all that the rows hold, up to `encoder.max_requests`.
    """
    told = {key: value for key, value in _AGAINST_FORGETTING.items() if key not in config.encoder.model_fields_set}
    return config.model_copy(update={"encoder": config.encoder.model_copy(update=told)})


def predecessor(registry: Registry, wanted: str, config: Config) -> Predecessor:
    """A version that a training goes on from, by number or alias.

    Raises:
        ConfigError: There is none, it was trained otherwise than `config` says (all keys are named), or by a nightrank
            that kept no rows.
        IntegrityError: Its bundle is not as it was written.
    """
    name, bundle = load_version(registry, wanted)
    then, now = (flat(told.portable()) for told in (Config.model_validate(bundle.config), config))
    other = [key for key in sorted({*then, *now}) if key.startswith(_FITTED) and then.get(key) != now.get(key)]
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
    told = _training(name, bundle)
    return Predecessor(
        name=name,
        digest=bundle.digest,
        model=bundle.model,
        encoder_day=day_of(date.fromisoformat(told["encoder_day"])),
        features=bundle.features.ranker,
        supply=bundle.features.supply,
        cut=bundle.cut,
        rows=told["rows"],
    )


def _training(name: str, bundle: Bundle) -> dict[str, Any]:
    """What a version's manifest says of its training.

    Raises:
        ConfigError: Nothing: it is too old.
    """
    told: dict[str, Any] | None = bundle.manifest.get("training")
    if told is None:
        raise ConfigError(
            f"{name} was trained by a nightrank that kept no rows to go on from. Train from the start (without "
            "--continue)."
        )
    return told


def whole_version(name: str, bundle: Bundle, chain: Chain) -> Whole:
    """A version that parts are left out of, by the chain that scores with it."""
    told, then = _training(name, bundle), Config.model_validate(bundle.config)
    as_trained = {key: getattr(then, key) for key in ("seed", "timeline", "ranker", "evaluation")}
    test_start = day_of(bundle.window[0])
    return Whole(
        chain=chain,
        config=chain.config.model_copy(update=as_trained),
        columns=bundle.features.columns,
        ranker=bundle.ranker,
        behaviour_ranker=bundle.behaviour_ranker,
        encoder_day=day_of(date.fromisoformat(told["encoder_day"])),
        valid=Split.valid_before(test_start, chain.log, then.timeline, then.labels),
        rows=told["rows"],
    )


def _parts(name: str, bundle: Bundle, told: str) -> list[str]:
    """Those of a version's parts that `--ablate` names."""
    if not told:
        return []
    _training(name, bundle)  # before anything is scored
    known = parts_of(bundle.features.columns, Config.model_validate(bundle.config).data.items.text_fields)
    return chosen_names(told, known, unknown=f"--ablate: {{}} is no part of {name}")


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

    Where one of the versions was trained on logged requests, all are judged on these.

    Args:
        log: The log the window lies in.
        config: Today's configuration.
        versions: By name; the first is compared with the others and with the baselines.
        first_day: First day of the window.
        end_day: Day after its last.
        external: Scores of other systems, as `pipelines.external.read_scores` reads them, judged beside them.
        chosen: Names of the systems to judge, as `pipelines.evaluate.evaluate` takes them.
        ablate: Parts of the first version, commas between them, that it is judged without too; see
            `pipelines.ablate`.

    Raises:
        ConfigError: A system or a part is unknown, an external system is called as one of ours, or the rows that the
            first version learned from are needed and not there.
        IntegrityError: These rows were altered.
        ContractError: External scores break their contract; see `pipelines.external.coded_scores`.
        BlockedError: A version has seen something of the window, or two versions ask other requests of one log.
    """
    opens = log.calendar.as_of(first_day)
    late = [name for name, bundle in versions.items() if bundle.cutoff > opens]
    if late:
        raise BlockedError(
            f"the window opens on {date_of(first_day)}, and {', '.join(late)} has seen events or labels after that. "
            "Choose a later window (--from), or an older version."
        )
    parts = _parts(*next(iter(versions.items())), ablate)
    lists: dict[str, pl.DataFrame] = {}
    asked: Labelled | None = None
    span = Span(first_day, end_day, end_day)
    own_configs = {name: working_config(config, bundle) for name, bundle in versions.items()}
    logged = any(own.requests.source == "logged" for own in own_configs.values())
    for name, bundle in versions.items():
        own = own_configs[name]
        if logged:
            own = own.model_copy(update={"requests": own.requests.model_copy(update={"source": "logged"})})
        chain = Chain(log, own, bundle.model, bundle.features.supply, cut=bundle.cut)
        labelled = label(chain, own, span, name=f"Scoring with {name}", encoder_day=first_day)
        found = version_lists(labelled, bundle.ranker, bundle.behaviour_ranker, bundle.pooling)
        if asked is None:
            asked, lists, vectors = labelled, dict(found), chain.zero_shot
            if parts:
                lists |= whole_version(name, bundle, chain).lists(parts, labelled, span)
        else:
            _refuse_other_requests(asked, labelled, name)
            lists[name] = next(iter(found.values()))
    assert asked is not None  # callers name at least one version
    lists |= coded_scores(external or {}, asked, log, taken={*TAKEN, *lists})
    return evaluate(
        log,
        config,
        asked,
        lists=lists,
        first_day=first_day,
        vectors=vectors,
        chosen=chosen,
        ablated={part: without(part) for part in parts},
    )


def _refuse_other_requests(asked: Labelled, others: Labelled, name: str) -> None:
    keys = ["request", "user", "as_of_day"]
    if not asked.requests.select(keys).equals(others.requests.select(keys)):
        raise BlockedError(
            f"{name} asks other requests of the log than the first version: their calendar or features.roles.shown "
            "differ, so that they cannot be compared. Judge them one by one."
        )
