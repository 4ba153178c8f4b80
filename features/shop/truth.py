"""What is true in the simulated shop: its goods, its users' tastes, and the probability of every click.

A user examines position r with probability r**-eta and clicks what is examined with probability
sigmoid(utility): the position-based model of Craswell et al. (2008), "An experimental comparison of click
position-bias models". Utility comes from what the item's text says (theme, style, language), from its price,
from what was searched for, and from a quality that no text mentions. Tastes move with time.
"""

# U users, I items, T themes, S styles, C countries, G languages

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from itertools import pairwise
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, model_validator

from features.frozen import FrozenConfig
from features.shop.words import EMOJI, LANGUAGES, N_DRAWS, STYLES, THEMES, search_phrases, write_text

__all__ = [
    "COUNTRIES",
    "DAY_SECONDS",
    "SEGMENTS",
    "Bools",
    "Catalogue",
    "Crowd",
    "Floats",
    "Ints",
    "ShopConfig",
    "Truth",
    "draw_catalogue",
    "draw_crowd",
    "draw_fashion",
    "ids",
    "items_frame",
    "search_book",
    "users_frame",
    "utc_times",
]

Ints = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

DAY_SECONDS = 86_400

COUNTRIES = (
    ("GB", 0.35, 0, "en"),
    ("US", 0.25, -6, "en"),
    ("DE", 0.22, 1, "de"),
    ("KZ", 0.07, 5, "ru"),
    ("CN", 0.07, 8, "zh"),
    ("EG", 0.04, 2, "ar"),
)
"""Country, share of users, hours from UTC, language spoken."""

SEGMENTS = (("budget", 0.3, 0.9), ("regular", 0.5, 0.45), ("premium", 0.2, -0.1))
"""Segment, share of users, utility lost per standard deviation of price."""

# Utilities, in log-odds of a click on an examined item.
_BASE = -4.4
_TASTES = (4.4, 3.4, 2.4)  # of a user, strongest first
_NEIGHBOUR_SHELF = 0.25  # share of a taste that reaches the other themes of its category
_STYLES_S = np.array([0.9, 0.9, -0.9] + [0.0] * (len(STYLES) - 3))
_QUALITY_SPREAD = 0.5
_FOREIGN, _NATIVE = -1.5, 0.5
_WANTED, _NEARLY_WANTED, _UNWANTED = 1.5, -0.5, -2.0  # after a search

_CATEGORY_T = np.array([theme.category for theme in THEMES])
_PRICE_T: Floats = np.array([theme.typical_price for theme in THEMES])
_SAME_CATEGORY_TT: Bools = _CATEGORY_T[:, None] == _CATEGORY_T[None, :]
_SAME_THEME_TT: Bools = np.eye(len(THEMES), dtype=bool)
_LANGUAGE_FIT_CG: Floats = np.array(
    [[0.0] + [_NATIVE if own == other else _FOREIGN for other in LANGUAGES[1:]] for *_, own in COUNTRIES]
)
# Rows are what was searched for; -1, nothing, is the last row.
_SEARCH_FIT: Floats = np.pad(
    np.where(_SAME_THEME_TT, _WANTED, np.where(_SAME_CATEGORY_TT, _NEARLY_WANTED, _UNWANTED)),
    ((0, 1), (0, 0)),
)
_SIGNED_UP_BEFORE = 0.8  # share of users


