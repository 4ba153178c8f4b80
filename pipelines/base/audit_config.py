"""The thresholds of a night's audits."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from features.frozen import FrozenConfig, Owner

__all__ = ["AuditConfig", "AuditsConfig", "with_defaults"]


class AuditConfig(FrozenConfig):
    """One audit: how much is allowed, and what happens beyond."""

    owner = Owner.TONIGHT

    level: Literal["block", "warn", "off"] = Field(
        description="What happens beyond the limit: `block` keeps last night's rankings live (exit code 11), `warn` "
        "says so and publishes, `off` does not look."
    )
    limit: float = Field(
        ge=0,
        description="The largest value that is allowed (for `eve`, `event_types` and `overlap` the "
        "smallest), in the unit that the audit's description names.",
    )


def _audit(level: Literal["block", "warn"], limit: float, description: str) -> Any:  # noqa: ANN401 - as pydantic's Field
    return Field(default=AuditConfig(level=level, limit=limit), description=description)


class AuditsConfig(FrozenConfig):
    """What is looked at before a night goes live. Write `NAME: off`, `NAME: warn` or `NAME: {level: ..., limit: ...}`.

    Audits that compare take the nights that went live before, at most seven; on the first night they say nothing.
    """

    owner = Owner.TONIGHT

    rows: AuditConfig = _audit(
        "block", 0, "Rows that are wrong in themselves: an item twice, a gap in ranks, a score that is not finite."
    )
    users_listed: AuditConfig = _audit("block", 0.1, "Share of the ranked users without a list, above that of before.")
    full_lists: AuditConfig = _audit(
        "block",
        0.5,
        "Share of lists shorter than night.top, candidates.max_per_request and the catalogue, above that of before.",
    )
    fallback: AuditConfig = _audit(
        "block", 0.5, "Share of the ranked users who get the fallback list since night.deadline_minutes passed."
    )
    equal_scores: AuditConfig = _audit("block", 0.05, "Share of lists whose scores are all the same.")
    texts: AuditConfig = _audit(
        "block",
        0.2,
        "Share of the catalogue that lost its text since the last night; on the first night the least share with one.",
    )
    catalogue: AuditConfig = _audit("block", 0.2, "Share of the items on sale that is gone since the last night.")
    users: AuditConfig = _audit("block", 0.2, "Share of the ranked users that is gone since the last night.")
    log: AuditConfig = _audit("block", 0.05, "Share of the log's events that is gone since the last night.")
    past_days: AuditConfig = _audit(
        "block", 0.5, "Share of the events of any recent day that is gone since the last night had that day."
    )
    eve: AuditConfig = _audit(
        "block",
        0.25,
        "Least events of the day before, as a share of the median of the same weekday in the five weeks before; days "
        "of a weekday that mostly had none are not expected, unless data.events.expected names the weekday.",
    )
    event_types: AuditConfig = _audit(
        "block", 0.1, "The same for each event type that had 20 events or more on the median of these days."
    )
    items_shown: AuditConfig = _audit("block", 0.5, "Share of the shown items that is gone since the last night.")
    scores: AuditConfig = _audit(
        "block",
        1.0,
        "Population stability index of the scores by the deciles of the last night, of the same version and rules.",
    )
    overlap: AuditConfig = _audit(
        "warn",
        0.1,
        "Least mean share of the first ten items that a user's last list had too, of the same version and rules.",
    )
    categories: AuditConfig = _audit("warn", 0.3, "Distance (total variation) of the shown categories from the last.")
    strangers: AuditConfig = _audit("warn", 0.1, "Rise of the share of users without any history since the last night.")
    new_items: AuditConfig = _audit("warn", 0.2, "Rise of the share of shown items that nobody had, since the last.")

    @field_validator("*", mode="before")
    @classmethod
    def _short_forms(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401 - before validation it may be anything
        return with_defaults(value, cls.model_fields[str(info.field_name)].default)


def with_defaults(value: Any, default: FrozenConfig) -> Any:  # noqa: ANN401 - before validation it may be anything
    """What is written of a level and a limit, completed: `warn` alone keeps the limit, and a limit alone the level.

    YAML reads a bare `off` as false.
    """
    if value is False:
        value = "off"
    if isinstance(value, str):
        value = {"level": value}
    return default.model_dump() | dict(value) if isinstance(value, Mapping) else value
