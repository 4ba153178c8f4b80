"""A bundle's files are parsed in a process of their own before the job parses them.

LightGBM's parser and its trees, safetensors, tokenizers and Parquet are native code: a file that was written to break
them ends or hangs the process that reads it, whatever its hash. So a bundle that is new here is first read by a child
(`python -m pipelines.registry.parsing FOLDER SECONDS`), which imports neither torch nor MLflow and may use so many
seconds of a processor. That it came through is kept under the bundle's digest, beside the folder `bundles`.
"""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import polars as pl
import yaml
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from features import errors
from features.errors import IntegrityError, NightrankError, TryAgainError
from features.families.manifest import FeatureManifest
from pipelines.base.outside import printable
from pipelines.registry.bundle_files import BEHAVIOUR
from pipelines.stores.storage import read_json, read_parquet, write_json
from ranker.ranker import Ranker, ranker_kind

__all__ = ["behaviour_name", "parse_elsewhere", "read_features", "read_rankers"]

_CPU_SECONDS = 20
_SECONDS = 300.0
_PARSERS = ("lightgbm", "numpy", "polars", "safetensors", "tokenizers")
_READY = "ready"


def parse_elsewhere(folder: Path, digest: str) -> None:
    """Let a child parse a bundle, unless it did so before under the same digest and parsers.

    Args:
        folder: The bundle, whose files are those that its manifest names.
        digest: sha256 of its manifest.

    Raises:
        IntegrityError: Its files end or hang the process that parses them, or are refused by their parsers.
        NightrankError: What else the child refused, as it did.
        TryAgainError: The child cannot be started.
    """
    sound = {"digest": digest, "parsers": {name: version(name) for name in _PARSERS}}
    kept = _record(folder, digest)
    if kept is not None and kept.is_file():
        with suppress(NightrankError):
            if read_json(kept, what="bundle") == sound:
                return
    _parse_in_child(folder)
    if kept is not None:
        with suppress(NightrankError):  # a folder that cannot be written: it is parsed there again next time
            write_json(sound, kept)


def _record(folder: Path, digest: str) -> Path | None:
    """Where it is kept that a bundle was parsed; None for one that does not lie among others under its digest."""
    among_others = folder.parent.name == "bundles" and folder.name == digest[:32]
    return folder.parent.with_name("parsed") / f"{digest}.json" if among_others else None


def _parse_in_child(folder: Path) -> None:
    paths = os.pathsep.join(path for path in sys.path if path)
    try:
        ended = subprocess.run(  # noqa: S603 - ours; a fork of a process with native threads may hang
            [sys.executable, "-P", "-m", "pipelines.registry.parsing", str(folder.absolute()), str(_CPU_SECONDS)],
            env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _broken(folder, f"were not read within {_SECONDS:.0f} seconds") from error
    except OSError as error:
        raise TryAgainError(f"no process can be started to read {folder} ({error.strerror}). Run it again.") from error
    first, _, answer = ended.stdout.decode(errors="replace").partition("\n")
    if first != _READY:
        raise TryAgainError(f"the process that reads {folder} first did not start. It says: {_last(ended.stderr)}")
    if ended.returncode == -signal.SIGXCPU:
        raise _broken(folder, f"were not read within {_CPU_SECONDS} seconds of a processor")
    if ended.returncode < 0:
        raise _broken(folder, f"end the process that reads them ({signal.Signals(-ended.returncode).name})")
    if ended.returncode:
        raise _broken(folder, f"are refused by their parser ({_last(ended.stderr)})")
    if answer:
        kind, message = json.loads(answer)
        raise getattr(errors, kind)(message)


def _broken(folder: Path, how: str) -> IntegrityError:
    return IntegrityError(
        f"{folder}: its files have the hashes that its manifest names, and {how}. Nobody's training wrote them so: do "
        "not load it; roll back, or train again."
    )


def _last(stderr: bytes) -> str:
    """The last line that a process wrote."""
    return printable((stderr.decode(errors="replace").strip().splitlines() or ["nothing"])[-1][:300])


def behaviour_name(name: str) -> str:
    """What a file of a ranker is called where the ranker is the one that sees no text."""
    return f"{BEHAVIOUR}{Path(name).suffix}"


def read_features(folder: Path) -> FeatureManifest:
    """A bundle's feature manifest.

    Raises:
        IntegrityError: It is none of this nightrank.
    """
    try:
        return FeatureManifest.model_validate(read_json(folder / "features.json", what="bundle"))
    except ValidationError as error:
        raise IntegrityError(
            f"{folder}: features.json is no feature manifest of this nightrank ({error.error_count()} faults, first "
            f"{error.errors()[0]['msg']}). Fetch the bundle again, or train with this version."
        ) from error


def read_rankers(folder: Path, features: FeatureManifest, kind: str | None) -> tuple[Ranker, Ranker]:
    """A bundle's full ranker, and the one that sees no text.

    Raises:
        IntegrityError: They are no rankers of these features.
        ConfigError: No installed package brings the kind.
    """
    paths = {path.name: path for path in (folder / "ranker").iterdir() if path.stem != BEHAVIOUR}
    full = {name: path.read_bytes() for name, path in paths.items()}
    behaviour = {name: path.with_name(behaviour_name(name)).read_bytes() for name, path in paths.items()}
    read = ranker_kind(kind).read
    return read(full, features.ranker), read(behaviour, features.behaviour)


def _parse(folder: Path) -> None:
    """Read everything of a bundle that native code reads, and score its golden rows."""
    with safe_open(folder / "encoder" / "model.safetensors", framework="numpy") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - it is no mapping
            tensors.get_slice(name).get_shape()
    Tokenizer.from_file(str(folder / "encoder" / "tokenizer.json"))
    features, golden = read_features(folder), read_parquet(folder / "golden.parquet")
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    for ranker in read_rankers(folder, features, config["ranker"].get("kind")):
        absent = [name for name in ranker.features if name not in golden.columns]
        ranker.predict(golden.with_columns(pl.lit(float("nan"), pl.Float32).alias(name) for name in absent))


def _import_lightgbm() -> None:
    """Import LightGBM without what it only offers to others and takes a second to import."""
    absent = [name for name in ("dask", "matplotlib", "pandas", "sklearn") if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment] # which is how a module that there is not is written
    importlib.import_module("lightgbm")
    for name in absent:
        del sys.modules[name]


def _main(folder: str, seconds: str) -> None:
    """What the child does: it answers `ready`, and then nothing, or the kind and message of an error of ours."""
    _import_lightgbm()
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(used) + int(seconds), resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stdout.write(f"{_READY}\n")
    sys.stdout.flush()
    try:
        _parse(Path(folder))
    except NightrankError as error:
        sys.stdout.write(json.dumps([type(error).__name__, str(error)]))
    except SafetensorError as error:
        sys.stdout.write(json.dumps(["IntegrityError", f"{folder}: model.safetensors cannot be read ({error})."]))


if __name__ == "__main__":
    _main(*sys.argv[1:])
