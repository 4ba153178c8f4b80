"""Memory estimates for training, evaluation and the nightly batch, and the sizes that follow from them.

Sizes are estimated from the log and the configuration alone, so that the same files give the same version on every
machine. What a file holds is not counted: rows, texts' hidden states and the network's inputs wait on disk, and the
system takes their pages back when it needs them.
"""

from dataclasses import dataclass

from features.errors import ConfigError
from features.log.event_log import EventLog
from features.signals.ease import MOST_ITEMS
from pipelines.base.config import Config

__all__ = ["Memory"]

_FIXED_BYTES = 1.0e9  # interpreter, libraries, the encoder and a training batch
_READING_BYTES, _READING_COPIES = 3.0e8, 2.0  # while the log is read: libraries, and of its cells
_FILE_ROW_BYTES = 600  # of a row of the largest file of events, while it is held against its contract
_FREED_ROW_BYTES = 200  # of those, what the allocator keeps
_INDEX_BYTES = 28  # of a cell of the log, beside itself: what counts, its orders by day and user, the families' sums
_TOGETHER_BYTES = 50  # of two items that a user had, while the fit of items seen together is made
_EASE_BYTES = 34  # of two items that EASE knows, while it is fitted
_VECTORS, _WIDTH = 4, 384  # of an item that are held at once, 16 bits a number
_LEAST_BYTES = 3.0e8  # that must be left to compute with
_REQUEST_BYTES = 4.0e5  # histories and what the generators propose for a request
_CELL_BYTES = 12  # of a feature of a row, while a portion is computed
_ROW_BYTES = 80  # LightGBM's gradients, scores, labels and weights of a row, beside a byte a feature
_ROWS_A_LIST = 2.5  # of candidates.max_per_request: a whole list, its new items again, and two lists of new items
_PORTION, _RANKER = 1 / 3, 1 / 2  # of what is left, that each may take; they are not held together
_BATCH = 3 / 4  # of what is left and of a fit's bytes: none is made while the encoder learns
_MOST_AT_ONCE, _FEWEST_AT_ONCE = 1000, 20  # requests of a portion
_FEWEST_LISTS = 50  # that teach a ranker anything


@dataclass(frozen=True, slots=True)
class Memory:
    """The part of `max_memory_gb` that is left for computing.

    Attributes:
        spare: Bytes, beside the log, the catalogue and the libraries.
        config: Everything configured.
        fit_bytes: What the largest fit takes while it is made, beside `spare`.
    """

    spare: float
    config: Config
    fit_bytes: float = 0.0

    @classmethod
    def of(cls, log: EventLog, config: Config) -> "Memory":
        """The budget that remains beside a log.

        Raises:
            ConfigError: Too little to compute with.
        """
        read = 0 if log.labels is None else log.labels.file_rows
        event_bytes = sum(events.memory_bytes for events in (log.labels, log.raw) if events is not None)
        cells = log.cells.nbytes + _INDEX_BYTES * len(log.cells.counts)
        taken = _FIXED_BYTES + _FREED_ROW_BYTES * read + event_bytes + cells + log.items.estimated_size()
        fit_bytes = _fit_bytes(log.items.height, len(log.user_ids), config.candidates.history_items)
        taken += fit_bytes
        taken += log.items.height * _VECTORS * _WIDTH * 2
        taken = max(taken, _READING_BYTES + _FILE_ROW_BYTES * read + _READING_COPIES * log.cells.nbytes)
        spare = config.max_memory_gb * 1e9 - taken
        if spare < _LEAST_BYTES:
            raise ConfigError(
                f"max_memory_gb: {config.max_memory_gb:g} GB are too few for {log.cells.counts.sum():,} events and "
                f"{log.items.height:,} items, which take about {taken / 1e9:.1f} GB with the libraries. Raise it to "
                f"{(taken + _LEAST_BYTES) / 1e9:.1f} or more, or give a shorter log."
            )
        return cls(spare, config, fit_bytes)

    def requests_at_once(self, features: int) -> int:
        """Requests of a portion: fewer take longer, and give the same rows."""
        size = _REQUEST_BYTES + self.config.candidates.max_per_request * features * _CELL_BYTES
        return min(max(int(_PORTION * self.spare / size), _FEWEST_AT_ONCE), _MOST_AT_ONCE)

    @property
    def batch_bytes(self) -> float:
        """What a training step of the encoder may take: where it would take more, it takes longer."""
        return _BATCH * (self.spare + self.fit_bytes)

    def lists(self, features: int) -> int:
        """Whole lists that a ranker can learn from: `ranker.max_requests`, or fewer.

        Raises:
            ConfigError: Too few to learn anything.
        """
        rows = _RANKER * self.spare / (features + _ROW_BYTES)
        most = int(rows / (_ROWS_A_LIST * self.config.candidates.max_per_request))
        if most < _FEWEST_LISTS:
            raise ConfigError(
                f"max_memory_gb: {self.config.max_memory_gb:g} GB leave room for {most} lists of "
                f"{self.config.candidates.max_per_request} candidates, too few to train a ranker. Raise it, or lower "
                "candidates.max_per_request."
            )
        return min(most, self.config.ranker.max_requests)


def _fit_bytes(n_items: int, n_users: int, history_items: int) -> float:
    """Bytes of the larger of two fits (co-visitation, EASE), which grow with pairs of items and not with the log."""
    together = min(n_items**2, n_users * history_items**2)
    return float(max(_TOGETHER_BYTES * together, _EASE_BYTES * min(n_items, MOST_ITEMS) ** 2))
