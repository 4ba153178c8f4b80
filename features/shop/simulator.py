"""A simulated shop: who visits, what it shows them, what they do, and what it logs of it.

No public log holds clicks, purchases, positions and text together, so methods are first tried here, where
`features.shop.truth` has the true probabilities. The shop learns popularity and habits from clicks and views, and each
day it ranks by what it knew the night before. Pure: a configuration in, frames out.
"""

# U users, I items, T themes, R requests of a day, L list length, P draws for a list, N items on the shelves

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import polars as pl

from features.shop.truth import (
    COUNTRIES,
    DAY_SECONDS,
    Bools,
    Floats,
    Ints,
    ShopConfig,
    Truth,
    draw_catalogue,
    draw_crowd,
    draw_fashion,
    ids,
    items_frame,
    search_book,
    users_frame,
    utc_times,
)
from features.shop.words import LANGUAGES, THEMES

__all__ = ["Shop", "ShopConfig", "Truth", "daily_extracts", "simulate"]

_KINDS = ("impression", "click", "view", "cart", "purchase")
_IMPRESSION, _CLICK, _VIEW, _CART, _PURCHASE = range(len(_KINDS))
_LOGGED = ("kind", "user", "item", "second", "request", "position")

_HOURS = np.array([1, 1, 0.5, 0.5, 0.5, 1, 3, 5, 6, 6, 6, 6, 8, 7, 6, 6, 7, 8, 10, 12, 12, 10, 6, 3])  # local
_WEEKEND, _WEEKDAY = 1.25, 0.9  # visits relative to the mean day
_OFFSET_C: Ints = np.array([offset for _, _, offset, _ in COUNTRIES])
_LANGUAGE_C: Ints = np.array([LANGUAGES.index(language) for *_, language in COUNTRIES])
_REFILL_T: Ints = np.array([theme.refill_days for theme in THEMES])

# Where the items of a list come from: bounds of a uniform draw.
_PERSONAL, _SEARCHED, _RANDOM = 0.45, 0.75, 0.9  # personal | personal unless searched | popular | random


@dataclass(frozen=True, slots=True, eq=False)
class Shop:
    """The tables a shop would export, and the truth behind them.

    Attributes:
        items: item_id, title, description, category, price, available_from; ids and row order carry no information.
        users: user_id, country, segment, signed_up; ids and row order carry no information.
        events: The columns of `schemas.Events` but `text`, by timestamp, then event_id. `request_id` and
            `query` stand on all that a list led to, `position` on impressions and clicks, `propensity` (the
            chance that the position is examined) on impressions, `value` (the price) on purchases.
        requests: request_id, user_id, requested_at, query, randomised; by time, as their ids.
        truth: The probabilities behind the log.
    """

    items: pl.DataFrame
    users: pl.DataFrame
    events: pl.DataFrame
    requests: pl.DataFrame
    truth: Truth


def simulate(config: ShopConfig, *, crowd: int = 0) -> Shop:
    """Open the shop for `config.days` days and export what it logged.

    No user acts before `signed_up` and no item is shown before the first UTC midnight after `available_from`.

    Args:
        config: What is simulated.
        crowd: Which users come. The goods and the fashion are the shop's whoever comes; ids of users, requests and
            events begin anew with each crowd, and what the shop learns it learns of one crowd alone.
    """
    stocking, inviting, trading = (np.random.default_rng([config.seed, stream]) for stream in range(3))
    fashion_T = draw_fashion(inviting)
    if crowd:
        inviting, trading = (np.random.default_rng([config.seed, stream, crowd]) for stream in (1, 2))
    truth = Truth(
        config=config,
        catalogue=draw_catalogue(config, stocking),
        crowd=draw_crowd(config, fashion_T, inviting),
        item_ids=ids("i", stocking.permutation(config.items)),
        user_ids=ids("u", inviting.permutation(config.users)),
        searches=search_book(),
    )
    trade = _Trade(truth, trading)
    for day in range(config.days):
        trade.open(day)
    requests = _requests_frame(truth, trade.log)
    return Shop(
        items=items_frame(truth, stocking),
        users=users_frame(truth),
        events=_events_frame(truth, trade.log, requests),
        requests=requests,
        truth=truth,
    )


