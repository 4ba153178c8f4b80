"""Texts to vectors, as a pure function of (encoder, backend, text)."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from encoders.hidden import HiddenStates
from encoders.tokenize import TokenisedTexts
from encoders.towers import TextTower
from features.errors import TryAgainError
from features.tables.text import GRID

__all__ = [
    "ROWS",
    "Progress",
    "Reader",
    "bf16_is_native",
    "cast_once",
    "embed_pooled",
    "hidden_bytes",
    "is_out_of_memory",
    "on_grid",
    "pool_all",
    "read_lower",
]

ROWS = 64
"""Every forward pass has this many rows, filled up with copies: kernels are chosen by shape, and a vector must not
depend on what else is encoded."""

Progress = Callable[[int], None]
"""Called with the number of texts done since the last call."""


class Reader(Protocol):
    """Runs the two parts of a text tower: the tower itself, or its copy on a backend."""

    def read(self, ids_TL: torch.Tensor, mask_TL: torch.Tensor) -> torch.Tensor:
        """See `TextTower.read`."""

    def pool(self, read: torch.Tensor, mask_TL: torch.Tensor) -> torch.Tensor:
        """See `TextTower.pool`."""


def bf16_is_native(*, on_gpu: bool = False) -> bool:
    """Whether the processor, or the CUDA device, multiplies bfloat16 in hardware."""
    if on_gpu:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capability = torch.backends.cpu.get_cpu_capability()
    return capability.startswith("AVX512") and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001


def on_grid(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """Unit vectors in whole multiples of 1/GRID, of norm at most GRID so that float32 dot products are exact."""
    scaled = vectors.astype(np.float64)
    scaled *= (GRID - 0.5 * np.sqrt(vectors.shape[1])) / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-9)
    return np.rint(scaled).astype(np.int16)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that memory ran out, on the accelerator or on the machine."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def hidden_bytes(tower: TextTower, texts: TokenisedTexts, *, bf16: bool) -> int:
    """Bytes that `read_lower` keeps of texts."""
    return int(texts.lengths.sum()) * tower.width * (2 if bf16 else 4)


def read_lower(
    tower: TextTower,
    texts: TokenisedTexts,
    *,
    bf16: bool,
    reader: Reader | None = None,
    file: IO[bytes] | None = None,
    progress: Progress | None = None,
) -> HiddenStates:
    """Hidden states of the frozen layers, one (length, width) tensor a text, in bfloat16 or float32.

    Args:
        tower: The text tower.
        texts: What to read.
        bf16: Whether matrix products run in bfloat16.
        reader: What runs the tower in that precision; None for torch.
        file: Where to keep them (see `HiddenStates`), None for memory.
        progress: Called with the number of texts done.

    Raises:
        OSError: The file cannot be written.
        TryAgainError: Memory does not suffice for a single text.
    """
    hidden = HiddenStates(texts.lengths, file=file)
    run = reader or cast_once(tower, bf16=bf16)
    for positions, ids, mask in _batches(texts):
        with _precision(tower, bf16=bf16), torch.inference_mode():
            states = _in_parts(lambda ids, mask: run.read(_on(tower, ids), _on(tower, mask)).cpu(), ids, mask)
        for row, position in enumerate(positions):
            hidden.put(position, states[row])
        if progress is not None:
            progress(len(positions))
    return hidden


def pool_all(
    tower: TextTower,
    texts: TokenisedTexts,
    *,
    bf16: bool,
    reader: Reader | None = None,
    lower: Sequence[torch.Tensor] | None = None,
    progress: Progress | None = None,
) -> torch.Tensor:
    """What the transformer makes of texts, before the projection: (texts, width) float32.

    Args:
        tower: The text tower; its mode is left as it is.
        texts: What to encode.
        bf16: Whether matrix products run in bfloat16.
        reader: What runs the tower in that precision; None for torch.
        lower: What `read_lower` returned for the same texts, to save computing it again.
        progress: Called with the number of texts done.

    Raises:
        TryAgainError: Memory does not suffice for a single text.
    """
    pooled = torch.zeros(len(texts.ids), tower.width)
    was_training = tower.training
    tower.eval()
    run = reader or cast_once(tower, bf16=bf16)

    def pool(positions: npt.NDArray[np.int64], ids: npt.NDArray[np.int32], mask: npt.NDArray[np.bool_]) -> torch.Tensor:
        if lower is None:
            states = run.read(_on(tower, ids), _on(tower, mask))
        else:
            states = torch.stack([lower[position] for position in positions]).to(_device(tower))
        return run.pool(states, _on(tower, mask)).cpu()

    for positions, ids, mask in _batches(texts):
        filled = np.concatenate([positions, np.repeat(positions[:1], len(ids) - len(positions))])
        with _precision(tower, bf16=bf16), torch.inference_mode():
            pooled[positions] = _in_parts(pool, filled, ids, mask)[: len(positions)]
        if progress is not None:
            progress(len(positions))
    tower.train(was_training)
    return pooled


def _in_parts(run: Callable[..., torch.Tensor], *rows: npt.NDArray[Any]) -> torch.Tensor:
    """Run the rows of a batch at once, or in halves where memory does not suffice.

    Raises:
        TryAgainError: It does not suffice for one row.
    """
    try:
        return run(*rows)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        if len(rows[0]) == 1:
            raise TryAgainError(
                "memory does not suffice to encode a single text. Free some, or read less of a text "
                "(encoder.max_tokens)."
            ) from error
    half = len(rows[0]) // 2  # here, where the error no longer holds what was allocated
    parts = ([part[:half] for part in rows], [part[half:] for part in rows])
    return torch.cat([_in_parts(run, *part) for part in parts])


def cast_once(tower: TextTower, *, bf16: bool) -> TextTower:
    """The tower for inference: under autocast each batch would cast and lay out all matrices anew, to the same bits."""
    if not bf16:
        return tower
    cast = copy.deepcopy(tower, {id(part): part for part in (tower.embeddings, tower.config)})
    for module in [*cast.lower.modules(), *cast.upper.modules()]:
        for name, part in module.named_children():
            if isinstance(part, torch.nn.Linear):
                part.to(torch.bfloat16)
                if _device(tower).type == "cpu":
                    setattr(module, name, _LaidOut(part))
    return cast


class _LaidOut(torch.nn.Module):
    """A bfloat16 matrix in the order in which oneDNN reads it.

    Args:
        linear: The matrix and its bias, if any.
    """

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())  # noqa: SLF001
        self._bias = linear.bias

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As `torch.nn.Linear` under autocast."""
        arguments: tuple[Any, ...] = (input.to(torch.bfloat16), self._weight, self._bias, "none", [], "")
        after: torch.Tensor = torch.ops.mkldnn._linear_pointwise(*arguments)  # noqa: SLF001
        return after


