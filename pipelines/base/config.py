"""The one configuration file: composed of each package's own, read from YAML, changed by `--set`."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from encoders.config import ClickModelConfig, EncoderConfig
from features.config import (
    CalendarConfig,
    CandidatesConfig,
    FeaturesConfig,
    LabelsConfig,
    RequestsConfig,
    TextFieldConfig,
    TimelineConfig,
    ZoneName,
)
from features.errors import ConfigError
from features.frozen import FrozenConfig, Owner
from features.tables.clocks import EpochUnit
from pipelines.base.audit_config import AuditsConfig
from pipelines.base.config_faults import explained, yaml_fault
from pipelines.base.monitor_config import MonitorConfig
from pipelines.base.outside import without_credentials
from pipelines.base.promotion_config import PromotionConfig
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
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="What columns are called in your file, as `nightrank's name: your name` (user_id: customer).",
    )
    constants: dict[str, str] = Field(
        default_factory=dict,
        description="Columns that have one value in every row, as `nightrank's name: value` (event: purchase).",
    )

    times: EpochUnit | None = Field(
        default=None,
        description="Unit of times that are written as numbers since 1970 in UTC: s, ms, us or ns; null refuses such "
        "numbers.",
    )

    @field_validator("constants", mode="before")
    @classmethod
    def _as_text(cls, constants: Any) -> Any:  # noqa: ANN401 - before validation it may be anything
        return {k: str(v) for k, v in constants.items()} if isinstance(constants, Mapping) else constants


class ItemsConfig(TableConfig):
    """The table of items, your catalogue."""

    text: Annotated[tuple[TextFieldConfig, ...], Owner.VERSION] = Field(
        default=(TextFieldConfig(field="title"),),
        min_length=1,
        description="Text columns that the encoder reads, the most telling first: names, or {field: NAME, max_words: "
        "N}.",
    )

    @property
    def text_fields(self) -> tuple[str, ...]:
        """Names of the text fields."""
        return tuple(text.field for text in self.text)


Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class EventsConfig(TableConfig):
    """The log of events."""

    expected: tuple[Weekday, ...] | None = Field(
        default=None,
        description="Weekdays on which there must be events, [mon, tue, ...]; null: those that had some in four of the "
        "five weeks before. A night after such a day without events is blocked by the audit `eve`.",
    )
    mask_personal: bool = Field(
        default=True,
        description="Whether e-mail addresses and telephone numbers in comments (`text`) and queries (`query`) are "
        "masked before anything is kept of them.",
    )


class QuarantineConfig(FrozenConfig):
    """What happens to rows that break a table's contract."""

    owner = Owner.TONIGHT

    max_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Largest share of a table's rows that may break its contract and be set aside before the command "
        "stops.",
    )


class DataConfig(FrozenConfig):
    """Your input tables: where they lie and what their columns are called."""

    owner = Owner.TONIGHT

    items: ItemsConfig
    events: EventsConfig
    users: TableConfig | None = Field(
        default=None, description="Optional table of users with attributes; users without events get rankings too."
    )
    candidates: TableConfig | None = Field(
        default=None,
        description="Optional table of items that you propose for users (user_id, item_id, perhaps day and score).",
    )
    offers: TableConfig | None = Field(
        default=None,
        description="Optional table of what is planned for items, such as price cuts (item_id, offer, first_day, "
        "last_day, perhaps reach).",
    )
    timezone: ZoneName = Field(default="UTC", description="IANA time zone of timestamps that carry none.")
    quarantine: QuarantineConfig = Field(default_factory=QuarantineConfig)
    max_unknown_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Largest share of a text field's tokens that the encoder may not know before the command stops.",
    )

    @model_validator(mode="after")
    def _times_of_clocks(self) -> Self:
        for name in ("users", "candidates", "offers"):
            table: TableConfig | None = getattr(self, name)
            if table is not None and table.times is not None:
                msg = f"data.{name}.times: the table has no times, and its days are dates. Leave it out"
                raise ValueError(msg)
        return self


