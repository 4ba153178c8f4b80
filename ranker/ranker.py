"""What a ranker is to a training, an evaluation, a night and a version's bundle, and where rankers come from."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from features.errors import ConfigError, listed
from ranker.config import RankerConfig, Report

__all__ = ["ENTRY_POINTS", "Allocate", "FitSupport", "Ranker", "ranker_kind"]

ENTRY_POINTS = "nightrank.rankers"
"""Group of entry points under which an installed package names a ranker of its own."""

Allocate = Callable[[int, int], npt.NDArray[np.int16]]
"""allocate(rows, columns) is an array of that shape, whatever it holds."""

Floats = npt.NDArray[np.float64]
_METHODS = ("contributions", "files", "fit", "predict", "read")


Choice = Callable[[pl.DataFrame], pl.DataFrame]


def _chosen(rows: pl.DataFrame, choose: Choice) -> pl.DataFrame:
    return choose(rows)


@contextmanager
def _unseen(_part: str, _total: int, _unit: str, _note: str) -> Iterator[Report]:
    yield lambda _number, _value: None


@dataclass(frozen=True, slots=True)
class FitSupport:
    """What a training lends the ranker that it fits; by default nothing is shown and everything is held in memory.

    Attributes:
        progress: progress(part, total, unit, note) is a context in which steps are reported by number and value; `part`
            is what of the ranker learns (empty for the whole), `note` a format of the value.
        tell: Is given facts about the fitted ranker, by name.
        pick: pick(rows, choose) is choose(rows) for a choice that looks at each request by itself; a training makes it
            some rows at a time, and in a file.
        allocate: Makes large arrays; None makes them in memory.
    """

    progress: Callable[[str, int, str, str], AbstractContextManager[Report]] = _unseen
    tell: Callable[..., None] = lambda **_facts: None
    pick: Callable[[pl.DataFrame, Choice], pl.DataFrame] = _chosen
    allocate: Allocate | None = None


class Ranker(Protocol):
    """A fitted ranker. The package's docstring has a recipe for one of your own."""

    @property
    def features(self) -> tuple[str, ...]:
        """Ordered names of the columns it reads."""

    @property
    def tolerance(self) -> float:
        """By how much a score may differ on another machine; a bundle whose golden rows differ by more is refused."""

    @classmethod
    def fit(
        cls,
        train: pl.DataFrame,
        valid: pl.DataFrame,
        *,
        features: tuple[str, ...],
        config: RankerConfig,
        seed: int,
        stop_at: int,
        support: FitSupport,
    ) -> Self:
        """Learn from `train`, and choose and stop by `valid`.

        Args:
            train: request, label (whole, 0 to 30), as_of_day and the features (Float32, NaN where undefined); rows of a
                request together.
            valid: The same, of later requests.
            features: Ordered names of the columns to learn from.
            config: The section `ranker` of the configuration.
            seed: The same tables and seed give the same ranker.
            stop_at: Rank of the NDCG that chooses.
            support: What is lent by the training.
        """

    def predict(self, table: pl.DataFrame) -> Floats:
        """(N,) scores, higher is better, one a row; a row's score does not depend on the others."""

    def contributions(self, table: pl.DataFrame) -> Floats:
        """(N, F) what each feature adds to each row's score, in the order of `features`."""

    def files(self) -> dict[str, bytes]:
        """What it is kept as, by file name; no two names have the same suffix."""

    @classmethod
    def read(cls, files: Mapping[str, bytes], features: tuple[str, ...]) -> Self:
        """A ranker from what `files` gave.

        Raises:
            IntegrityError: They are no ranker of these features.
        """


def ranker_kind(name: str | None) -> type[Ranker]:
    """The class that is fitted and read under a name of `ranker.kind`.

    Args:
        name: Of an entry point of the group `nightrank.rankers`; None for LambdaMART with a network beside it.

    Raises:
        ConfigError: No installed package has the name, or what it names is no ranker.
    """
    if name is None:
        from ranker.trees_and_network import TreesAndNetwork  # it imports this module

        return TreesAndNetwork
    named = entry_points(group=ENTRY_POINTS)
    names = listed(sorted(named.names)) or "none"
    if name not in named.names:
        raise ConfigError(
            f"ranker.kind: no installed package has a ranker {name!r}; there is {names} "
            f"under the entry points {ENTRY_POINTS}. Install it, or leave ranker.kind out for LambdaMART."
        )
    try:
        kind: type[Ranker] = named[name].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"ranker.kind: {named[name].value} cannot be imported: {error}") from error
    missing = [method for method in _METHODS if not callable(getattr(kind, method, None))]
    if missing:
        raise ConfigError(f"ranker.kind: {named[name].value} is no ranker: it has no {listed(missing)}.")
    return kind