class ShopConfig(FrozenConfig):
    """What is simulated: sizes, behaviour of the users, and what the shop logs."""

    seed: int = Field(default=0, ge=0, description="Same seed and configuration, same shop bit for bit.")
    users: int = Field(default=500, ge=1, description="Number of users.")
    items: int = Field(default=1000, ge=1, description="Number of items, arrivals included.")
    days: int = Field(default=60, ge=1, le=3650, description="Length of the log in UTC days.")
    start: date = Field(default=date(2024, 1, 1), description="First UTC day of the log.")
    requests_per_user_per_day: float = Field(default=0.25, gt=0, le=100, description="Mean visits, a list each.")
    list_length: int = Field(default=20, ge=1, le=1000, description="Items shown in a request.")
    position_bias: float = Field(
        default=1.0,
        ge=0,
        le=5,
        description="eta: position r is examined with chance r**-eta; 0: always.",
    )
    query_share: float = Field(default=0.3, ge=0, le=1, description="Share of requests that begin with a query.")
    exploration_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of requests without a query whose list is random.",
    )
    browse_share: float = Field(
        default=0.15, ge=0, le=1, description="Share of visits that also open one item outside any list."
    )
    repeat_share: float = Field(
        default=0.6, ge=0, le=1, description="Mean chance that a user buys a used-up good again, unprompted."
    )
    switch_share: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="Share of users whose main taste turns on one day; others drift.",
    )
    new_items_per_day: float = Field(
        default=0.002, ge=0, lt=1, description="Share of the items that arrives on each day of the log."
    )
    german_share: float = Field(default=0.04, ge=0, le=1, description="Share of items with German text.")
    russian_share: float = Field(default=0.02, ge=0, le=1, description="Share of items with Russian text.")
    chinese_share: float = Field(default=0.02, ge=0, le=1, description="Share of items with Chinese text.")
    arabic_share: float = Field(default=0.01, ge=0, le=1, description="Share of items with Arabic text.")
    emoji_share: float = Field(default=0.02, ge=0, le=1, description="Share of titles that end in an emoji.")
    bare_share: float = Field(
        default=0.1, ge=0, le=1, description="Share of items without description: half null, half empty."
    )
    impressions: bool = Field(default=True, description="Log impressions; all else is the same without.")

    @property
    def language_shares(self) -> tuple[float, ...]:
        """Share of items in each of `shopwords.LANGUAGES`."""
        foreign = (self.german_share, self.russian_share, self.chinese_share, self.arabic_share)
        return (1.0 - sum(foreign), *foreign)

    @property
    def arrivals(self) -> list[int]:
        """How many items arrive on each day of the log."""
        share = self.new_items_per_day * self.items
        edges = [int(share * day) for day in range(self.days + 1)]
        return [later - earlier for earlier, later in pairwise(edges)]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        faults = []
        if self.language_shares[0] < 0:
            faults.append("german_, russian_, chinese_ and arabic_share sum to more than 1: lower one")
        first_day_items = self.items - sum(self.arrivals)
        if first_day_items < self.list_length:
            faults.append(
                f"{max(first_day_items, 0)} items on the first day are too few for a list of {self.list_length}: "
                "raise items, or lower list_length, new_items_per_day or days"
            )
        if faults:
            raise ValueError("; ".join(faults))
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """What is true of the items, row by row of `Shop.items`."""

    theme_I: Ints
    style_I: Ints
    language_I: Ints
    quality_I: Floats  # utility that no text mentions
    expense_I: Floats  # log price above the theme's typical price, in standard deviations
    price_I: Floats
    available_I: Ints  # seconds since the start of the log, negative before it


