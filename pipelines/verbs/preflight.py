"""Warnings, before anything starts, of what a training or a night would fail on; each names the key to change.

A caution is no error: faults of the tables or of the configuration itself stop the verb that reads them. No message
holds an id or a text.
"""

import difflib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from features.candidates.union import unmatched_ids
from features.errors import ContractError, NightrankError, listed
from features.families.registry import column_names
from features.families.request import source_group
from features.log.event_log import EventLog, date_of
from features.log.event_parts import OPEN_END
from features.log.inventory import slug
from features.requests.engaged import requests_between
from features.requests.split import Split
from features.tables.contracts import written_otherwise
from features.tables.text import has_personal
from pipelines.base.config import Config
from pipelines.inputs.check import Inputs, TextField
from pipelines.training.feature_plan import plan_of
from pipelines.training.memory import Memory
from pipelines.training.windows import filled_windows, refuse_empty_windows

__all__ = ["Caution", "cautions", "quick_cautions", "refuse_cautions"]

_MOST_CUT = 0.5  # share of a field's texts that may be cut without a caution
_NEAR = 0.6  # how alike two names are before one is taken for the other mistyped
_BYTES_A_VALUE = 1.0  # of a ranker's row on disk, compressed
_PASSING = 14.0  # bytes beside, while it is learned from: rows as they are, what is picked of them, network's inputs
_BYTES_A_RANKING = 24.0  # of a published row
_COPIES = 2  # of a bundle: the folder, and what the registry keeps


@dataclass(frozen=True, slots=True)
class Caution:
    """A warning of something that a training or a night would fail on.

    Attributes:
        key: What to change in the configuration.
        message: What is wrong, and what to do.
    """

    key: str
    message: str


def cautions(inputs: Inputs, config: Config, fields: Sequence[TextField]) -> list[Caution]:
    """All cautions; loads the encoder and calls the tracking server.

    Args:
        inputs: The checked tables.
        config: Everything configured.
        fields: Measures of each text field; empty where they were not taken.
    """
    early = [*quick_cautions(inputs, config, fields), *_timeline(inputs.log, config), *_features(inputs.log, config)]
    encoder, weights = _encoder(config)
    return [*early, *encoder, *_tracking(config), *_memory(inputs.log, config), *_disk(inputs, config, weights)]


def quick_cautions(inputs: Inputs, config: Config, fields: Sequence[TextField]) -> list[Caution]:
    """The cautions that a training shows too when it starts; they load and call nothing."""
    log = inputs.log
    return [
        *_left_out(inputs),
        *_users(inputs),
        *_far(log),
        *_event_types(log, config),
        *_texts(fields, config),
        *_personal(log, config),
        *_blocked(log, config),
        *_lists_to_rerank(log, config),
    ]


def refuse_cautions(faults: Sequence[Caution]) -> None:
    """Raise if there is any caution, as `--strict` wants.

    Raises:
        ContractError: Names all of them.
    """
    if faults:
        lines = "\n".join(f"{caution.key}: {caution.message}" for caution in faults)
        raise ContractError(f"--strict: {len(faults)} warnings.\n{lines}")


def _left_out(inputs: Inputs) -> list[Caution]:
    """Files of a table's folder that may be data, and are not read."""
    faults = []
    for table, paths in inputs.left_out.items():
        visible = [path for path in paths if not any(part.startswith((".", "_")) for part in Path(path).parts)]
        if visible:
            faults.append(
                Caution(
                    f"data.{table}.path",
                    f"{len(visible)} files are not read, since no table has their suffix ({listed(visible)}). Write "
                    "them as Parquet or CSV if they belong to it, or move them away.",
                )
            )
    return faults


def _users(inputs: Inputs) -> list[Caution]:
    """Users of the table `users` that are written otherwise in the log, and so are two each."""
    if "users" not in inputs.tables:
        return []
    listed_ids = inputs.tables["users"].good["user_id"]
    active = inputs.log.user_ids.gather(inputs.log.active_users)
    strange = listed_ids.cast(active.dtype).filter(~listed_ids.cast(active.dtype).is_in(active.implode()))
    mismatch = written_otherwise(strange, active)
    if not mismatch:
        return []
    return [Caution("data.users", f"of {len(strange)} users without an event, {mismatch}; else each is two users")]


