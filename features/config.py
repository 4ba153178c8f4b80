"""Configuration of the feature side: calendar, requests, labels, candidates, features and timeline."""

import warnings
from datetime import time
from functools import cache
from typing import Annotated, Any, Literal, Self
from zoneinfo import available_timezones

from pydantic import AfterValidator, Field, field_validator, model_serializer, model_validator

from features.frozen import FrozenConfig, Owner

__all__ = [
    "RENAMED_FAMILIES",
    "AttributesConfig",
    "CalendarConfig",
    "CandidatesConfig",
    "FeaturesConfig",
    "LabelsConfig",
    "RequestsConfig",
    "RolesConfig",
    "TextFieldConfig",
    "TimelineConfig",
    "ZoneName",
    "family_name",
]

RENAMED_FAMILIES = {"own_attribute": "profile_attribute", "user_attribute": "user_item_attribute"}
"""Families by the name that they had once: configurations and bundles may still say it, no other family may have it."""


def family_name(name: str) -> str:
    """The name of a family as it is today; an old name is answered with a warning, once a process."""
    if name not in RENAMED_FAMILIES:
        return name
    today = RENAMED_FAMILIES[name]
    warnings.warn(f"the feature family {name!r} is called {today!r} now; write so in features.families", stacklevel=2)
    return today


@cache
def _zones() -> frozenset[str]:
    """Names of all IANA time zones: looking them up reads hundreds of files."""
    return frozenset(available_timezones())


def _iana_zone(name: str) -> str:
    if name not in _zones():
        msg = f"{name!r} is no IANA time zone (such as 'Europe/London' or 'UTC')"
        raise ValueError(msg)
    return name


ZoneName = Annotated[str, AfterValidator(_iana_zone)]
"""Name of an IANA time zone."""


class TextFieldConfig(FrozenConfig):
    """A text field of the catalogue, and how much of it is read; in YAML its name alone, where all of it is."""

    owner = Owner.VERSION

    field: str = Field(min_length=1, description="Name of a text column of the items table.")
    max_words: int | None = Field(
        default=None,
        ge=1,
        description="Words of the field that are read, from its start, counted by white space; null reads all of it.",
    )
    max_chars: int | None = Field(
        default=None, ge=1, description="Characters of the field that are read, from its start; null reads all of it."
    )

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, written: Any) -> Any:  # noqa: ANN401 - before validation it may be anything
        return {"field": written} if isinstance(written, str) else written

    @model_serializer
    def _as_written(self) -> str | dict[str, Any]:
        keys = {"field": self.field, "max_words": self.max_words, "max_chars": self.max_chars}
        kept = {name: value for name, value in keys.items() if value is not None}
        return kept if len(kept) > 1 else self.field


class CalendarConfig(FrozenConfig):
    """When a day of the nightly job begins."""

    owner = Owner.VERSION

    timezone: ZoneName = Field(
        default="UTC",
        description="IANA time zone in which days and the batch cut-off are counted, such as Europe/London.",
    )
    cutoff: time = Field(
        default=time(0, 0),
        description="Local time of day at which a batch day opens and the nightly job stops reading events; write it "
        "in quotes ('03:30').",
    )
    ingestion_lag_hours: float = Field(
        default=0.0,
        ge=0,
        le=168,
        description="Hours by which events arrive late: those of the last hours before the cut-off are not used, "
        "since a real night would not have them yet.",
    )

    @field_validator("cutoff")
    @classmethod
    def _local(cls, cutoff: time) -> time:
        if cutoff.tzinfo is not None:  # which pydantic also gives to a number
            msg = (
                "write it as a local time in quotes, such as '13:30': YAML reads a bare 13:30 as a number, "
                "and the zone stands in calendar.timezone"
            )
            raise ValueError(msg)
        return cutoff


_NO_CONTEXT = frozenset(
    (
        *("event_id", "user_id", "item_id", "event", "timestamp", "request_id", "position", "propensity", "value"),
        *("query", "text", "extracted_at", "user", "item", "gain", "kind", "day", "label_day", "request", "as_of_day"),
        *("requested_at", "shown", "positions"),
    )
)


class RequestsConfig(FrozenConfig):
    """What a ranking request is, and when it is answered."""

    owner = Owner.VERSION

    source: Literal["engaged_days", "logged"] = Field(
        default="engaged_days",
        description="What one ranking request is: `engaged_days` makes one of each day on which a user did something "
        "that counts, `logged` one of each request_id in the events that were shown.",
    )
    mode: Literal["batch", "online"] = Field(
        default="batch",
        description="When requests are answered: `batch` ranks the night before, `online` when the request is made, "
        "and may then use its time, query and context.",
    )
    context: tuple[str, ...] = Field(
        default=(),
        description="Columns of the events table that describe a request (device, page, ...) and become features; "
        "read in online mode only.",
    )

    @field_validator("context")
    @classmethod
    def _of_your_own(cls, context: tuple[str, ...]) -> tuple[str, ...]:
        taken = sorted(_NO_CONTEXT.intersection(context))
        if taken:
            msg = f"{', '.join(taken)} cannot be context: these names mean something else. Name columns of your own"
            raise ValueError(msg)
        return context

    @property
    def context_columns(self) -> tuple[str, ...]:
        """`context` where it is read: in online mode."""
        return self.context if self.mode == "online" else ()

    @property
    def log_columns(self) -> tuple[str, ...]:
        """Columns of events that requests are made of, beside those that every log keeps."""
        return ("request_id", "position", *self.context_columns) if self.source == "logged" else ()


