"""Exit code and message of a command that fails; a traceback only for faults of nightrank itself."""

import traceback

from features.errors import ConfigError, ContractError, IntegrityError, NightrankError, TryAgainError
from pipelines.base.outside import disk_error, errno_of, printable, without_credentials, words_of

__all__ = ["ending"]

_LIBRARIES: dict[str, tuple[type[NightrankError], str]] = {
    "mlflow": (TryAgainError, "Check the keys of `tracking`, then run it again."),
    "sqlalchemy": (TryAgainError, "Check the keys of `tracking`, then run it again."),
    "sqlite3": (TryAgainError, "Check the keys of `tracking`, then run it again."),
    "requests": (TryAgainError, "Check the keys of `tracking`, then run it again."),
    "urllib3": (TryAgainError, "Check the keys of `tracking`, then run it again."),
    "polars": (ContractError, "Compare yours with `nightrank help tables`; `nightrank check` names what breaks them."),
    "pyo3_runtime": (ContractError, "Compare yours with `nightrank help tables`; `nightrank check` names it."),
    "pyarrow": (IntegrityError, "Fetch the file again."),
    "safetensors_rust": (IntegrityError, "Fetch the model again."),
    "lightgbm": (ConfigError, "Check the keys of `ranker`."),
    "pydantic_core": (ConfigError, "Train the version again, or install the nightrank that wrote it."),
    "yaml": (ConfigError, "Check the configuration."),
}
_TABLES = {"polars", "pyo3_runtime", "pyarrow"}
_MEMORY = ("out of memory", "cannot allocate memory", "can't allocate memory", "bad_alloc", "defaultcpuallocator")


def ending(error: BaseException) -> tuple[int, str]:
    """The exit code of an error and its message, with control characters escaped.

    Args:
        error: What ended the command.
    """
    failure = error if isinstance(error, NightrankError) else _from_outside(error)
    if failure is not None:
        return failure.exit_code, _safe(f"nightrank: {type(failure).__name__}\n{failure}\n")
    if isinstance(error, KeyboardInterrupt):
        return 130, ""
    lines = "".join(traceback.format_exception(error))
    name = type(error).__name__
    return 1, _safe(f"{lines}nightrank: {name}\nThis is a fault of nightrank itself. Please report the lines above.\n")


def _from_outside(error: BaseException) -> NightrankError | None:
    """Translate an error of the machine or of a library into one of ours; None for a fault of nightrank itself."""
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in _MEMORY):
        return TryAgainError(
            f"memory does not suffice ({words_of(error)}). Free some, or ask for less: max_memory_gb, "
            "encoder.requests_per_batch, encoder.max_tokens, candidates.max_per_request."
        )
    if isinstance(error, OSError) or errno_of(error) is not None:
        return disk_error(error, doing="read or written")
    library = type(error).__module__.partition(".")[0]
    if library not in _LIBRARIES:
        return None
    kind, remedy = _LIBRARIES[library]
    words = words_of(error)
    if library in _TABLES:  # which quote values
        words = words.split("[")[0].split(":")[0].split('"')[0].strip()
    return kind(f"{library}: {type(error).__name__} ({words}). {remedy}")


def _safe(text: str) -> str:
    return printable(without_credentials(text), keep="\n")
