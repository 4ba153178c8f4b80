"""The files of a bundle: which there must be, unaltered; and how a complete folder appears under its name.

Light to import: neither torch nor MLflow. What the files mean is `pipelines.registry.bundle`'s.
"""

import errno
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from features.errors import IntegrityError, TryAgainError, listed
from pipelines.base.outside import written
from pipelines.registry.mlmodel import MLMODEL
from pipelines.stores.storage import read_json, sha256_of
from pipelines.stores.trash import discard, emptied

__all__ = [
    "BEHAVIOUR",
    "FILES",
    "LATER_FILES",
    "MANIFEST",
    "RANKER",
    "are_of_rankers",
    "damage",
    "install",
    "verify_files",
]

MANIFEST = "manifest.json"
BEHAVIOUR = "behaviour"
"""What all files of the ranker that sees no text are called, but for their suffix."""
RANKER = "ranker"
"""Folder of the files of both rankers."""
_ROUNDS = 20
FILES = {
    "candidates.json",
    "config.yaml",
    "evaluation.json",
    "features.json",
    "golden.parquet",
    "encoder/config.json",
    "encoder/model.safetensors",
    "encoder/tokenizer.json",
}
LATER_FILES = {MLMODEL}  # that bundles of earlier versions lack
_OF_MLFLOW = {"registered_model_meta"}  # that MLflow writes beside a model when it fetches it; never read


def install(complete: Path, final: Path) -> None:
    """Let a complete bundle appear under its name in one step; the same one stays, and a damaged one gives way.

    Raises:
        TryAgainError: The disk refuses.
    """
    digest = sha256_of(complete / MANIFEST)
    with written(final):
        for _ in range(_ROUNDS):
            try:
                complete.rename(final)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            else:
                return
            if damage(final, digest) is None:
                return
            with suppress(TryAgainError):  # another process was quicker
                emptied(discard(final))
    raise TryAgainError(f"{final} is damaged and cannot be replaced. See to its permissions, then run it again.")


def damage(folder: Path, digest: str) -> str | None:
    """What is wrong with a bundle that should have a digest; None if nothing is."""
    try:
        verify_files(folder)
        is_another = sha256_of(folder / MANIFEST) != digest
    except IntegrityError as error:
        return str(error)
    except FileNotFoundError:
        return f"{folder} went away while it was looked at"  # another process replaces it
    return f"{folder} is another bundle than it should be" if is_another else None


def verify_files(folder: Path) -> dict[str, Any]:
    """Check that a folder holds exactly what its manifest names, unaltered.

    Returns:
        The manifest.

    Raises:
        IntegrityError: A file is missing, unknown or altered, or is a link; all are named.
    """
    manifest: dict[str, Any] = read_json(folder / MANIFEST, what="bundle")
    named = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(named, dict) or not set(named) >= FILES or not are_of_rankers(named):
        raise IntegrityError(f"{folder}: the manifest does not name the files of a bundle.")
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}
    faults = [f"{name} is unknown" for name in sorted(present - set(named) - {MANIFEST, *_OF_MLFLOW})]
    for name in sorted(named):
        path = folder / name
        if path.is_symlink() or not path.is_file():
            faults.append(f"{name} is missing or a link")
        elif sha256_of(path) != named[name]:
            faults.append(f"{name} was altered")
    if faults:
        raise IntegrityError(f"{folder}: {listed(faults, most=9)}. Fetch the bundle again, or roll back.")
    return manifest


def are_of_rankers(names: Iterable[str]) -> bool:
    """Whether what is named beside the files of every bundle can be the files of two rankers of one kind."""
    paths = [Path(name) for name in set(names) - FILES - LATER_FILES]
    behaviour = [path for path in paths if path.stem == BEHAVIOUR]
    suffixes = {path.suffix for path in paths}
    return (
        bool(paths)
        and len(paths) == 2 * len(behaviour) == 2 * len(suffixes)
        and all(path.parent == Path(RANKER) for path in paths)
    )