class ValueGainConfig(FrozenConfig):
    """How an event's value, such as price times quantity, raises its label."""

    owner = Owner.VERSION

    unit: float = Field(
        gt=0,
        description="Event value, in the unit of the log's `value` column (money, say), that raises a label by 1 and "
        "so doubles its gain 2^label; 3 units raise it by 2, 7 by 3, and so on.",
    )
    most: int = Field(default=4, ge=1, le=29, description="The most by which an event's value may raise its label.")


class LabelsConfig(FrozenConfig):
    """Which events count as success, and for how long after a request."""

    owner = Owner.VERSION

    gains: dict[str, int] = Field(
        default={"click": 1, "cart": 2, "purchase": 3},
        min_length=1,
        description="Graded relevance, 1 to 30, of each event type that counts as a success; other event types are "
        "only history.",
    )
    horizon_days: int = Field(
        default=1, ge=1, le=90, description="Days after a request in which a user's events count as its labels."
    )

    value_gain: ValueGainConfig | None = Field(
        default=None,
        description="Raises training labels by the value of the event, and reports NDCG by value beside the usual "
        "one; null leaves labels to the event type alone.",
    )

    @model_validator(mode="after")
    def _raised_in_range(self) -> Self:
        if self.value_gain is not None and max(self.gains.values()) + self.value_gain.most > 30:  # noqa: PLR2004
            msg = (
                f"labels.value_gain.most ({self.value_gain.most}) raises the largest of labels.gains "
                f"({max(self.gains.values())}) above 30; lower one of them"
            )
            raise ValueError(msg)
        return self

    @field_validator("gains")
    @classmethod
    def _in_range(cls, gains: dict[str, int]) -> dict[str, int]:
        wrong = {kind: gain for kind, gain in gains.items() if not 1 <= gain <= 30}  # noqa: PLR2004
        if wrong:
            msg = f"gains must lie in 1..30 (leave out a type that is no success), got {wrong}"
            raise ValueError(msg)
        return gains


Proposals = Annotated[int, Field(ge=0, le=1000)]
"""How many candidates a generator may propose for a request."""


class CandidatesConfig(FrozenConfig):
    """Which items are ranked for a request: how many each generator may propose (0 switches it off)."""

    owner = Owner.VERSION

    source: Literal["generated", "logged"] = Field(
        default="generated",
        description="`generated` lets the generators below propose candidates; `logged` takes the list as it was "
        "shown, for a night that only re-ranks your lists.",
    )
    bought_before: Proposals = Field(
        default=200, description="Candidates from the user's own past items, by decayed count."
    )
    popular: Proposals = Field(
        default=150, description="Candidates from the items with most events in the last `popular_days`."
    )
    co_visited: Proposals = Field(
        default=100, description="Candidates that often occur together with the user's past items."
    )
    text_neighbours: Proposals = Field(
        default=40, description="Candidates with texts like those of the user's past items."
    )
    similar_users: Proposals = Field(
        default=150, description="Candidates from what similar users chose in the last `popular_days`."
    )
    ease: Proposals = Field(default=200, description="Candidates of EASE, a linear model of items that go together.")
    next_basket: Proposals = Field(
        default=200, description="Candidates that tend to follow those of the user's last active day."
    )
    popular_in_category: Proposals = Field(
        default=100, description="Candidates popular in the categories that the user engages with."
    )
    popular_in_segment: Proposals = Field(
        default=100, description="Candidates popular among users of the same `segment`."
    )
    new_arrivals: Annotated[Proposals, Owner.TONIGHT] = Field(
        default=30, description="Candidates from new items, nearest by text to the history."
    )
    supplied: Annotated[Proposals, Owner.TONIGHT] = Field(
        default=200, description="Candidates from your own table under data.candidates."
    )
    by_query: Proposals = Field(
        default=40, description="Candidates whose text matches the user's search query best, by BM25."
    )
    extra: dict[str, Proposals] = Field(
        default={},
        description="Candidates from each generator of your own, by its name (entry point `nightrank.generators`).",
    )
    segment: str | None = Field(
        default=None, description="Column of the users table whose equal values make a segment; null: none."
    )
    popular_days: int = Field(
        default=14, ge=1, le=365, description="Days before a request in which popularity is counted."
    )
    half_life_days: float = Field(
        default=30.0, gt=0, description="Days after which a past event counts half as much in the generators."
    )
    refresh_days: int = Field(
        default=7,
        ge=1,
        le=90,
        description="Days after which the models behind `co_visited` and `next_basket` are made anew.",
    )
    history_items: int = Field(
        default=100,
        ge=1,
        le=1000,
        description="Most recent distinct items of a user that the generators look at.",
    )
    new_days: int = Field(
        default=28, ge=1, le=365, description="Days for which an item counts as new after it appeared."
    )
    already_bought: Annotated[Literal["keep", "drop"], Owner.TONIGHT] = Field(
        default="keep",
        description="Whether items that the user already engaged with may be recommended again: `keep` or `drop`.",
    )
    blocked: Annotated[tuple[str | int, ...], Owner.TONIGHT] = Field(
        default=(),
        description="Ids of items that are never recommended, read exactly as they are written (00123 keeps its "
        "zeros).",
    )
    max_per_request: int = Field(
        default=300,
        ge=1,
        le=10_000,
        description="Candidates that are ranked for each request, after the generators' proposals are merged and the "
        "weakest are cut.",
    )
    new_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of the candidates kept for items that are new to the user, if there are so many.",
    )

    @property
    def segment_columns(self) -> tuple[str, ...]:
        """`segment`, if configured."""
        return () if self.segment is None else (self.segment,)


