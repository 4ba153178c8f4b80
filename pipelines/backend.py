"""What runs the encoder where texts become vectors: settled where a training begins, and kept with the version."""

import statistics
import time

from encoders.compiled import openvino_is_installed
from encoders.config import EncoderConfig
from encoders.embed import cast_once, pool_all
from encoders.model import LEAST_AGREEMENT, InterestModel
from encoders.tokenize import TokenisedTexts
from features.errors import ConfigError
from pipelines.progress import say

__all__ = ["LEAST_GAIN", "settle_backend"]

LEAST_GAIN = 1.1
"""Times as fast as torch that OpenVINO must be for `auto` to take it: two measurements may differ by less."""

_TURNS = 5


def settle_backend(model: InterestModel, texts: TokenisedTexts, config: EncoderConfig, *, taught: bool) -> None:
    """Hold OpenVINO against the catalogue's texts: take it where `auto` finds it faster, refuse it where it is not fit.

    It is fit if its vectors have a cosine of `LEAST_AGREEMENT` to torch's in float32 and are the same to the bit in
    any batch. `auto` measures wall time in turns with torch, over some of the texts, after a turn of each that does not
    count.

    Args:
        model: Its precision is settled; gets the backend.
        texts: The catalogue's.
        config: `backend` is what was asked.
        taught: Whether a training goes on from a version, whose backend stays.

    Raises:
        ConfigError: OpenVINO is asked for, or the version's, and is not fit.
    """
    if not len(texts.ids):
        return
    if model.backend == "openvino":
        if fault := _fault(model, texts):
            raise ConfigError(f"encoder.backend is openvino, which {fault}. Set it to torch.")
    elif config.backend == "auto" and not taught:
        why = _why_not(model, texts)
        say("backend", backend=model.backend, **({"openvino": why} if why else {}))


def _why_not(model: InterestModel, texts: TokenisedTexts) -> str | None:
    """Give the model OpenVINO, or leave it torch and say why."""
    if not openvino_is_installed():
        return "is not installed"
    model.backend = "openvino"
    why = _fault(model, texts)
    if why is None and (gain := _gain(model, model.sample(texts))) < LEAST_GAIN:
        why = f"is {gain:.2f} times as fast as torch here, less than {LEAST_GAIN}"
    if why is not None:
        model.backend = "torch"
    return why


def _fault(model: InterestModel, texts: TokenisedTexts) -> str | None:
    """Why OpenVINO cannot be used for this model; None where it can."""
    try:
        cosine = model.agreement(texts)
    except RuntimeError as error:  # of OpenVINO: the message's other lines are a trace
        return f"cannot run this encoder ({str(error).strip().splitlines()[0]})"
    if not cosine >= LEAST_AGREEMENT:  # nor where it is no number
        return f"makes vectors of cosine {cosine:.6f} to those of torch in float32, less than {LEAST_AGREEMENT}"
    if not model.batch_independent(texts):
        return "makes vectors that depend on the texts beside them"
    return None


def _gain(model: InterestModel, texts: TokenisedTexts) -> float:
    """Seconds of torch over seconds of OpenVINO, both made ready before."""
    tower = model.zero_shot
    readers = {"torch": cast_once(tower, bf16=model.bf16), "openvino": model.reader("zero_shot")}
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(1 + _TURNS):
        for name, reader in readers.items():
            start = time.perf_counter()
            pool_all(tower, texts, bf16=model.bf16, reader=reader)
            seconds[name].append(time.perf_counter() - start)
    torch_s, openvino_s = (statistics.median(seconds[name][1:]) for name in ("torch", "openvino"))
    return torch_s / openvino_s