@dataclass(frozen=True, slots=True, eq=False)
class Crowd:
    """What is true of the users, row by row of `Shop.users`."""

    early_UT: Floats  # utility of each theme at the start of the log
    late_UT: Floats  # and at its end
    turn_U: Ints  # day on which late replaces early; -1: it does so gradually
    style_US: Floats
    country_U: Ints
    segment_U: Ints
    sensitivity_U: Floats  # utility lost per standard deviation of price
    repeat_U: Floats  # chance of buying a used-up good again
    activity_U: Floats  # visits relative to the mean user
    signed_up_U: Ints  # seconds since the start of the log


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The probabilities behind the log.

    Attributes:
        config: Settings of the simulation.
        catalogue: The items.
        crowd: The users.
        item_ids: Id of each row of `catalogue`.
        user_ids: Id of each row of `crowd`.
        searches: query, theme, language: every query there is, and what it is after.
    """

    config: ShopConfig
    catalogue: Catalogue
    crowd: Crowd
    item_ids: pl.Series
    user_ids: pl.Series
    searches: pl.DataFrame

    def tastes(self, users: Ints, themes: Ints, days: Ints | int) -> Floats:
        """Utility of themes for users on days (0 is the first of the log); the arrays broadcast."""
        turn = self.crowd.turn_U[users]
        late = np.where(turn < 0, np.clip(np.true_divide(days, self.config.days), 0.0, 1.0), turn <= days)
        taste: Floats = (1.0 - late) * self.crowd.early_UT[users, themes] + late * self.crowd.late_UT[users, themes]
        return taste

    def attraction(self, users: Ints, items: Ints, days: Ints | int, wanted: Ints | int = -1) -> Floats:
        """Chance of a click once examined; the arrays broadcast.

        Args:
            users: Rows of the crowd.
            items: Rows of the catalogue.
            days: Days since the start of the log.
            wanted: The themes searched for, -1 for none.
        """
        goods, crowd = self.catalogue, self.crowd
        theme = goods.theme_I[items]
        utility = _BASE + self.tastes(users, theme, days) + goods.quality_I[items]
        utility += crowd.style_US[users, goods.style_I[items]]
        utility -= crowd.sensitivity_U[users] * goods.expense_I[items]
        utility += _LANGUAGE_FIT_CG[crowd.country_U[users], goods.language_I[items]]
        utility += _SEARCH_FIT[wanted, theme]
        chance: Floats = 1.0 / (1.0 + np.exp(-utility))
        return chance

    def affinity(self, pairs: pl.DataFrame) -> pl.Series:
        """Chance that the user clicks the item once examined, for each row.

        Args:
            pairs: `user_id`, `item_id`, `timestamp` (UTC), and `query` where the search counts (null: none).

        Returns:
            Float64 named `affinity`, in the order of the rows.
        """
        wanted: Ints | int = -1
        if "query" in pairs.columns:
            book = self.searches
            wanted = pairs["query"].replace_strict(book["query"], book["theme"], default=-1).to_numpy()
        days = (pairs["timestamp"].dt.date() - self.config.start).dt.total_days().to_numpy()
        users, items = _rows(pairs["user_id"], self.user_ids), _rows(pairs["item_id"], self.item_ids)
        return pl.Series("affinity", self.attraction(users, items, days, wanted))


def _rows(ids: pl.Series, all_ids: pl.Series) -> Ints:
    return ids.replace_strict(all_ids, pl.int_range(len(all_ids), eager=True)).to_numpy()


def draw_catalogue(config: ShopConfig, rng: np.random.Generator) -> Catalogue:
    """Fill the shelves: all traits are independent of each other and of the time an item arrives."""
    n_items = config.items
    theme_I = rng.integers(len(THEMES), size=n_items)
    expense_I = np.clip(rng.normal(size=n_items), -2.5, 2.5)
    arrival_days = np.repeat(np.arange(config.days), config.arrivals)
    available_I = -rng.integers(1, 365 * DAY_SECONDS, size=n_items)
    arriving = rng.permutation(n_items)[: len(arrival_days)]
    available_I[arriving] = arrival_days * DAY_SECONDS + rng.integers(DAY_SECONDS, size=len(arriving))
    return Catalogue(
        theme_I=theme_I,
        style_I=rng.integers(len(STYLES), size=n_items),
        language_I=rng.choice(len(LANGUAGES), size=n_items, p=config.language_shares),
        quality_I=_QUALITY_SPREAD * rng.normal(size=n_items),
        expense_I=expense_I,
        price_I=np.maximum(np.round(_PRICE_T[theme_I] * np.exp(0.4 * expense_I), 2), 0.5),
        available_I=available_I,
    )


def draw_fashion(rng: np.random.Generator) -> Floats:
    """(themes,) how much likelier, in log-odds, each theme is somebody's taste; 0 for the one most in fashion."""
    fashion_T: Floats = -0.5 * np.log1p(rng.permutation(len(THEMES)))
    return fashion_T


def draw_crowd(config: ShopConfig, fashion_T: Floats, rng: np.random.Generator) -> Crowd:
    """Invite the users: a few tastes each, some in fashion, of which one is new at the end of the log."""
    n_users, n_themes = config.users, len(THEMES)
    ranked_UT = np.argsort(-(fashion_T + rng.gumbel(size=(n_users, n_themes))), axis=1)
    first, second, third, newcomer = ranked_UT[:, :4].T
    switches = rng.random(n_users) < config.switch_share
    segment_U = rng.choice(len(SEGMENTS), size=n_users, p=[share for _, share, _ in SEGMENTS])
    member_for = rng.integers(1, 730 * DAY_SECONDS, size=n_users)
    joins_at = rng.integers(config.days * DAY_SECONDS, size=n_users)
    return Crowd(
        early_UT=_taste_for(first, second, third),
        late_UT=_taste_for(np.where(switches, newcomer, first), second, np.where(switches, third, newcomer)),
        turn_U=np.where(switches, (config.days * rng.uniform(0.3, 0.7, size=n_users)).astype(np.int64), -1),
        style_US=rng.permuted(np.tile(_STYLES_S, (n_users, 1)), axis=1),
        country_U=rng.choice(len(COUNTRIES), size=n_users, p=[share for _, share, _, _ in COUNTRIES]),
        segment_U=segment_U,
        sensitivity_U=np.array([loss for *_, loss in SEGMENTS])[segment_U] + 0.15 * rng.normal(size=n_users),
        repeat_U=np.clip(config.repeat_share + rng.uniform(-0.2, 0.2, size=n_users), 0.0, 1.0),
        activity_U=np.exp(0.7 * rng.normal(size=n_users) - 0.7**2 / 2),
        signed_up_U=np.where(rng.random(n_users) < _SIGNED_UP_BEFORE, -member_for, joins_at),
    )