def daily_extracts(shop: Shop) -> Iterator[tuple[date, pl.DataFrame]]:
    """Cut the events into what the shop exports at the end of each UTC day: in order, empty days included."""
    config = shop.truth.config
    days = pl.date_range(config.start, config.start + timedelta(days=config.days), eager=True)
    edges = shop.events["timestamp"].dt.date().search_sorted(days, side="left")
    for day, (start, end) in zip(days, pairwise(edges), strict=False):
        yield day, shop.events[start:end]


@dataclass(frozen=True, slots=True, eq=False)
class _Visits:
    """The requests of one day, by time."""

    users_R: Ints
    seconds_R: Ints
    requests_R: Ints
    search_R: Ints  # row of `Truth.searches`, -1 for none
    wanted_R: Ints  # the theme searched for, -1 for none
    randomised_R: Bools


@dataclass(slots=True, eq=False)
class _Log:
    """What was logged, as numbers."""

    visits: list[_Visits] = field(default_factory=list)
    parts: dict[str, list[Ints]] = field(default_factory=lambda: {name: [] for name in _LOGGED})

    def add(
        self,
        kind: int,
        users: Ints,
        items: Ints,
        seconds: Ints,
        requests: Ints | int = -1,
        positions: Ints | int = 0,
    ) -> None:
        """Log one event for each item; the other values broadcast to the items."""
        values = (kind, users, items, seconds, requests, positions)
        for (name, part), value in zip(self.parts.items(), values, strict=True):
            dtype = np.int8 if name == "kind" else np.int32
            part.append(np.broadcast_to(np.asarray(value, dtype=dtype), items.shape).ravel())


class _Shelves:
    """The items on sale on one day, to be drawn in proportion to their weight from one theme or from all."""

    def __init__(self, items_N: Ints, theme_N: Ints, weight_N: Floats) -> None:
        """Take the items by theme."""
        self.items_N = items_N
        self._edges = np.append(0.0, np.cumsum(weight_N))
        bounds = self._edges[np.searchsorted(theme_N, np.arange(len(THEMES) + 1))]
        self._low = np.append(bounds[:-1], 0.0)  # the last entry, -1, is the whole shop
        self._width = np.append(np.diff(bounds), self._edges[-1])

    def draw(self, themes: Ints, rng: np.random.Generator) -> Ints:
        """Draw an index into `items_N` for each theme; -1, or a theme that is sold out, draws from all."""
        chosen = np.where(self._width[themes] > 0, themes, -1)
        targets = self._low[chosen] + rng.random(themes.shape) * self._width[chosen]
        drawn: Ints = np.searchsorted(self._edges, targets, side="right") - 1
        return np.minimum(drawn, len(self.items_N) - 1)