def _personal(log: EventLog, config: Config) -> list[Caution]:
    """E-mail addresses and telephone numbers in texts of items, which are counted and stay."""
    counts = {
        name: n
        for name in config.data.items.text_fields
        if (n := int(log.items[name].to_frame("text").select(has_personal(pl.col("text")).sum()).item()))
    }
    return [
        Caution(
            "data.items.text",
            f"{n} items have an e-mail address or a telephone number in {name!r}, which the encoder reads and stores "
            "keep as a hash. Take them out where they come from, unless they are meant to be there.",
        )
        for name, n in counts.items()
    ]


def _far(log: EventLog) -> list[Caution]:
    """Days that are far from all others."""
    far = log.far
    if not far.counts:
        return []
    days = listed(far.dates(most=len(far.counts)))
    return [
        Caution(
            "data.events",
            f"{far.events} events of {len(far.counts)} days lie far from all others ({days}; the others are of "
            f"{date_of(far.first_day)} to {date_of(far.last_day)}). They are left out and decide nothing. Mend their "
            "timestamps where they come from, or drop them there; a column extracted_at sets aside what is later than "
            "its extract.",
        )
    ]


def _event_types(log: EventLog, config: Config) -> list[Caution]:
    """Names of event types that match nothing, and types that are spelled in two ways."""
    counts = log.event_counts
    roles = {f"features.roles.{role}": kinds for role, kinds in config.features.roles.model_dump().items()}
    is_set = {f"features.roles.{role}" for role in config.features.roles.model_fields_set}
    is_set |= {"labels.gains"} & {f"labels.{name}" for name in config.labels.model_fields_set}
    faults = []
    for key, named in {"labels.gains": tuple(config.labels.gains), **roles}.items():
        for kind in named:
            alike = [other for other in counts if slug(other) == slug(kind) and other not in named]
            matters = key in is_set and (key == "labels.gains" or not counts.keys() & set(named))
            if kind in counts or not (alike or matters):
                continue
            near = alike or difflib.get_close_matches(kind, counts, n=1, cutoff=_NEAR)
            hint = f"; the nearest type is {near[0]!r} ({counts[near[0]]:,} events)" if near else ""
            faults.append(
                Caution(
                    key,
                    f"{kind!r} is the type of none of the {sum(counts.values()):,} events{hint}. Name the types as the "
                    f"log writes them ({listed(sorted(counts), most=10)}), or leave it out.",
                )
            )
    return faults + _spelled_apart(counts, config)


def _spelled_apart(counts: dict[str, int], config: Config) -> list[Caution]:
    """Types that differ in nothing but case and punctuation."""
    by_slug: dict[str, list[str]] = {}
    for kind in counts:
        by_slug.setdefault(slug(kind), []).append(kind)
    faults = []
    for kinds in by_slug.values():
        if len(kinds) > 1:
            spelled = ", ".join(f"{kind!r} ({counts[kind]:,} events)" for kind in kinds)
            gains = config.labels.gains
            counting = [kind for kind in kinds if kind in gains]
            what = f"labels.gains counts {listed(counting)} alone" if counting else "none of them counts (labels.gains)"
            if len(counting) == len(kinds):
                what = "all of them count (labels.gains)"
            faults.append(
                Caution(
                    "labels.gains",
                    f"the event types {spelled} differ in their spelling alone, and are different types here: {what}. "
                    "Write them alike where they come from, or name each under labels.gains and features.roles.",
                )
            )
    return faults


def _texts(fields: Sequence[TextField], config: Config) -> list[Caution]:
    """Text fields of which the encoder cuts most texts."""
    return [
        Caution(
            "encoder.max_tokens",
            f"{field.truncated_share:.0%} of the texts in {field.name!r} are longer than encoder.max_tokens "
            f"({config.encoder.max_tokens}) and are cut. Raise it, or lower the field's own limit (max_words or "
            "max_chars under data.items.text).",
        )
        for field in fields
        if field.truncated_share > _MOST_CUT
    ]


def _blocked(log: EventLog, config: Config) -> list[Caution]:
    """Blocked items that the catalogue does not have."""
    unmatched = unmatched_ids(log.items["item_id"], config.candidates.blocked)
    if not unmatched:
        return []
    return [
        Caution(
            "candidates.blocked",
            f"{unmatched} of the {len(config.candidates.blocked)} ids match no item of the catalogue, so they block "
            "nothing. Write them as the table of items does.",
        )
    ]


