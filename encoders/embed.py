"""Texts to vectors, as a pure function of (encoder, backend, text)."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from encoders.tokenize import TokenisedTexts
from encoders.towers import TextTower
from features.candidates import GRID

__all__ = ["ROWS", "Progress", "bf16_is_native", "embed_pooled", "on_grid", "pool_all", "read_lower"]

ROWS = 64
"""Every forward pass has this many rows, filled up with copies: a vector does not depend on what else is encoded."""

Progress = Callable[[int], None]
"""Told how many texts were done since the last call."""


def bf16_is_native() -> bool:
    """Whether this machine multiplies bfloat16 in hardware."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    capability = torch.backends.cpu.get_cpu_capability()
    return capability.startswith("AVX512") and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001


def on_grid(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """Unit vectors in whole multiples of 1/GRID, of norm at most GRID so that float32 dot products are exact."""
    scaled = vectors.astype(np.float64)
    scaled *= (GRID - 0.5 * np.sqrt(vectors.shape[1])) / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-9)
    return np.rint(scaled).astype(np.int16)


def read_lower(
    tower: TextTower, texts: TokenisedTexts, *, bf16: bool, progress: Progress | None = None
) -> list[torch.Tensor]:
    """Hidden states of the frozen layers, one (length, width) tensor a text, in bfloat16 or float32."""
    hidden: list[torch.Tensor] = [torch.empty(0)] * len(texts.ids)
    for positions, ids, mask in _batches(texts):
        with _precision(tower, bf16=bf16), torch.inference_mode():
            states = tower.read(_on(tower, ids), _on(tower, mask)).cpu()
        for row, position in enumerate(positions):
            hidden[position] = states[row].clone()
        if progress is not None:
            progress(len(positions))
    return hidden


def pool_all(
    tower: TextTower,
    texts: TokenisedTexts,
    *,
    bf16: bool,
    lower: Sequence[torch.Tensor] | None = None,
    progress: Progress | None = None,
) -> torch.Tensor:
    """What the transformer makes of texts, before the projection: (texts, width) float32.

    Args:
        tower: The text tower; its mode is restored afterwards.
        texts: What to encode.
        bf16: Whether matrix products run in bfloat16.
        lower: What `read_lower` returned for the same texts, to save computing it again.
        progress: Told how many texts were done.
    """
    pooled = torch.zeros(len(texts.ids), tower.width)
    was_training = tower.training
    tower.eval()
    for positions, ids, mask in _batches(texts):
        with _precision(tower, bf16=bf16), torch.inference_mode():
            if lower is None:
                states = tower.read(_on(tower, ids), _on(tower, mask))
            else:
                rows = [*positions, *[positions[0]] * (ROWS - len(positions))]
                states = torch.stack([lower[row] for row in rows]).to(_device(tower))
            part = tower.pool(states, _on(tower, mask)).cpu()
        pooled[positions] = part[: len(positions)]
        if progress is not None:
            progress(len(positions))
    tower.train(was_training)
    return pooled


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