class _Trade:
    """The shop in business: what it learnt up to last night, and the log it writes."""

    def __init__(self, truth: Truth, rng: np.random.Generator) -> None:
        config = truth.config
        self.log = _Log()
        self._truth = truth
        self._rng = rng
        self._by_theme_I = np.argsort(truth.catalogue.theme_I, kind="stable")
        self._popularity_I: Floats = np.zeros(config.items)
        self._habits_UT: Floats = np.zeros((config.users, len(THEMES)))
        self._refills: Ints = np.empty((3, 0), dtype=np.int64)  # user, item, day
        self._examined_L = _examined(config, np.arange(1, config.list_length + 1))
        keys = truth.searches["language"].to_numpy() * len(THEMES) + truth.searches["theme"].to_numpy()
        self._search_edges = np.searchsorted(keys, np.arange(len(LANGUAGES) * len(THEMES) + 1))
        self._n_requests = 0

    def open(self, day: int) -> None:
        """Trade for one day."""
        self._popularity_I *= 0.97
        self._habits_UT *= 0.98
        goods = self._truth.catalogue
        items_N = self._by_theme_I[goods.available_I[self._by_theme_I] <= day * DAY_SECONDS]
        shelves = _Shelves(items_N, goods.theme_I[items_N], 1.0 + self._popularity_I[items_N])
        visits = self._visits(day)
        self._show(visits, self._ranked(visits, self._lists(visits, shelves)), day)
        self._browse(visits, shelves, day)
        self._refill(day)

    def _visits(self, day: int) -> _Visits:
        config, crowd, rng = self._truth.config, self._truth.crowd, self._rng
        weekend = (config.start + timedelta(days=day)).weekday() >= 5  # noqa: PLR2004
        rate = config.requests_per_user_per_day * (_WEEKEND if weekend else _WEEKDAY)
        users = np.repeat(np.arange(config.users), rng.poisson(rate * crowd.activity_U))
        seconds = self._clock(users, day)
        order = np.argsort(seconds, kind="stable")
        order = order[seconds[order] > crowd.signed_up_U[users[order]]]
        users_R, seconds_R = users[order], seconds[order]
        searching = rng.random(len(users_R)) < config.query_share
        search_R, wanted_R = self._search(users_R, searching, day)
        visits = _Visits(
            users_R=users_R,
            seconds_R=seconds_R,
            requests_R=self._n_requests + np.arange(len(users_R)),
            search_R=search_R,
            wanted_R=wanted_R,
            randomised_R=~searching & (rng.random(len(users_R)) < config.exploration_share),
        )
        self._n_requests += len(users_R)
        self.log.visits.append(visits)
        return visits

    def _clock(self, users: Ints, day: int) -> Ints:
        """A second of the UTC day at which the user is likely awake."""
        hours = self._rng.choice(24, size=len(users), p=_HOURS / _HOURS.sum())
        hours = (hours - _OFFSET_C[self._truth.crowd.country_U[users]]) % 24
        return np.asarray(day * DAY_SECONDS + hours * 3600 + self._rng.integers(3600, size=len(users)))

    def _search(self, users_R: Ints, searching_R: Bools, day: int) -> tuple[Ints, Ints]:
        """Row of the search book and theme for those who search, half of them in their own language."""
        rng = self._rng
        users = users_R[searching_R]
        theme = self._fancy(users, day)
        language = np.where(rng.random(len(users)) < 0.5, _LANGUAGE_C[self._truth.crowd.country_U[users]], 0)  # noqa: PLR2004
        shelf = language * len(THEMES) + theme
        first, end = self._search_edges[shelf], self._search_edges[shelf + 1]
        search_R, wanted_R = np.full((2, len(users_R)), -1)
        search_R[searching_R] = rng.integers(first, end)
        wanted_R[searching_R] = theme
        return search_R, wanted_R

    def _fancy(self, users: Ints, day: int) -> Ints:
        """A theme that each user feels like on that day."""
        tastes = self._truth.tastes(users[:, None], np.arange(len(THEMES))[None, :], day)
        return _choose(tastes**2 + 0.02, 1, self._rng)[:, 0]

    def _lists(self, visits: _Visits, shelves: _Shelves) -> Ints:
        """What is shown to each request, not yet in order: personal, searched, popular and random items."""
        rng, length = self._rng, self._truth.config.list_length
        n_requests, n_items = len(visits.users_R), len(shelves.items_N)
        source_RP = rng.random((n_requests, 2 * length))
        searched_RP = (visits.wanted_R >= 0)[:, None] & (source_RP < _SEARCHED)
        theme_RP = _choose(0.02 + self._habits_UT[visits.users_R], 2 * length, rng)
        theme_RP = np.where(source_RP < _PERSONAL, theme_RP, -1)
        theme_RP = np.where(searched_RP, visits.wanted_R[:, None], theme_RP)
        random_RP = visits.randomised_R[:, None] | (source_RP >= _RANDOM)
        drawn_RP = np.where(random_RP, rng.integers(n_items, size=source_RP.shape), shelves.draw(theme_RP, rng))
        # Distinct random items at the end, so that every list can be filled.
        start_R = rng.integers(n_items, size=n_requests)
        spare_RL = rng.permutation(n_items)[(start_R[:, None] + np.arange(length)) % n_items]
        return np.asarray(shelves.items_N[_first_distinct(np.hstack([drawn_RP, spare_RL]), length)])

    def _ranked(self, visits: _Visits, items_RL: Ints) -> Ints:
        """The lists as shown: by habit, popularity, search and chance, or by chance alone."""
        theme_RL = self._truth.catalogue.theme_I[items_RL]
        users_R1 = visits.users_R[:, None]
        habits_R1 = 1.0 + self._habits_UT.sum(axis=1)[users_R1]
        score_RL = 2.0 * self._habits_UT[users_R1, theme_RL] / habits_R1
        score_RL += 0.3 * np.log1p(self._popularity_I[items_RL])
        score_RL += 2.0 * (theme_RL == visits.wanted_R[:, None])
        score_RL[visits.randomised_R] = 0.0
        score_RL += 0.8 * self._rng.gumbel(size=items_RL.shape)
        return np.take_along_axis(items_RL, np.argsort(-score_RL, axis=1, kind="stable"), axis=1)

    def _show(self, visits: _Visits, items_RL: Ints, day: int) -> None:
        rng = self._rng
        users_R1, wanted_R1 = visits.users_R[:, None], visits.wanted_R[:, None]
        appeal_RL = self._truth.attraction(users_R1, items_RL, day, wanted_R1)
        row, position = np.nonzero(rng.random(items_RL.shape) < appeal_RL * self._examined_L)
        if self._truth.config.impressions:
            seconds_R1, requests_R1 = visits.seconds_R[:, None], visits.requests_R[:, None]
            self.log.add(_IMPRESSION, users_R1, items_RL, seconds_R1, requests_R1, np.arange(items_RL.shape[1]) + 1)
        users, items, requests = visits.users_R[row], items_RL[row, position], visits.requests_R[row]
        seconds = visits.seconds_R[row] + 4 + 3 * position + rng.integers(12, size=len(row))
        self.log.add(_CLICK, users, items, seconds, requests, position + 1)
        self._follow(users, items, seconds, appeal_RL[row, position], requests)

    def _browse(self, visits: _Visits, shelves: _Shelves, day: int) -> None:
        """Some visitors open one item outside any list."""
        rng = self._rng
        rows = np.flatnonzero(rng.random(len(visits.users_R)) < self._truth.config.browse_share)
        users = visits.users_R[rows]
        items = shelves.items_N[shelves.draw(self._fancy(users, day), rng)]
        seconds = visits.seconds_R[rows] + rng.integers(60, 900, size=len(rows))
        self.log.add(_VIEW, users, items, seconds)
        self._follow(users, items, seconds, self._truth.attraction(users, items, day))

    def _follow(self, users: Ints, items: Ints, seconds: Ints, appeal: Floats, requests: Ints | None = None) -> None:
        """What comes of opened pages: carts, purchases, and what the shop learns."""
        rng, n = self._rng, len(users)
        requests = np.full(n, -1) if requests is None else requests
        carts = rng.random(n) < 0.05 + 0.3 * appeal
        buys = rng.random(n) < np.where(carts, 0.5, 0.04)
        carted = seconds + rng.integers(15, 180, size=n)
        bought = carted + rng.integers(20, 600, size=n)
        self.log.add(_CART, users[carts], items[carts], carted[carts], requests[carts])
        self.log.add(_PURCHASE, users[buys], items[buys], bought[buys], requests[buys])
        self._plan_refill(users[buys], items[buys], bought[buys] // DAY_SECONDS)
        self._popularity_I += np.bincount(items, minlength=len(self._popularity_I))
        np.add.at(self._habits_UT, (users, self._truth.catalogue.theme_I[items]), 1.0)

    def _refill(self, day: int) -> None:
        """Users whose good is used up buy it again, straight away and outside any list."""
        due = self._refills[2] == day
        users, items, days = self._refills[:, due]
        self._refills = self._refills[:, ~due]
        self.log.add(_PURCHASE, users, items, self._clock(users, day))
        self._plan_refill(users, items, days)

    def _plan_refill(self, users: Ints, items: Ints, days: Ints) -> None:
        rng = self._rng
        lasts = _REFILL_T[self._truth.catalogue.theme_I[items]] * np.exp(0.25 * rng.normal(size=len(users)))
        again = (lasts > 0) & (rng.random(len(users)) < self._truth.crowd.repeat_U[users])
        planned = np.stack([users, items, days + np.maximum(np.rint(lasts), 1.0).astype(np.int64)])
        self._refills = np.hstack([self._refills, planned[:, again]])


def _choose(weights_RT: Floats, n_draws: int, rng: np.random.Generator) -> Ints:
    """Draw `n_draws` columns for each row, in proportion to the row's weights."""
    n_rows, n_columns = weights_RT.shape
    edges_RT = np.cumsum(weights_RT, axis=1)
    edges_RT /= edges_RT[:, -1:]
    row_R1 = np.arange(n_rows)[:, None]
    # Row r owns the interval [r, r + 1), so that one search serves all rows.
    targets = rng.random((n_rows, n_draws)) + row_R1
    column_number = np.searchsorted((edges_RT + row_R1).ravel(), targets, side="right") - row_R1 * n_columns
    column: Ints = np.minimum(column_number, n_columns - 1)
    return column


def _first_distinct(drawn_RP: Ints, length: int) -> Ints:
    """The first `length` distinct values of each row, in their order; each row must have as many."""
    n_rows, n_columns = drawn_RP.shape
    keyed = np.sort(drawn_RP * n_columns + np.arange(n_columns), axis=1)
    value, column = np.divmod(keyed, n_columns)
    first = np.ones((n_rows, n_columns), dtype=bool)
    first_sorted = np.ones_like(first)
    first_sorted[:, 1:] = value[:, 1:] != value[:, :-1]
    np.put_along_axis(first, column, first_sorted, axis=1)
    first &= np.cumsum(first, axis=1) <= length
    return drawn_RP[first].reshape(n_rows, length)


def _examined(config: ShopConfig, positions: Ints) -> Floats:
    return np.asarray(positions.astype(np.float64) ** -config.position_bias)


def _looked_up(values: pl.Series, rows: Ints) -> pl.Series:
    """The values at these rows, null where the row is -1."""
    indices = pl.Series(rows)
    return values.gather(indices.set(indices < 0, None))


def _requests_frame(truth: Truth, log: _Log) -> pl.DataFrame:
    days = ((of.users_R, of.seconds_R, of.search_R, of.randomised_R) for of in log.visits)
    users, seconds, searches, randomised = (np.concatenate(parts) for parts in zip(*days, strict=True))
    return pl.DataFrame(
        {
            "request_id": ids("r", np.arange(len(users))),
            "user_id": truth.user_ids.gather(users),
            "requested_at": utc_times(truth.config, seconds),
            "query": _looked_up(truth.searches["query"], searches),
            "randomised": randomised,
        }
    )


def _events_frame(truth: Truth, log: _Log, requests: pl.DataFrame) -> pl.DataFrame:
    columns = {name: np.concatenate(parts) for name, parts in log.parts.items()}
    log.parts.clear()  # else a large log would be in memory twice
    rows = _kept_rows(truth, columns)
    columns = {name: column[rows] for name, column in columns.items()}
    kind, item, position = columns["kind"], columns["item"], columns["position"]
    listed = kind == _IMPRESSION
    propensity = np.where(listed, _examined(truth.config, np.maximum(position, 1)), np.nan)
    value = np.where(kind == _PURCHASE, truth.catalogue.price_I[item], np.nan)
    return pl.DataFrame(
        {
            "event_id": ids("e", np.arange(len(rows))),
            "user_id": truth.user_ids.gather(columns["user"]),
            "item_id": truth.item_ids.gather(item),
            "event": pl.Series(_KINDS).gather(kind),
            "timestamp": utc_times(truth.config, columns["second"]),
            "request_id": _looked_up(requests["request_id"], columns["request"]),
            "position": pl.Series(position).replace(0, None),
            "propensity": pl.Series(propensity).fill_nan(None),
            "value": pl.Series(value).fill_nan(None),
            "query": _looked_up(requests["query"], columns["request"]),
        }
    )


def _kept_rows(truth: Truth, columns: dict[str, Ints]) -> Ints:
    """Rows by time, up to the last midnight; of a user's purchases of a good that lasts, the first only."""
    rows = np.argsort(columns["second"], kind="stable")
    rows = rows[columns["second"][rows] < truth.config.days * DAY_SECONDS]
    lasting_I = _REFILL_T[truth.catalogue.theme_I] == 0
    at = np.flatnonzero((columns["kind"][rows] == _PURCHASE) & lasting_I[columns["item"][rows]])
    bought = rows[at]
    pairs = columns["user"][bought].astype(np.int64) * truth.config.items + columns["item"][bought]
    again = np.setdiff1d(np.arange(len(at)), np.unique(pairs, return_index=True)[1])
    return np.delete(rows, at[again])
