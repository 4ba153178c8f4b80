"""The one configuration file: composed of each package's own, read from YAML, changed by `--set`."""

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from encoders.config import ClickModelConfig, EncoderConfig
from features.config import (
    CalendarConfig,
    CandidatesConfig,
    FeaturesConfig,
    FrozenConfig,
    LabelsConfig,
    Owner,
    RequestsConfig,
    TextFieldConfig,
    TimelineConfig,
    ZoneName,
)
from features.errors import ConfigError
from features.tables.clocks import EpochUnit
from pipelines.base.outside import without_credentials
from pipelines.base.removed import REMOVED, REMOVED_VALUES
from pipelines.base.scalars import load_yaml
from pipelines.base.tracking_config import TrackingConfig
from ranker.config import EvaluationConfig, RankerConfig, ValidationConfig

__all__ = ["TABLES", "ClickConfig", "Config", "DataConfig", "TableConfig", "flat", "load_click_config", "load_config"]


TABLES = ("items", "events", "users", "candidates", "offers")
"""Names of the tables that `data` may hold."""


class TableConfig(FrozenConfig):
    """Where a table lies, and what its columns are called there."""

    owner = Owner.TONIGHT

    path: str = Field(
        description="A .parquet, .csv, .tsv or .jsonl file, or one of RecBole's (.inter, .item, .user), texts perhaps "
        "gzipped; a glob, or a folder of them (day partitions; links are followed); relative to the configuration "
        "file."
    )
    columns: dict[str, str] = Field(default_factory=dict, description="Our column name: your column name.")
    constants: dict[str, str] = Field(
        default_factory=dict, description="Our column name: one value for every row (event: purchase, say)."
    )

    times: EpochUnit | None = Field(
        default=None,
        description="What numbers in columns of times count from 1970 (UTC): s, ms, us or ns; null: they are refused.",
    )

    @field_validator("constants", mode="before")
    @classmethod
    def _as_text(cls, constants: Any) -> Any:  # noqa: ANN401 - before validation it may be anything
        return {k: str(v) for k, v in constants.items()} if isinstance(constants, Mapping) else constants


class ItemsConfig(TableConfig):
    """The catalogue."""

    text: Annotated[tuple[TextFieldConfig, ...], Owner.VERSION] = Field(
        default=(TextFieldConfig(field="title"),),
        min_length=1,
        description="Text fields the encoder reads, most telling first: names, or {field: NAME, max_words: N}.",
    )

    @property
    def text_fields(self) -> tuple[str, ...]:
        """Names of the text fields."""
        return tuple(told.field for told in self.text)


class QuarantineConfig(FrozenConfig):
    """What happens to rows that break a contract."""

    owner = Owner.TONIGHT

    max_share: float = Field(default=0.05, ge=0, le=1, description="Largest share of a table's rows set aside.")


class DataConfig(FrozenConfig):
    """The input tables."""

    owner = Owner.TONIGHT

    items: ItemsConfig
    events: TableConfig
    users: TableConfig | None = Field(default=None, description="Optional; users without events get rankings too.")
    candidates: TableConfig | None = Field(
        default=None, description="Optional; items you name for users (user_id, item_id, perhaps day and score)."
    )
    offers: TableConfig | None = Field(
        default=None,
        description="Optional; what is known ahead of items (item_id, offer, first_day, last_day, perhaps reach).",
    )
    timezone: ZoneName = Field(default="UTC", description="IANA zone of timestamps that carry none.")
    quarantine: QuarantineConfig = Field(default_factory=QuarantineConfig)
    max_unknown_share: float = Field(
        default=0.2, ge=0, le=1, description="Largest share of a text field's tokens unknown to the encoder."
    )

    @model_validator(mode="after")
    def _times_of_clocks(self) -> Self:
        for name in ("users", "candidates", "offers"):
            table: TableConfig | None = getattr(self, name)
            if table is not None and table.times is not None:
                msg = f"data.{name}.times: the table has no times, and its days are dates. Leave it out"
                raise ValueError(msg)
        return self