def embed_pooled(tower: TextTower, pooled: torch.Tensor) -> npt.NDArray[np.int16]:
    """Vectors on the grid of 1/GRID, (texts, width) int16, of pooled texts."""
    vectors = np.zeros(pooled.shape, np.int16)
    for start in range(0, len(pooled), ROWS):
        part = torch.zeros(ROWS, pooled.shape[1])
        chosen = pooled[start : start + ROWS]
        part[: len(chosen)] = chosen
        with torch.inference_mode():
            vectors[start : start + ROWS] = on_grid(tower.project(part.to(_device(tower))).cpu().numpy()[: len(chosen)])
    return vectors


def _batches(
    texts: TokenisedTexts,
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.bool_]]]:
    """Positions of at most ROWS texts of one padded length, and their ids and mask filled up to ROWS rows."""
    for _, positions in texts.buckets():
        for start in range(0, len(positions), ROWS):
            chosen = positions[start : start + ROWS]
            yield chosen, *texts.padded(chosen, ROWS)


def _device(tower: TextTower) -> torch.device:
    return next(tower.parameters()).device


def _on(tower: TextTower, array: npt.NDArray[np.generic]) -> torch.Tensor:
    return torch.from_numpy(array).to(_device(tower))


def _precision(tower: TextTower, *, bf16: bool) -> torch.autocast:
    return torch.autocast(_device(tower).type, dtype=torch.bfloat16, enabled=bf16)
