"""What candidates are made of, by going through a log event by event."""

import math
from collections import Counter, defaultdict
from functools import cache
from itertools import pairwise

import numpy as np

from features.tables.text import GRID


def alike(engagements, user, most=400, pool=None):
    """user: similarity to others in multiples of 1/65536, the nearest first, ties by code.

    Args:
        engagements: (user, item) of each.
        user: Who is asked about.
        most: Neighbours at most.
        pool: Those among whom they are looked for; None for all.
    """
    counts = defaultdict(Counter)
    for who, item in engagements:
        counts[who][item] += 1
    weight = {
        who: {item: round(math.log1p(n) * 1024) / 1024 for item, n in items.items()} for who, items in counts.items()
    }
    length = {who: math.sqrt(sum(w * w for w in items.values())) or 1.0 for who, items in weight.items()}
    mine = weight.get(user, {})
    similar = {}
    for who in sorted(weight if pool is None else pool):
        dots = sum(w * weight[who].get(item, 0.0) for item, w in mine.items())
        if who != user and (near := round(dots / (length[user] * length[who]) * 65536) if mine else 0):
            similar[who] = near
    return dict(sorted(similar.items(), key=lambda row: (-row[1], row[0]))[:most])


def regressed(histories):
    """(item, item): weight of the one in the ridge regression of the other on all items, in multiples of 1/65536.

    Args:
        histories: Of each user, item: weight, at most 1.
    """
    items = sorted({item for history in histories for item in history})
    X = np.array([[history.get(item, 0.0) for item in items] for history in histories]).reshape(
        len(histories), len(items)
    )
    scores = {}
    for row, item in enumerate(items):
        others = np.delete(X, row, axis=1)
        weights = np.linalg.solve(others.T @ others + 100 * np.eye(len(items) - 1), others.T @ X[:, row])
        for other, weight in zip(items[:row] + items[row + 1 :], weights.tolist(), strict=True):
            if (near := round(weight * 65536)) > 0:
                scores[other, item] = near / 65536
    return scores


class Scan:
    """What a log tells, by going through it event by event."""

    ONE = 2**16
    """One, in the fixed-point weights."""

    def __init__(self, log):
        self.log = log
        self.engagements = log.engaged.select("user", "item", "day", "gain").rows()
        self.co_visited, self.next_basket = cache(self._co_visited), cache(self._next_basket)
        self.ease_weights = cache(self._ease_weights)

    def history(self, user, as_of_day, half_life=30.0):
        """item: [count, last day, highest gain, weight], most recent first."""
        cells = {}
        for who, item, day, gain in self.engagements:
            if who == user and day < as_of_day:
                count, last, best, weight = cells.get(item, (0, 0, 0, 0))
                decayed = max(1, math.floor(2 ** (-(as_of_day - day - 1) / half_life) * self.ONE + 1 / 2))
                cells[item] = count + 1, max(last, day), max(best, gain), weight + decayed
        return dict(sorted(cells.items(), key=lambda row: (-row[1][1], -row[1][3], row[0])))

    def similar_users(self, user, as_of_day, window_days):
        """item: share of the neighbours' summed similarity that had it in the window."""
        near = alike([(who, item) for who, item, day, _ in self.engagements if day < as_of_day], user)
        pairs = {
            (who, item)
            for who, item, day, _ in self.engagements
            if who in near and as_of_day - window_days <= day < as_of_day
        }
        scores = Counter()
        for who, item in pairs:
            scores[item] += near[who]
        return {item: score / sum(near.values()) for item, score in scores.items()}

    def ease(self, user, as_of_day):
        """item: what the history says of it, by the regressions of the last seventh day."""
        scores = Counter()
        mine = self.ease_history(user, as_of_day)
        for (one, two), weight in self.ease_weights(as_of_day // 7 * 7).items():
            scores[two] += mine.get(one, 0) * weight
        return {item: score for item, score in scores.items() if score > 0}

    def ease_history(self, user, as_of_day):
        """item: decayed count, at most 1, cut to 1/1024, above 0."""
        cut = {item: min(cell[3], self.ONE) // 64 / 1024 for item, cell in self.history(user, as_of_day).items()}
        return {item: weight for item, weight in cut.items() if weight}

    def _ease_weights(self, before_day):
        return regressed([self.ease_history(user, before_day) for user in range(self.log.user_ids.len())])

    def _co_visited(self, before_day, most):
        """(item, item): shrunk cosine."""
        last = defaultdict(dict)
        for user, item, day, _ in self.engagements:
            if day < before_day:
                last[user][item] = max(day, last[user].get(item, 0))
        lists = [sorted(items, key=lambda item: (-items[item], item))[:most] for items in last.values()]
        users = Counter(item for items in lists for item in items)
        both = Counter((one, two) for items in lists for one in items for two in items if one != two)
        return {(one, two): n / (math.sqrt(users[one] * users[two]) + 10) for (one, two), n in both.items() if n >= 2}

    def _next_basket(self, before_day):
        """(item, item): shrunk cosine of items on successive active days of a user."""
        baskets = defaultdict(set)
        for user, item, day, _ in self.engagements:
            if day < before_day:
                baskets[user, day].add(item)
        former, latter, both = Counter(), Counter(), Counter()
        for (user, day), (other, later) in pairwise(sorted(baskets)):
            if user == other:
                former.update(baskets[user, day])
                latter.update(baskets[user, later])
                both.update((one, two) for one in baskets[user, day] for two in baskets[user, later])
        return {(one, two): n / (math.sqrt(former[one] * latter[two]) + 10) for (one, two), n in both.items() if n >= 2}

    @staticmethod
    def similar_texts(vectors):
        """(item, item): cosine above 0, from whole-number dot products."""
        whole = [[int(cell) for cell in row] for row in vectors]
        dots = {
            (one, two): sum(map(int.__mul__, whole[one], whole[two]))
            for one in range(len(whole))
            for two in range(len(whole))
            if one != two
        }
        return {pair: dot / GRID**2 for pair, dot in dots.items() if dot > 0}