class NightConfig(FrozenConfig):
    """The nightly job: what is published, and when it refuses to publish."""

    owner = Owner.TONIGHT

    top: int = Field(default=20, ge=1, le=1000, description="Items published for each user.")
    max_days_behind: int = Field(
        default=3,
        ge=0,
        description="Days that may be missing at the end of the log, up to the day before the one that is ranked.",
    )
    reasons: int = Field(
        default=0,
        ge=0,
        le=20,
        description="Feature families named with each published item as reasons, those that raised its score most; 0 "
        "names none.",
    )
    audits: AuditsConfig = Field(
        default_factory=AuditsConfig, description="What is looked at before a night goes live, and what stops it."
    )
    shard_users: int = Field(default=5000, ge=1, description="Users in each file of the published rankings.")
    lease_minutes: float = Field(
        default=60.0,
        ge=1,
        description="Minutes without a sign of life after which another night takes over from one that is stopped; "
        "before that the second one ends with 75.",
    )
    deadline_minutes: float | None = Field(
        default=None,
        gt=0,
        description="Minutes after its beginning at which a night begins no further shard: the users that are left get "
        "the fallback list, until the night is run again; null lets it take its time.",
    )
    train_every_days: int | None = Field(
        default=None,
        ge=1,
        description="Days after the last training's data end at which `nightly` goes on from the champion "
        "(train --continue); null never trains at night.",
    )


class VectorsConfig(FrozenConfig):
    """The stores of text vectors, so that no text is encoded twice."""

    owner = Owner.TONIGHT

    keep_days: float = Field(
        default=7.0,
        ge=0,
        description="Days after its last use for which a store of text vectors is kept by `nightrank vectors gc`, if "
        "no registered version needs it.",
    )


class Config(FrozenConfig):
    """The whole configuration file. The resolved configuration is stored with every run and bundle.

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
        default="out", description="Folder of everything that nightrank writes; relative to the configuration file."
    )
    seed: Annotated[int, Owner.TRAINING] = Field(
        default=0, ge=0, lt=2**31, description="Seed of everything random, in training and in bootstrap intervals."
    )
    max_memory_gb: Annotated[float, Owner.TONIGHT] = Field(
        default=8.0,
        ge=1,
        description="Memory in GB (without cached files) that `train`, `evaluate` and `score` may take; they work in "
        "smaller portions, learn from fewer requests, or refuse to start.",
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
    monitor: MonitorConfig = Field(default_factory=MonitorConfig)
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
    def _needs_logged_requests(self) -> Self:
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

    @model_validator(mode="after")
    def _policy_of_figures_that_there_are(self) -> Self:
        faults = self.promotion.faults(self.evaluation.cutoffs)
        if self.promotion.metric and "value" in self.promotion.metric and self.labels.value_gain is None:
            faults.append(
                f"promotion.metric: {self.promotion.metric} needs labels.value_gain. Set it, or leave (value)"
            )
        if faults:
            raise ValueError("\n".join(faults))
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
    paths: dict[str, Any] = {}
    for key, value in values.items():
        paths |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return paths


class ClickDataConfig(FrozenConfig):
    """The input table of the click model."""

    clicks: TableConfig
    quarantine: QuarantineConfig = Field(default_factory=QuarantineConfig)


class ClickConfig(FrozenConfig):
    """The configuration file of `nightrank click-model`: one of its own, since it needs no users."""

    data: ClickDataConfig
    output: Annotated[str, Owner.TONIGHT] = Field(
        default="out", description="Folder of everything that nightrank writes; relative to the configuration file."
    )
    seed: Annotated[int, Owner.TRAINING] = Field(
        default=0, ge=0, lt=2**31, description="Seed of everything random in the training."
    )
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
            f"there is no configuration file {str(path)!r}. `nightrank init FOLDER` writes one for "
            "the tables in a folder; `--config` names one that lies elsewhere."
        ) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path.name} is not UTF-8 (line {line}). Save it as UTF-8.") from error
    except OSError as error:
        raise ConfigError(f"{path.name} is not readable ({error.strerror}). Name a file with --config.") from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{path.name} is not readable as YAML: {yaml_fault(error)}. Mend it there; text with a colon or a # needs "
            "quotes."
        ) from error
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{path.name} holds no keys. Write some, such as `data:`; `nightrank help config` lists them."
        )
    for override in overrides:
        _override(raw, override)
    try:
        # A section whose keys are all commented out is null in YAML.
        return kind.model_validate({key: value for key, value in raw.items() if value is not None})
    except ValidationError as error:
        raise ConfigError("\n".join(explained(fault, kind) for fault in error.errors())) from error


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise ConfigError(f"--set {override}: there is no value. Write it as key.path=value.")
    *parents, last = keys = key.strip().split(".")
    node = raw
    for parent in parents:
        if node.get(parent) is None:
            node[parent] = {}
        node = node[parent]
        if not isinstance(node, dict):
            raise ConfigError(f"--set {key}: {parent!r} has a value and no keys below it. Set {parent!r} itself.")
    try:
        node[last] = load_yaml(value, keys)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"--set {key}: the value is not readable as YAML: {yaml_fault(error)}. Put text in quotes."
        ) from error


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