class PromotionConfig(FrozenConfig):
    """The gates before a version goes live; the metric is NDCG at the last of `evaluation.cutoffs`."""

    owner = Owner.EVALUATION

    min_lift_over_baseline: float = Field(
        default=0.0,
        description="The lower bound of the paired lift over personal frequency must exceed this.",
    )
    max_loss_to_champion: float = Field(
        default=0.005,
        ge=0,
        description="The lower bound of the paired lift over the champion may be this far below 0.",
    )
    min_distinct_share: float = Field(
        default=0.5, ge=0, le=1, description="Least share of requests whose scores are not all alike."
    )


class NightConfig(FrozenConfig):
    """The nightly batch."""

    owner = Owner.TONIGHT

    top: int = Field(default=20, ge=1, le=1000, description="Items published a user.")
    max_days_behind: int = Field(
        default=3, ge=0, description="Days that the log's latest event may lie before the eve of the day."
    )
    reasons: int = Field(
        default=0,
        ge=0,
        le=20,
        description="Feature families named for each published item, those that lifted its score most; 0: none.",
    )
    shard_users: int = Field(default=5000, ge=1, description="Users a shard of the published rankings holds.")


class VectorsConfig(FrozenConfig):
    """The stores of text vectors."""

    owner = Owner.TONIGHT

    keep_days: float = Field(
        default=7.0,
        ge=0,
        description="Days after its last use before `nightrank vectors gc` may remove a store that no registered "
        "version needs.",
    )


