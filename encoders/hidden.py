"""Hidden states of many texts, kept in memory or in a file."""

import os
import weakref
from collections.abc import Sequence
from typing import IO, SupportsIndex, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["HiddenStates"]


class HiddenStates(Sequence[Tensor]):
    """One (length, width) tensor a text, the same to the bit wherever it is kept.

    A file is read and written text by text, not mapped: what is not at work takes no memory of the process, and a full
    disk is an error like any other.

    Args:
        lengths: (texts,) padded length of each.
        file: Where to keep them, None for memory. It may be closed and removed afterwards: it stays until this object
            goes.
    """

    def __init__(self, lengths: npt.NDArray[np.int64], *, file: IO[bytes] | None = None) -> None:
        self._lengths = lengths
        self._ends = np.cumsum(lengths)
        self._form: Tensor | None = None  # states of no token: width and dtype, known with the first text
        self._memory = torch.empty(0)
        self._file = None if file is None else os.dup(file.fileno())
        if self._file is not None:
            weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        return len(self._lengths)

    @overload
    def __getitem__(self, position: SupportsIndex) -> Tensor: ...

    @overload
    def __getitem__(self, position: slice) -> list[Tensor]: ...

    def __getitem__(self, position: SupportsIndex | slice) -> Tensor | list[Tensor]:
        if isinstance(position, slice):
            return [self[at] for at in range(*position.indices(len(self)))]
        start, end = self._span(position)
        if self._file is None:
            return self._memory[start:end]
        assert self._form is not None
        row = self._form.shape[1:].numel() * self._form.dtype.itemsize
        content = bytearray(os.pread(self._file, (end - start) * row, start * row))
        return torch.frombuffer(content, dtype=self._form.dtype).view(end - start, *self._form.shape[1:])

    def put(self, position: int, states: Tensor) -> None:
        """Keep a text's states.

        Raises:
            OSError: The disk is full or refuses.
        """
        start, end = self._span(position)
        if self._form is None:
            self._form = states[:0]
            if self._file is None:
                self._memory = torch.empty((int(self._ends[-1]), *states.shape[1:]), dtype=states.dtype)
        if self._file is None:
            self._memory[start:end] = states
            return
        content = states.contiguous().view(torch.uint8).numpy().data.cast("B")
        at = start * states[0].numel() * states.dtype.itemsize
        while content:
            written = os.pwrite(self._file, content, at)
            content, at = content[written:], at + written

    def _span(self, position: SupportsIndex) -> tuple[int, int]:
        end = int(self._ends[position])
        return end - int(self._lengths[position]), end
