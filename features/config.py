"""What the feature side of nightrank can be told: calendar, requests, labels, candidates, features and the split."""

from datetime import time
from enum import Enum
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_serializer, model_validator
from pydantic.fields import FieldInfo

__all__ = [
    "AttributesConfig",
    "CalendarConfig",
    "CandidatesConfig",
    "FeaturesConfig",
    "FrozenConfig",
    "LabelsConfig",
    "Owner",
    "RequestsConfig",
    "RolesConfig",
    "TextFieldConfig",
    "TimelineConfig",
    "ZoneName",
]


class Owner(Enum):
    """Whose a key of the configuration is: what it takes for a change of it to have an effect.

    The value is what the key's description ends with.
    """

    TONIGHT = "Tonight's."
    """What the file says when a command runs, whatever the version at work was trained with."""
    VERSION = "The version's."
    """What a version's candidates, features and vectors are made by: kept with it, and taken from there."""
    TRAINING = "The training's."
    """Read where something is trained; kept with the version, and no longer read when it ranks."""
    EVALUATION = "The evaluation's."
    """What the file says when versions are judged and promoted."""


class FrozenConfig(BaseModel):
    """Base of every configuration: frozen, and a key it does not know is an error.

    A field with a description is a key, one without is a section of keys.

    Attributes:
        owner: Whose the keys of the section are, but for those that an `Owner` is annotated at. Each description ends
            with it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    owner: ClassVar[Owner | None] = None

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401 - pydantic's own form
        super().__pydantic_init_subclass__(**kwargs)
        for field in cls.model_fields.values():
            told, owner = field.description, cls.owner_of(field)
            if told is not None and owner is not None and not told.endswith(owner.value):
                field.description = f"{told} {owner.value}"

    @classmethod
    def owner_of(cls, field: FieldInfo) -> Owner | None:
        """Whose a key of this section is; None of a section."""
        if field.description is None:
            return None
        return next((told for told in field.metadata if isinstance(told, Owner)), cls.owner)


@cache
def _zones() -> frozenset[str]:
    """Names of all IANA time zones: looking them up reads hundreds of files."""
    return frozenset(available_timezones())


def _known_zone(name: str) -> str:
    if name not in _zones():
        msg = f"{name!r} is no IANA time zone (such as 'Europe/London' or 'UTC')"
        raise ValueError(msg)
    return name


ZoneName = Annotated[str, AfterValidator(_known_zone)]
"""Name of an IANA time zone."""


class TextFieldConfig(FrozenConfig):
    """A text field of the catalogue, and how much of it is read; in YAML its name alone, where all of it is."""

    owner = Owner.VERSION

    field: str = Field(min_length=1, description="Name of the column.")
    max_words: int | None = Field(default=None, ge=1, description="Words that are read, counted by white space.")
    max_chars: int | None = Field(default=None, ge=1, description="Characters that are read.")

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, told: Any) -> Any:  # noqa: ANN401 - before validation it may be anything
        return {"field": told} if isinstance(told, str) else told

    @model_serializer
    def _as_written(self) -> str | dict[str, Any]:
        told = {"field": self.field, "max_words": self.max_words, "max_chars": self.max_chars}
        kept = {name: value for name, value in told.items() if value is not None}
        return kept if len(kept) > 1 else self.field


class CalendarConfig(FrozenConfig):
    """When a batch day opens."""

    owner = Owner.VERSION

    timezone: ZoneName = Field(default="UTC", description="IANA zone of the batch cut-off and of days.")
    cutoff: time = Field(default=time(0, 0), description="Local time at which a batch day opens.")
    ingestion_lag_hours: float = Field(
        default=0.0,
        ge=0,
        le=168,
        description="Hours before the cut-off whose events the batch cannot see yet.",
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
        description="A user's day with an engagement, or each request_id of the events that were shown.",
    )
    mode: Literal["batch", "online"] = Field(
        default="batch",
        description="Ranked the night before, or at request time, when its clock, query and context are known.",
    )
    context: tuple[str, ...] = Field(
        default=(), description="Columns of events that tell of a request (device, page, ...); read in online mode."
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
    """How much an event's value (price times quantity, say) raises its gain."""

    owner = Owner.VERSION

    unit: float = Field(
        gt=0,
        description="Value, as the log has it, that raises a gain by 1, which doubles 2^gain; 3 units raise it by 2, "
        "7 by 3, and so on.",
    )
    most: int = Field(default=4, ge=1, le=29, description="The most by which a gain is raised.")