class AttributesConfig(FrozenConfig):
    """Columns of your tables that become features: numbers as they are, texts as codes of a fixed vocabulary."""

    owner = Owner.VERSION

    items: tuple[str, ...] = Field(
        default=(),
        description="Columns of the items table that become features: the value itself, and how often and how lately "
        "the user met it.",
    )
    users: tuple[str, ...] = Field(default=(), description="Columns of the users table that become features.")


class RolesConfig(FrozenConfig):
    """Which event types mean shown, clicked, bought and returned; types that do not occur do no harm."""

    owner = Owner.VERSION

    shown: tuple[str, ...] = Field(
        default=("impression",), description="Event types that mean that the item was shown to the user."
    )
    clicked: tuple[str, ...] = Field(
        default=("click", "view"), description="Event types that mean that the user looked at the item."
    )
    bought: tuple[str, ...] = Field(
        default=("purchase",), description="Event types that mean that the user bought the item."
    )
    returned: tuple[str, ...] = Field(
        default=("return",), description="Event types that mean that the user sent the item back."
    )


_FAMILIES = (
    "user", "item", "exposure", "offers", "pair", "pair_exposure", "similar_users", "ease", "value",
    "user_category", "user_item_attribute", "item_attribute", "profile_attribute", "request", "request_time",
    "context", "comments", "text_title", "text_words", "text_phrases", "text_query", "vectors",
)  # fmt: skip
"""The feature families that are on unless the configuration says otherwise, in the order of their columns."""


class FeaturesConfig(FrozenConfig):
    """Which feature families are computed, and which further columns they read."""

    owner = Owner.VERSION

    families: tuple[str, ...] = Field(
        default=_FAMILIES,
        description="Feature families that are computed, in the order of their columns; `nightrank features list` "
        "describes them all.",
    )
    attributes: AttributesConfig = Field(default_factory=AttributesConfig)
    vectors: tuple[str, ...] = Field(
        default=(),
        description="Columns of the items table that hold a vector each (of an image, say), which is compared with "
        "those of the user's history by cosine.",
    )
    sentiment: str | None = Field(
        default=None,
        description="Column of the events table that holds the sentiment of a comment as a number; null if there is "
        "none.",
    )
    roles: RolesConfig = Field(default_factory=RolesConfig)
    smoothing_events: float = Field(
        default=5.0,
        gt=0,
        description="Events that the average counts for in a rate or lift of few observations (Dirichlet smoothing); "
        "more pulls rare cases nearer to the average.",
    )
    text_half_life_days: float = Field(
        default=30.0,
        gt=0,
        description="Days after which a past event counts half as much in features of words and phrases.",
    )
    max_words: int = Field(
        default=30_000,
        ge=1,
        description="Distinct words, and distinct whole text fields, that features may refer to; the most frequent in "
        "the catalogue are kept.",
    )
    max_vocabulary: int = Field(
        default=1000,
        ge=1,
        description="Distinct values of a text attribute that get a code of their own; the most frequent in the table "
        "are kept.",
    )

    @field_validator("families")
    @classmethod
    def _as_called_today(cls, families: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(family_name(name) for name in families)

    @property
    def sentiment_columns(self) -> tuple[str, ...]:
        """`sentiment`, if configured."""
        return () if self.sentiment is None else (self.sentiment,)


class TimelineConfig(FrozenConfig):
    """How the days of the log are divided, counted back from its last day: blocks, validation, test."""

    owner = Owner.TRAINING

    test_days: int = Field(
        default=28,
        ge=1,
        description="Days at the end of the log that form the test window, on which results are reported.",
    )
    valid_days: int = Field(
        default=14, ge=1, description="Days before the test window that stop trainings early and decide choices."
    )
    ranker_days: int = Field(
        default=84, ge=1, description="Days before the validation window whose requests train the ranker."
    )
    blocks: int = Field(
        default=2,
        ge=1,
        le=20,
        description="Blocks that the ranker's days are cut into; each is scored by an encoder that was trained only "
        "on what lies before it.",
    )
    min_history_days: int = Field(
        default=28,
        ge=1,
        description="Days at the start of the log that serve as history only, and of which no request is made.",
    )
