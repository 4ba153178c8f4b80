"""Sampling of requests by a hash of ids, so that codes, row order and other requests do not change the sample.

Training draws by (user, day), block by block. Windows that are judged are drawn by user, so that an interval that is
clustered by user is that of the whole window.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from features.log.event_log import EventLog
from features.requests.engaged import NUMBERED
from features.tables.hashing import stable_hash

__all__ = ["NEW_LISTS", "Quota", "Round", "block_quotas", "in_hash_order", "whole_users"]

NEW_LISTS = 2
"""Lists of new items that the ranker learns from for each whole list."""

_LEAST_SHARE = 0.02  # of usable lists among requests, that a round is sized by
_SPARE, _FEWEST = 1.05, 20  # of the requests that a round is expected to need, more: another round costs fits
_SURE = 0.9  # of the usable lists that a later block is expected to have, those that an earlier one is spared


def in_hash_order(requests: pl.DataFrame, log: EventLog) -> pl.DataFrame:
    """Requests in the order in which they are drawn: by a hash of the user's id and the day; ties in their own order.

    Args:
        requests: user, as_of_day, and whatever else.
        log: The log that gives the users their ids.
    """
    of_user = stable_hash(log.user_ids.gather(requests["user"]))
    of_day = stable_hash(requests["as_of_day"].cast(pl.Int64))
    both = stable_hash(pl.Series((of_user ^ of_day).view(np.int64)))
    return requests[np.argsort(both, kind="stable")]


def whole_users(requests: pl.DataFrame, log: EventLog, most: int | None) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """All requests of some users, numbered anew, and those of the others.

    Users are drawn in the order of a hash of their ids, until the requests are `most` or more.

    Args:
        requests: request (0..n-1), user, and whatever else.
        log: The log that gives the users their ids.
        most: Requests that suffice; None draws all.

    Returns:
        The requests that were drawn, and the others; None where there are no others.
    """
    if most is None or requests.height <= most:
        return requests, None
    users = requests.group_by("user").len().sort("user")
    users = users[np.argsort(stable_hash(log.user_ids.gather(users["user"])), kind="stable")]
    drawn = users.filter(pl.col("len").cum_sum() - pl.col("len") < most)["user"]
    is_drawn = pl.col("user").is_in(drawn.implode())
    numbered = requests.filter(is_drawn).with_columns(NUMBERED)
    return numbered, requests.filter(~is_drawn) if numbered.height < requests.height else None


@dataclass(frozen=True, slots=True)
class Quota:
    """Numbers of lists, whole ones and those with a new positive.

    Attributes:
        whole: Requests with a positive.
        new: Requests with a positive that is new to the user.
    """

    whole: int
    new: int

    @classmethod
    def of(cls, most: int) -> "Quota":
        """The lists that a ranker wants that learns from so many whole lists."""
        return cls(most, NEW_LISTS * most)

    def plus(self, other: "Quota") -> "Quota":
        """Both together."""
        return Quota(self.whole + other.whole, self.new + other.new)

    def less(self, other: "Quota") -> "Quota":
        """The quota that remains after another one, at least 0."""
        return Quota(max(self.whole - other.whole, 0), max(self.new - other.new, 0))


def block_quotas(most: int, blocks: Sequence[Quota], share: tuple[float, float]) -> list[Quota]:
    """How many usable lists to compute of each block: the latest blocks come first.

    An earlier block supplies what the later ones are not sure to have; a surplus is not learned from.

    Args:
        most: Whole lists that the ranker learns from.
        blocks: Requests of each block, in the order of time, that have a positive, and a new one.
        share: Of those of both kinds, which are expected to find it among their candidates.
    """
    quotas, left = [], Quota.of(most)
    for block in reversed(blocks):
        quotas.append(left)
        left = left.less(Quota(int(_SURE * share[0] * block.whole), int(_SURE * share[1] * block.new)))
    return quotas[::-1]


@dataclass(slots=True)
class Round:
    """Draws a block's requests round by round, as many as its quota is expected to need.

    Attributes:
        requests: Requests with a positive, in the order in which they are drawn: request, and is_new, whether one of
            its positives is new to the user.
        quota: Usable lists that are wanted.
        share: Of usable ones among both kinds of requests, expected; of those drawn, once there are any.
        drawn: (requests,) which were.
        usable: Lists of both kinds that were found among them.
    """

    requests: pl.DataFrame
    quota: Quota
    share: tuple[float, float]
    drawn: npt.NDArray[np.bool_]
    usable: Quota = Quota(0, 0)
    _of: Quota = Quota(0, 0)

    @classmethod
    def of(cls, requests: pl.DataFrame, quota: Quota, share: tuple[float, float]) -> "Round":
        """A draw before its first round."""
        return cls(requests, quota, share, np.zeros(requests.height, np.bool_))

    def record(self, usable: Quota) -> None:
        """Add the usable lists that the last round gave, so that the next round is sized by them."""
        is_new = self.requests["is_new"].to_numpy()
        self.usable = self.usable.plus(usable)
        self._of = Quota(int(self.drawn.sum()), int((self.drawn & is_new).sum()))

    def next(self) -> pl.Series:
        """The requests of the next round, ascending; none where the quota is full, or all are drawn."""
        wanted, is_new = self.quota.less(self.usable), self.requests["is_new"].to_numpy()
        left = ~self.drawn
        taken = np.zeros(len(left), np.bool_)
        for lacking, usable, of, share, kind in (
            (wanted.whole, self.usable.whole, self._of.whole, self.share[0], left),
            (wanted.new, self.usable.new, self._of.new, self.share[1], left & is_new),
        ):
            expected = max(usable / of if of else share, _LEAST_SHARE)
            taken |= kind & (np.cumsum(kind) <= (np.ceil(_SPARE * lacking / expected) + _FEWEST) * (lacking > 0))
        self.drawn |= taken
        return self.requests["request"].filter(pl.Series(taken)).sort()