class LabelsConfig(FrozenConfig):
    """Which events count as success, and for how long after a request."""

    owner = Owner.VERSION

    gains: dict[str, int] = Field(
        default={"click": 1, "cart": 2, "purchase": 3},
        min_length=1,
        description="Graded gain (1-30) of each event type that counts; other types are context only.",
    )
    horizon_days: int = Field(default=1, ge=1, le=90, description="Days after the request in which events make labels.")

    value_gain: ValueGainConfig | None = Field(
        default=None,
        description="Labels that are learned from are raised by the event's value, and NDCG is told by it too; null: "
        "the gain of the event's type alone.",
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


class CandidatesConfig(FrozenConfig):
    """Where candidates come from; how many items each generator may propose for a request (0 switches one off)."""

    owner = Owner.VERSION

    source: Literal["generated", "logged"] = Field(
        default="generated",
        description="What the generators propose; or the list as it was shown, for nights that re-rank given lists.",
    )
    bought_before: int = Field(default=200, ge=0, le=1000, description="The user's own items, by decayed count.")
    popular: int = Field(default=150, ge=0, le=1000, description="Items with most events in the popular window.")
    co_visited: int = Field(default=100, ge=0, le=1000, description="Neighbours of the history by co-occurrence.")
    text_neighbours: int = Field(default=40, ge=0, le=1000, description="Neighbours of the history by item text.")
    similar_users: int = Field(
        default=150, ge=0, le=1000, description="What users alike engaged with in the popular window."
    )
    ease: int = Field(
        default=200, ge=0, le=1000, description="Items that the history speaks for by ridge regressions (EASE)."
    )
    next_basket: int = Field(
        default=200, ge=0, le=1000, description="Items that follow those of the user's last active day."
    )
    popular_in_category: int = Field(
        default=100, ge=0, le=1000, description="Popular items in the categories the user engages with."
    )
    popular_in_segment: int = Field(
        default=100, ge=0, le=1000, description="Popular items among users of the same segment."
    )
    new_arrivals: Annotated[int, Owner.TONIGHT] = Field(
        default=30, ge=0, le=1000, description="New items nearest by text to the history."
    )
    supplied: Annotated[int, Owner.TONIGHT] = Field(
        default=200, ge=0, le=1000, description="Items of your own table (data.candidates)."
    )
    by_query: int = Field(default=40, ge=0, le=1000, description="Items that match the user's query best (BM25).")
    segment: str | None = Field(
        default=None, description="Column of users whose equal values make a segment; none proposes nothing."
    )
    popular_days: int = Field(default=14, ge=1, le=365, description="Window of the popular generators, in days.")
    half_life_days: float = Field(default=30.0, gt=0, description="Half-life of a past event's weight, in days.")
    refresh_days: int = Field(
        default=7, ge=1, le=90, description="Item-to-item neighbours are recomputed every so many days."
    )
    history_items: int = Field(
        default=100,
        ge=1,
        le=1000,
        description="Most recent distinct items of a user that neighbours look at.",
    )
    new_days: int = Field(default=28, ge=1, le=365, description="An item is new for so many days.")
    already_bought: Annotated[Literal["keep", "drop"], Owner.TONIGHT] = Field(
        default="keep", description="Whether items that the user had engaged with before may be candidates."
    )
    blocked: Annotated[tuple[str | int, ...], Owner.TONIGHT] = Field(
        default=(),
        description="Ids of items that are never candidates, read as they are written (00123 keeps its zeros).",
    )
    max_per_request: int = Field(
        default=300,
        ge=1,
        le=10_000,
        description="Candidates kept a request after the union of all generators.",
    )
    new_share: float = Field(
        default=0.5, ge=0, le=1, description="Share of those kept that items new to the user get, if there are so many."
    )

    @property
    def segment_columns(self) -> tuple[str, ...]:
        """`segment`, if configured."""
        return () if self.segment is None else (self.segment,)


class AttributesConfig(FrozenConfig):
    """Columns of your tables that become features: numbers as they are, text as a frozen vocabulary's code."""

    owner = Owner.VERSION

    items: tuple[str, ...] = Field(
        default=(), description="Columns of items; each also gives counts, recency and lift of (user, its value)."
    )
    users: tuple[str, ...] = Field(default=(), description="Columns of users.")


class RolesConfig(FrozenConfig):
    """Which event types play which part; types that do not occur are no fault."""

    owner = Owner.VERSION

    shown: tuple[str, ...] = Field(default=("impression",), description="The item was shown.")
    clicked: tuple[str, ...] = Field(default=("click", "view"), description="It was looked at.")
    bought: tuple[str, ...] = Field(default=("purchase",), description="It was bought.")
    returned: tuple[str, ...] = Field(default=("return",), description="It was sent back.")


class FeaturesConfig(FrozenConfig):
    """Which feature families are on, and what they read beside the log's own columns."""

    owner = Owner.VERSION

    families: tuple[str, ...] = Field(
        default=(
            "user",
            "item",
            "exposure",
            "offers",
            "pair",
            "pair_exposure",
            "similar_users",
            "ease",
            "value",
            "user_category",
            "user_attribute",
            "item_attribute",
            "own_attribute",
            "request",
            "request_time",
            "context",
            "comments",
            "text_title",
            "text_words",
            "text_phrases",
            "text_query",
            "vectors",
        ),
        description="Families that are on, in the order of their columns; `nightrank features list` names all.",
    )
    attributes: AttributesConfig = Field(default_factory=AttributesConfig)
    vectors: tuple[str, ...] = Field(
        default=(), description="Columns of items that hold a vector each (image, audio, ...), compared by cosine."
    )
    sentiment: str | None = Field(default=None, description="Column of events with a comment's sentiment, a number.")
    roles: RolesConfig = Field(default_factory=RolesConfig)
    smoothing_events: float = Field(
        default=5.0, gt=0, description="Events that the prior weighs in a lift (Dirichlet smoothing's mu)."
    )
    text_half_life_days: float = Field(
        default=30.0, gt=0, description="Half-life of a past event's weight in decayed text features, in days."
    )
    max_words: int = Field(
        default=30_000, ge=1, description="Distinct words (and whole text fields) kept, the most frequent in items."
    )
    max_vocabulary: int = Field(
        default=1000, ge=1, description="Values of a text attribute that get a code, the most frequent in the table."
    )

    @property
    def sentiment_columns(self) -> tuple[str, ...]:
        """`sentiment`, if configured."""
        return () if self.sentiment is None else (self.sentiment,)


class TimelineConfig(FrozenConfig):
    """How the days of the log are cut, counted back from its last day: blocks | validation | test."""

    owner = Owner.TRAINING

    test_days: int = Field(default=28, ge=1, description="Last days of the log: the reported test window.")
    valid_days: int = Field(default=14, ge=1, description="Days before the test: early stopping and choices.")
    ranker_days: int = Field(default=84, ge=1, description="Days before validation whose requests train the ranker.")
    blocks: int = Field(
        default=2,
        ge=1,
        le=20,
        description="Blocks the ranker's days are cut into; the encoder that scores one ended before it.",
    )
    min_history_days: int = Field(
        default=28, ge=1, description="Days at the log's start that give history only, never a request."
    )