def _taste_for(*themes_U: Ints) -> Floats:
    """Utility of every theme for users whose tastes are, strongest first, for these."""
    reach_TT = np.where(_SAME_THEME_TT, 1.0, np.where(_SAME_CATEGORY_TT, _NEIGHBOUR_SHELF, 0.0))
    taste_UT: Floats = np.zeros((len(themes_U[0]), len(THEMES)))
    for strength, theme_U in zip(_TASTES, themes_U, strict=True):
        taste_UT += strength * reach_TT[theme_U]
    return taste_UT


def search_book() -> pl.DataFrame:
    """Every query there is with its `theme` and `language`, which number `THEMES` and `LANGUAGES`."""
    rows = [
        (query, theme, language)
        for language in range(len(LANGUAGES))
        for theme, shelf in enumerate(THEMES)
        for query in search_phrases(shelf, language)
    ]
    return pl.DataFrame(rows, schema={"query": pl.String, "theme": pl.Int64, "language": pl.Int64}, orient="row")


def ids(prefix: str, numbers: Ints) -> pl.Series:
    """Ids of one width, so that they sort as their numbers do."""
    width = max(6, len(str(len(numbers))))
    return prefix + pl.Series(numbers).cast(pl.String).str.zfill(width)


def utc_times(config: ShopConfig, seconds: Ints) -> pl.Series:
    """Seconds since the start of the log as UTC times."""
    start_us = int(datetime.combine(config.start, time(), tzinfo=UTC).timestamp()) * 1_000_000
    return pl.Series(seconds.astype(np.int64) * 1_000_000 + start_us).cast(pl.Datetime("us", "UTC"))


def items_frame(truth: Truth, rng: np.random.Generator) -> pl.DataFrame:
    """Put the goods into words: item_id, title, description, category, price, available_from."""
    config, goods = truth.config, truth.catalogue
    shelves = [THEMES[theme] for theme in goods.theme_I]
    styles = [STYLES[style] for style in goods.style_I]
    draws = rng.random((config.items, N_DRAWS)).tolist()
    texts = [write_text(*of) for of in zip(shelves, styles, goods.language_I.tolist(), draws, strict=True)]
    emoji = [EMOJI[shelf.category] for shelf in shelves]
    smiling, bareness = rng.random((2, config.items))
    return pl.DataFrame(
        {
            "item_id": truth.item_ids,
            "title": [title for title, _ in texts],
            "description": [description for _, description in texts],
            "category": [shelf.category for shelf in shelves],
            "price": goods.price_I,
            "available_from": utc_times(config, goods.available_I),
        }
    ).with_columns(
        title=pl.col("title") + pl.Series(np.where(smiling < config.emoji_share, [f" {sign}" for sign in emoji], "")),
        description=pl.when(pl.Series(bareness < config.bare_share / 2))
        .then(None)
        .when(pl.Series(bareness < config.bare_share))
        .then(pl.lit(""))
        .otherwise("description"),
    )


def users_frame(truth: Truth) -> pl.DataFrame:
    """The users as the shop exports them: user_id, country, segment, signed_up."""
    crowd = truth.crowd
    return pl.DataFrame(
        {
            "user_id": truth.user_ids,
            "country": [COUNTRIES[country][0] for country in crowd.country_U],
            "segment": [SEGMENTS[segment][0] for segment in crowd.segment_U],
            "signed_up": utc_times(truth.config, crowd.signed_up_U),
        }
    )
