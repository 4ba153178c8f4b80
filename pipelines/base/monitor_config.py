"""What `nightrank monitor` looks at, and how much may drift."""

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from features.frozen import FrozenConfig, Owner
from pipelines.base.audit_config import with_defaults

__all__ = ["DriftCheckConfig", "DriftConfig", "MonitorConfig"]


class DriftCheckConfig(FrozenConfig):
    """One check of drift: how much is allowed, and what happens beyond."""

    owner = Owner.TONIGHT

    level: Literal["block", "warn", "off"] = Field(
        description="What happens beyond the limit: with `block` the command ends with 11, with `warn` it says so, "
        "with `off` it does not look. What is live stays live in any case."
    )
    limit: float = Field(ge=0, description="The largest value that is allowed, in the unit that the check names.")


def _check(level: Literal["block", "warn"], limit: float, description: str) -> Any:  # noqa: ANN401 - as pydantic's Field
    return Field(default=DriftCheckConfig(level=level, limit=limit), description=description)


class DriftConfig(FrozenConfig):
    """How far the live night may be from the ones before. Write `NAME: off` or `NAME: {level: ..., limit: ...}`."""

    owner = Owner.TONIGHT

    columns: DriftCheckConfig = _check(
        "warn", 0.1, "Share of the feature columns whose stability index to each night before is above 0.25."
    )
    gone_columns: DriftCheckConfig = _check(
        "block", 0, "Feature columns of the last night that are gone, or without a single value."
    )
    scores: DriftCheckConfig = _check(
        "warn", 0.5, "Population stability index of the scores, the median over nights of the same version and rules."
    )
    text_lengths: DriftCheckConfig = _check("warn", 0.2, "Jensen-Shannon distance of the catalogue's text lengths.")
    text_scripts: DriftCheckConfig = _check("block", 0.2, "Jensen-Shannon distance of the texts' writing systems.")
    text_words: DriftCheckConfig = _check(
        "warn", 0.2, "Jensen-Shannon distance of the texts' words in 64 buckets; another language fills others."
    )
    event_mix: DriftCheckConfig = _check(
        "warn", 0.2, "Jensen-Shannon distance of the last week's mix of event types; one type alone is not judged."
    )
    no_list: DriftCheckConfig = _check("block", 0.2, "Rise of the share of ranked users without a list of their own.")
    no_history: DriftCheckConfig = _check("warn", 0.1, "Rise of the share of ranked users without any history.")
    encoder_age: DriftCheckConfig = _check("warn", 365, "Days since the last one that the encoder learned from.")

    @field_validator("*", mode="before")
    @classmethod
    def _short_forms(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401 - before validation it may be anything
        return with_defaults(value, cls.model_fields[str(info.field_name)].default)


class MonitorConfig(FrozenConfig):
    """What is watched of the published nights."""

    owner = Owner.TONIGHT

    nights: int = Field(default=60, ge=1, description="Latest published nights that are judged and shown.")
    compared_nights: int = Field(
        default=14,
        ge=1,
        description="Nights before the live one that it is compared with, those of them that are good.",
    )
    drift: DriftConfig = Field(default_factory=DriftConfig, description="How far the live night may be from these.")
