"""Checks that the backend which encodes texts gives the vectors it should."""

from encoders.model import LEAST_AGREEMENT, InterestModel
from encoders.tokenize import TokenisedTexts
from features.errors import ConfigError

__all__ = ["refuse_unfit_backend"]


def refuse_unfit_backend(model: InterestModel, texts: TokenisedTexts) -> None:
    """Refuse a backend whose vectors of the catalogue's texts differ too much from those of torch.

    A backend is fit if its vectors have a cosine of `LEAST_AGREEMENT` to torch's in float32 and are the same to the bit
    in any batch.

    Args:
        model: Its precision is settled.
        texts: The catalogue's.

    Raises:
        ConfigError: It is not.
    """
    if model.backend == "torch" or not len(texts.ids):
        return
    if fault := _fault(model, texts):
        raise ConfigError(f"encoder.backend is {model.backend}, which {fault}. Set it to torch.")


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