class Config(FrozenConfig):
    """All that nightrank can be told. The resolved configuration is stored with every run and bundle.

    Each key's description ends with whose it is:

    - *Tonight's.* A command does what the file says when it runs, whatever the version was trained with: where tables
      lie, what is blocked, how much is published. `evaluate` and `promote` judge a past window, and take the filters
      and rules under `candidates` from the training of the version that is judged.
    - *The version's.* What a version's candidates, features and vectors are made by. It is kept in the bundle, and
      `score`, `evaluate` and `promote` take it from there; where the file says otherwise, `score` names the key. To
      change it, train again.
    - *The training's.* What `train` reads, and what trains anew (`evaluate --ablate`, `--origins`). A version is as it
      was trained; a change takes effect with the next training.
    - *The evaluation's.* What `evaluate` and the gates of `promote` judge by, as the file says when they run.
    """

    data: DataConfig
    output: Annotated[str, Owner.TONIGHT] = Field(
        default="out", description="Folder of everything that is written; relative to this file."
    )
    seed: Annotated[int, Owner.TRAINING] = Field(
        default=0, ge=0, lt=2**31, description="Seed of all randomness, resamples too."
    )
    max_memory_gb: Annotated[float, Owner.TONIGHT] = Field(
        default=8.0,
        ge=1,
        description="Memory (GB, pages of files not counted) that `train`, `evaluate` and `score` may take: they work "
        "in smaller portions and learn from fewer lists, or refuse to start.",
    )
    calendar: CalendarConfig = Field(default_factory=CalendarConfig)
    requests: RequestsConfig = Field(default_factory=RequestsConfig)
    labels: LabelsConfig = Field(default_factory=LabelsConfig)
    timeline: TimelineConfig = Field(default_factory=TimelineConfig)
    candidates: CandidatesConfig = Field(default_factory=CandidatesConfig)
    features: FeaturesConfig = Field(default_factory=FeaturesConfig)
    encoder: EncoderConfig = Field(default_factory=EncoderConfig)
    ranker: RankerConfig = Field(default_factory=RankerConfig)
    validation: ValidationConfig = Field(default_factory=ValidationConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    promotion: PromotionConfig = Field(default_factory=PromotionConfig)
    night: NightConfig = Field(default_factory=NightConfig)
    vectors: VectorsConfig = Field(default_factory=VectorsConfig)

    @model_validator(mode="after")
    def _labels_close_in_time(self) -> Self:
        if self.labels.horizon_days > self.timeline.valid_days:
            msg = (
                f"labels.horizon_days ({self.labels.horizon_days}) is longer than timeline.valid_days "
                f"({self.timeline.valid_days}): no validation label would close before the test"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _given_by_the_log(self) -> Self:
        if self.requests.source == "logged":
            return self
        for key, value in (("requests.mode", self.requests.mode), ("candidates.source", self.candidates.source)):
            if value in {"online", "logged"}:
                msg = (
                    f"{key}: {value} needs requests.source: logged; the requests of engaged_days have no time, query "
                    "or list of their own"
                )
                raise ValueError(msg)
        return self

    def resolved(self) -> dict[str, Any]:
        """Plain values of every key, defaults included."""
        return self.model_dump(mode="json")

    def portable(self) -> dict[str, Any]:
        """The same without this machine's folders and without credentials: what is kept with versions and runs."""
        resolved = self.resolved()
        resolved["output"] = Path(self.output).name
        for name in TABLES:
            if resolved["data"][name] is not None:
                resolved["data"][name]["path"] = Path(resolved["data"][name]["path"]).name
        if Path(self.encoder.model).is_absolute():
            resolved["encoder"]["model"] = Path(self.encoder.model).name
        resolved["tracking"]["uri"] = self.tracking.portable_uri
        return {key: _bare(value) for key, value in resolved.items()}

    def digest(self) -> str:
        """sha256 of `portable`."""
        return hashlib.sha256(json.dumps(self.portable(), sort_keys=True).encode()).hexdigest()


def _bare(value: Any) -> Any:  # noqa: ANN401 - a tree of plain values
    """The same values, without the credentials of the URIs among them."""
    if isinstance(value, dict):
        return {key: _bare(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_bare(inner) for inner in value]
    return without_credentials(value) if isinstance(value, str) else value


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by dotted path.

    >>> flat({"a": {"b": 1, "c": [2]}})
    {'a.b': 1, 'a.c': [2]}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


class ClickDataConfig(FrozenConfig):
    """The input table of the click model."""

    clicks: TableConfig
    quarantine: QuarantineConfig = Field(default_factory=QuarantineConfig)


class ClickConfig(FrozenConfig):
    """All that `nightrank click-model` can be told: a configuration file of its own, since it needs no users."""

    data: ClickDataConfig
    output: Annotated[str, Owner.TONIGHT] = Field(
        default="out", description="Folder of everything that is written; relative to this file."
    )
    seed: Annotated[int, Owner.TRAINING] = Field(default=0, ge=0, lt=2**31, description="Seed of all randomness.")
    encoder: EncoderConfig = Field(default_factory=EncoderConfig)
    click_model: ClickModelConfig = Field(default_factory=ClickModelConfig)

    @model_validator(mode="after")
    def _frozen_part(self) -> Self:
        if self.encoder.train.last is None:
            msg = "encoder.train must be {last: LAYERS} here: the click model reads the layers above frozen ones"
            raise ValueError(msg)
        if self.encoder.backend != "torch":
            msg = "encoder.backend must be torch here: the click model reads what stands between an encoder's layers"
            raise ValueError(msg)
        return self


def load_config(path: Path, overrides: Iterable[str] = ()) -> Config:
    """Read a YAML file and apply overrides.

    Args:
        path: The configuration file.
        overrides: `key.path=value`, the value as YAML.

    Raises:
        ConfigError: Unreadable, an unknown key (the nearest is suggested), or a value out of range; all are
            named.
    """
    return _anchored(_read(path, overrides, Config), path.resolve().parent)


def load_click_config(path: Path, overrides: Iterable[str] = ()) -> ClickConfig:
    """The same for the click model's own configuration file."""
    config = _read(path, overrides, ClickConfig)
    folder = path.resolve().parent
    clicks = config.data.clicks.model_copy(update={"path": _at(folder, config.data.clicks.path)})
    data = config.data.model_copy(update={"clicks": clicks})
    changed = {"data": data, "output": _at(folder, config.output), "encoder": _anchored_encoder(config.encoder, folder)}
    return config.model_copy(update=changed)


_Settings = TypeVar("_Settings", bound=FrozenConfig)


def _read(path: Path, overrides: Iterable[str], kind: type[_Settings]) -> _Settings:
    """A configuration file of some kind, overridden and valid; its paths as they are."""
    try:
        raw = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"no configuration at {str(path)!r}. Write one (see the README), or name it with --config."
        ) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path.name} is not UTF-8 (line {line}). Save it as UTF-8.") from error
    except OSError as error:
        raise ConfigError(f"{path.name} is not readable ({error.strerror}). Name a file with --config.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path.name} is not readable as YAML: {_told(error)}.") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path.name} must hold keys such as `data:`; see the README for an example.")
    for override in overrides:
        _override(raw, override)
    try:
        # A section whose keys are all commented out is null in YAML.
        return kind.model_validate({key: value for key, value in raw.items() if value is not None})
    except ValidationError as error:
        raise ConfigError("\n".join(_explained(fault, kind) for fault in error.errors())) from error


