"""What runs the encoder where texts become vectors: settled where a training begins, and kept with the version."""

import statistics
import time
from collections.abc import Mapping, Sequence

from encoders.compiled import openvino_is_installed
from encoders.config import Backend, EncoderConfig
from encoders.embed import Reader, cast_once, pool_all
from encoders.gpu import gpu_is_there
from encoders.model import LEAST_AGREEMENT, InterestModel
from encoders.tokenize import TokenisedTexts
from features.errors import ConfigError
from pipelines.progress import say

__all__ = ["LEAST_GAIN", "settle_backend"]

LEAST_GAIN = 1.1
"""Times as fast as torch on the processor that a backend must be for `auto` to take it: two measurements may differ by
less."""

_TURNS = 5


def settle_backend(model: InterestModel, texts: TokenisedTexts, config: EncoderConfig, *, taught: bool) -> None:
    """Hold backends against the catalogue's texts: take the one that `auto` finds fastest, refuse what is not fit.

    A backend is fit if its vectors have a cosine of `LEAST_AGREEMENT` to torch's in float32 and are the same to the bit
    in any batch. `auto` measures wall time in turns with torch on the processor, over some of the texts, after a turn
    of each that does not count.

    Args:
        model: Its precision is settled; gets the backend.
        texts: The catalogue's.
        config: `backend` is what was asked.
        taught: Whether a training goes on from a version, whose backend stays.

    Raises:
        ConfigError: A backend is asked for, or the version's, and is not fit.
    """
    if not len(texts.ids):
        return
    if model.backend != "torch":
        if fault := _fault(model, texts):
            raise ConfigError(f"encoder.backend is {model.backend}, which {fault}. Set it to torch.")
    elif config.backend == "auto" and not taught:
        why = _take_fastest(model, texts)
        say("backend", backend=model.backend, **why)


def _take_fastest(model: InterestModel, texts: TokenisedTexts) -> dict[str, str]:
    """Give the model the fastest backend that is fit, or leave it torch; why others were not taken."""
    why: dict[str, str] = {}
    fit: list[Backend] = []
    there: Sequence[tuple[Backend, bool, str]] = (
        ("openvino", openvino_is_installed(), "is not installed"),
        ("cuda", gpu_is_there(), "finds no device"),
    )
    for backend, is_there, lacking in there:
        if is_there:
            model.run_by(backend)
        fault = _fault(model, texts) if is_there else lacking
        if fault is None:
            fit.append(backend)
        else:
            why[backend] = fault
    gains = _gains(model, model.sample(texts), fit)
    fast: list[Backend] = [backend for backend in fit if gains[backend] >= LEAST_GAIN]
    taken: Backend = max(fast, key=gains.__getitem__) if fast else "torch"
    model.run_by(taken)
    return why | {
        backend: f"is {gains[backend]:.2f} times as fast as torch here"
        + (f", less than {LEAST_GAIN}" if gains[backend] < LEAST_GAIN else "")
        for backend in fit
        if backend != taken
    }


def _fault(model: InterestModel, texts: TokenisedTexts) -> str | None:
    """Why the model's backend cannot be used for it; None where it can."""
    try:
        cosine = model.agreement(texts)
    except RuntimeError as error:  # of the backend: the message's other lines are a trace
        return f"cannot run this encoder ({str(error).strip().splitlines()[0]})"
    if not cosine >= LEAST_AGREEMENT:  # nor where it is no number
        return f"makes vectors of cosine {cosine:.6f} to those of torch in float32, less than {LEAST_AGREEMENT}"
    if not model.batch_independent(texts):
        return "makes vectors that depend on the texts beside them"
    return None


def _gains(model: InterestModel, texts: TokenisedTexts, backends: Sequence[Backend]) -> Mapping[Backend, float]:
    """Seconds of torch on the processor over those of each backend, all made ready before."""
    if not backends:
        return {}
    tower = model.zero_shot
    readers: dict[Backend, Reader | None] = {"torch": cast_once(tower, bf16=model.bf16)}
    for backend in backends:
        model.run_by(backend)
        readers[backend] = model.reader("zero_shot")
    seconds: dict[Backend, list[float]] = {name: [] for name in readers}
    for _ in range(1 + _TURNS):
        for name, reader in readers.items():
            start = time.perf_counter()
            pool_all(tower, texts, bf16=model.bf16, reader=reader)
            seconds[name].append(time.perf_counter() - start)
    taken = {name: statistics.median(found[1:]) for name, found in seconds.items()}
    return {backend: taken["torch"] / taken[backend] for backend in backends}