def _lists_to_rerank(log: EventLog, config: Config) -> list[Caution]:
    """Nights that re-rank supplied lists, without a table of such lists."""
    reranks = config.candidates.source == "logged" and config.requests.mode == "batch"
    if not reranks or (log.supplied is not None and log.supplied.height):
        return []
    lacking = "is not configured" if config.data.candidates is None else "has no rows"
    return [
        Caution(
            "data.candidates",
            f"a night re-ranks lists that it is given (candidates.source: logged), and their table {lacking}. Name it "
            "before the first night (user_id, item_id, day), or set candidates.source: generated.",
        )
    ]


def _timeline(log: EventLog, config: Config) -> list[Caution]:
    """A timeline that the log does not fill, in the message of the training that would refuse it."""
    try:
        windows = filled_windows(log, config, Split.of(log, config.timeline, config.labels))
        refuse_empty_windows(windows, log, config)
    except NightrankError as error:
        return [Caution("timeline", str(error))]
    return [
        Caution(
            window.keys,
            f"none of the {window.requests} requests of the {window.name} ({window.days}) has a positive, so that the "
            "encoder begins by learning nothing.",
        )
        for window in windows
        if not window.positives
    ]


def _features(log: EventLog, config: Config) -> list[Caution]:
    """Columns that a training could not make, and monotone constraints of unknown columns."""
    from pipelines.training.chain import interest_group
    from pipelines.training.train import refuse_unknown_features

    try:
        plan = plan_of(log, config)
        available = (*column_names(plan), *source_group(config.candidates).columns)
    except NightrankError as error:
        return [Caution("features", str(error))]
    queries = config.requests.mode == "online" and plan.inventory.has(["events.query"])
    try:
        refuse_unknown_features((*available, *interest_group(queries=queries).columns), config)
    except NightrankError as error:
        return [Caution("ranker.monotone", str(error))]
    return []


@dataclass(frozen=True, slots=True)
class _Weights:
    """Bytes of an encoder's weights on disk, and the width of its vectors."""

    size: int
    width: int


def _encoder(config: Config) -> tuple[list[Caution], _Weights | None]:
    """Faults that keep the encoder from loading as a training loads it; and its size, None where it does not load."""
    from encoders.model import InterestModel

    try:
        model = InterestModel.start(config.encoder)
    except NightrankError as error:
        return [Caution("encoder.model", str(error))], None
    parts = (model.tuned, model.user_tower)
    size = sum(weight.numel() * weight.element_size() for part in parts for weight in part.parameters())
    return [], _Weights(size, model.tuned.width)


def _tracking(config: Config) -> list[Caution]:
    """A tracking server that does not answer; nothing is made where there is none yet."""
    from pipelines.registry.tracking import probe

    try:
        probe(config)
    except NightrankError as error:
        return [Caution("tracking.uri", str(error))]
    return []


def _memory(log: EventLog, config: Config) -> list[Caution]:
    """Memory that does not suffice for a training."""
    try:
        Memory.of(log, config).lists(_columns(log, config))
    except NightrankError as error:
        return [Caution("max_memory_gb", str(error))]
    return []


def _disk(inputs: Inputs, config: Config, weights: _Weights | None) -> list[Caution]:
    """A disk that would not hold a training's vectors, rows and bundle, and a night's rankings."""
    if weights is None:
        return []
    log, blocks = inputs.log, config.timeline.blocks
    texts = log.items.height * weights.width * 2 * (blocks + 3)  # zero-shot, and once after each block
    lists = min(3 * config.ranker.max_requests, requests_between(log, 0, OPEN_END).height)
    rows = lists * config.candidates.max_per_request * _columns(log, config) * (_BYTES_A_VALUE + _PASSING)
    rankings = log.user_ids.len() * config.night.top * _BYTES_A_RANKING
    needed = texts + weights.size * (_COPIES + 1) + rows + rankings
    folder = next(part for part in (Path(config.output), *Path(config.output).parents) if part.exists())
    free = shutil.disk_usage(folder).free
    if needed <= free:
        return []
    return [
        Caution(
            "output",
            f"about {needed / 1e9:.1f} GB will be written there (vectors {texts / 1e9:.1f}, weights "
            f"{weights.size * (_COPIES + 1) / 1e9:.1f}, rows {rows / 1e9:.1f}), and its disk has {free / 1e9:.1f} GB "
            "left. Free some, name another folder, or lower ranker.max_requests or candidates.max_per_request.",
        )
    ]


def _columns(log: EventLog, config: Config) -> int:
    """How many columns a ranker's row has, about."""
    try:
        return len(column_names(plan_of(log, config))) + len(source_group(config.candidates).columns)
    except NightrankError:
        return len(source_group(config.candidates).columns)