def _told(error: yaml.YAMLError) -> str:
    """What is wrong with a YAML text, and on which line."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return problem if mark is None else f"{problem} (line {mark.line + 1}, column {mark.column + 1})"


def _override(raw: dict[str, Any], override: str) -> None:
    key, found, value = override.partition("=")
    if not found:
        raise ConfigError(f"--set {override}: write it as key.path=value.")
    *parents, last = keys = key.strip().split(".")
    node = raw
    for parent in parents:
        if node.get(parent) is None:
            node[parent] = {}
        node = node[parent]
        if not isinstance(node, dict):
            raise ConfigError(f"--set {key}: {parent!r} holds a value, not keys.")
    try:
        node[last] = load_yaml(value, keys)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {key}: the value is not readable as YAML: {_told(error)}.") from error


def _explained(fault: Mapping[str, Any], kind: type[BaseModel]) -> str:
    """One line: the YAML path, what is wrong, and of an unknown key what became of it or the nearest one."""
    location = [str(part) for part in fault["loc"]]
    path = ".".join(location) or "configuration"
    if fault["type"] == "tuple_type":
        return f"{path}: write a list, such as [ONE, OTHER]"
    if fault["type"] == "literal_error" and (path, fault["input"]) in REMOVED_VALUES:
        return f"{path}: {fault['input']} is no value of it any more. {REMOVED_VALUES[path, fault['input']]}"
    if fault["type"] != "extra_forbidden":
        return f"{path}: {fault['msg'].removeprefix('Value error, ')}"
    if path in REMOVED:
        return f"{path}: there is no such key any more. {REMOVED[path].remedy}"
    known = _keys_at(kind, location[:-1])
    near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(sorted(known))}."
    return f"{path}: unknown key. {hint}"


def _keys_at(model: type[BaseModel], location: list[str]) -> list[str]:
    for part in location:
        if part.isdigit():  # the place in a list
            continue
        field = model.model_fields.get(part)
        arguments = getattr(field.annotation, "__args__", (field.annotation,)) if field else ()
        models = [kind for kind in arguments if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)


def _anchored(config: Config, folder: Path) -> Config:
    """Relative paths made absolute: they are meant from the configuration file."""
    data = config.data
    tables = {
        name: table.model_copy(update={"path": _at(folder, table.path)})
        for name in TABLES
        if (table := getattr(data, name)) is not None
    }
    changed = {
        "data": data.model_copy(update=tables),
        "output": _at(folder, config.output),
        "encoder": _anchored_encoder(config.encoder, folder),
        "tracking": config.tracking.anchored(lambda path: _at(folder, path)),
    }
    return config.model_copy(update=changed)


def _anchored_encoder(encoder: EncoderConfig, folder: Path) -> EncoderConfig:
    with suppress(OSError):  # a name too long for any file
        if (folder / encoder.model).exists():
            return encoder.model_copy(update={"model": _at(folder, encoder.model)})
    return encoder


def _at(folder: Path, path: str) -> str:
    """A path as it is meant from a folder; `~/` is the account's own, and `~name` a name like any other.

    Raises:
        ConfigError: Nobody knows where the account's own folder is, or no file system has such a path.
    """
    if "\0" in path or any("\ud800" <= letter <= "\udfff" for letter in path):
        raise ConfigError(f"{path!r} is no path: it holds a character that no file name has. Write another.")
    if path != "~" and not path.startswith("~/"):
        return str(folder / path)
    try:
        return str(Path(path).expanduser())
    except RuntimeError as error:
        raise ConfigError(
            f"{path}: this account has no home folder that is known. Set HOME, or write the whole path."
        ) from error
