"""The bundle of a version: a verifiable folder of encoder, rankers, features, configuration and evaluation."""

import shutil
from dataclasses import dataclass
from datetime import date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import polars as pl
import torch
import yaml
from pydantic import ValidationError

from encoders.model import InterestModel
from features.candidates.cut import CandidateCut
from features.errors import ContractError, IntegrityError, listed
from features.families.manifest import FeatureManifest, columns_of
from features.families.request import SOURCE_GROUP
from features.log.event_log import date_of
from features.log.inventory import UNKNOWN
from pipelines.base.config import Config
from pipelines.base.outside import written
from pipelines.stores.storage import apply_umask, read_json, read_parquet, sha256_of, write_json, write_parquet
from pipelines.training.train import Trained
from ranker.ranker import Ranker

__all__ = ["Bundle", "library_versions", "load_bundle", "verify_files", "write_bundle"]

_MANIFEST = "manifest.json"
_GOLDEN_ROWS = 200
_RANKERS = (
    ("ranker/booster.txt", "ranker/network.safetensors"),
    ("ranker/behaviour.txt", "ranker/behaviour.safetensors"),
)
_FILES = {
    "candidates.json",
    "config.yaml",
    "evaluation.json",
    "features.json",
    "golden.parquet",
    "encoder/config.json",
    "encoder/model.safetensors",
    "encoder/tokenizer.json",
    *(name for names in _RANKERS for name in names),
}
_LIBRARIES = (
    "torch",
    "transformers",
    "pytorch-lightning",
    "polars",
    "lightgbm",
    "mlflow",
    "numpy",
    "nightrank",
)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A loaded, verified version.

    Attributes:
        folder: Where it lies.
        digest: sha256 of its manifest: the version's identity.
        manifest: Hashes, cut-off, lineage, fingerprints, library versions.
        model: The interest model.
        ranker: The full ranker.
        behaviour_ranker: The ranker that sees no text.
        features: The feature manifest.
        config: The resolved configuration it was trained under, without paths.
        window: First and last day of its evaluation.
        cut: The fitted cut of candidates; None cuts by the best rank over the generators.
    """

    folder: Path
    digest: str
    manifest: dict[str, Any]
    model: InterestModel
    ranker: Ranker
    behaviour_ranker: Ranker
    features: FeatureManifest
    config: dict[str, Any]
    window: tuple[date, date]
    cut: CandidateCut | None

    @property
    def pooling(self) -> str:
        """The zero-shot pooling chosen on validation."""
        return self.features.zero_shot_pooling

    @property
    def cutoff(self) -> datetime:
        """Instant before which everything lies that this version has seen."""
        return datetime.fromisoformat(self.manifest["cutoff"])


def write_bundle(
    root: Path,
    *,
    trained: Trained,
    config: Config,
    evaluation: dict[str, Any],
    golden_rows: pl.DataFrame,
    fingerprints: dict[str, str],
) -> Path:
    """Write a version under a folder of bundles; it appears under its digest, complete.

    Args:
        root: Folder of all bundles.
        trained: The models.
        config: Everything configured.
        evaluation: Facts of its evaluation.
        golden_rows: Rows with features, whose scores are kept and must be reproduced on loading.
        fingerprints: sha256 of the input tables.

    Returns:
        Its folder, named by the digest.

    Raises:
        TryAgainError: The disk is full or refuses.
    """
    staging = root / f".staging-{uuid4().hex}"
    try:
        with written(staging):
            staging.mkdir(parents=True)
            _write_models(staging, trained, golden_rows)
            cut = trained.chain.cut
            (staging / "candidates.json").write_text("null" if cut is None else cut.to_json(), encoding="utf-8")
            write_json(evaluation, staging / "evaluation.json")
            (staging / "config.yaml").write_text(yaml.safe_dump(config.portable(), sort_keys=True), encoding="utf-8")
            manifest = {
                "files": {name: sha256_of(staging / name) for name in sorted(_FILES)},
                "cutoff": trained.cutoff().isoformat(),
                "training": _lineage(trained),
                "data": fingerprints,
                "encoder": _digests(trained.model),
                "libraries": library_versions() | _backend_version(trained.model),
            }
            write_json(manifest, staging / _MANIFEST)
            apply_umask(staging)
            final = root / sha256_of(staging / _MANIFEST)[:32]
            if not final.exists():
                staging.rename(final)
            return final
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write_models(folder: Path, trained: Trained, golden_rows: pl.DataFrame) -> None:
    """Write the encoder, both rankers with their features, and the golden rows with their scores."""
    ranker = trained.ranker
    for inner in ("encoder", "ranker"):
        (folder / inner).mkdir()
    trained.model.save(folder / "encoder")
    for of, (forest, network) in zip((ranker, trained.behaviour_ranker), _RANKERS, strict=True):
        text, arrays = of.files()
        (folder / forest).write_text(text, encoding="utf-8")
        (folder / network).write_bytes(arrays)
    golden = golden_rows.select(ranker.features).head(_GOLDEN_ROWS)
    write_parquet(golden.with_columns(pl.Series("score", ranker.predict(golden))), folder / "golden.parquet")
    write_json(_manifest_of(trained).model_dump(mode="json"), folder / "features.json")


def library_versions() -> dict[str, str]:
    """Versions of the libraries that results depend on, and of nightrank."""
    return {name: version(name) for name in _LIBRARIES}


def _lineage(trained: Trained) -> dict[str, Any]:
    """Facts for a training that continues this one, and the version that this one continued."""
    before = trained.continues
    return {
        "encoder_day": str(date_of(trained.encoder_day)),
        "rows": trained.rows,
        "continues": None if before is None else {"version": before.name, "bundle": before.digest},
    }


def verify_files(folder: Path) -> dict[str, Any]:
    """Check that a folder holds exactly what its manifest names, unaltered.

    Returns:
        The manifest.

    Raises:
        IntegrityError: A file is missing, unknown or altered, or is a link; all are named.
    """
    manifest: dict[str, Any] = read_json(folder / _MANIFEST, what="bundle")
    named = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(named, dict) or set(named) != _FILES:
        raise IntegrityError(f"{folder}: the manifest does not name the files of a bundle.")
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}
    faults = [f"{name} is unknown" for name in sorted(present - _FILES - {_MANIFEST})]
    for name in sorted(_FILES):
        path = folder / name
        if path.is_symlink() or not path.is_file():
            faults.append(f"{name} is missing or a link")
        elif sha256_of(path) != named[name]:
            faults.append(f"{name} was altered")
    if faults:
        raise IntegrityError(f"{folder}: {listed(faults, most=9)}. Fetch the bundle again, or roll back.")
    return manifest


def load_bundle(folder: Path) -> Bundle:
    """Verify and load a version, and re-score its golden rows.

    Raises:
        IntegrityError: Anything is not as it was written, or golden rows score differently here, by more than
            `Ranker.tolerance`.
    """
    manifest = verify_files(folder)
    features = _read_manifest(folder)
    ranker, behaviour = (
        Ranker.read((folder / forest).read_text(encoding="utf-8"), (folder / network).read_bytes(), names)
        for (forest, network), names in zip(_RANKERS, (features.ranker, features.behaviour), strict=True)
    )
    _rescore(folder, ranker)
    cut = (folder / "candidates.json").read_text(encoding="utf-8")
    first, last = read_json(folder / "evaluation.json", what="bundle")["window"]
    return Bundle(
        folder=folder,
        digest=sha256_of(folder / _MANIFEST),
        manifest=manifest,
        model=InterestModel.load(folder / "encoder"),
        ranker=ranker,
        behaviour_ranker=behaviour,
        features=features,
        config=yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")),
        window=(date.fromisoformat(first), date.fromisoformat(last)),
        cut=None if cut == "null" else CandidateCut.from_json(cut),
    )


def _backend_version(model: InterestModel) -> dict[str, str]:
    """The CUDA version, if vectors are made on a GPU."""
    return {} if model.gpu is None else {"cuda": str(torch.version.cuda)}


def _digests(model: InterestModel) -> dict[str, str]:
    """Digests of the vector stores that a version uses: of each tower, and of queries where it reads them."""
    digests = {which: model.digest(which) for which in ("tuned", "zero_shot")}
    return digests | ({"queries": model.digest("tuned", queries=True)} if model.queries else {})


def _manifest_of(trained: Trained) -> FeatureManifest:
    assembler = trained.chain.assembler
    return FeatureManifest(
        ranker=trained.ranker.features,
        behaviour=trained.behaviour_ranker.features,
        columns=columns_of(assembler.families, [SOURCE_GROUP, trained.chain.interest]),
        inventory=assembler.plan.inventory,
        unknown_code=UNKNOWN,
        zero_shot_pooling=trained.pooling,
    )


def _read_manifest(folder: Path) -> FeatureManifest:
    try:
        return FeatureManifest.model_validate(read_json(folder / "features.json", what="bundle"))
    except ValidationError as error:
        raise IntegrityError(
            f"{folder}: features.json is no feature manifest of this nightrank ({error.error_count()} faults, first "
            f"{error.errors()[0]['msg']}). Fetch the bundle again, or train with this version."
        ) from error


def _rescore(folder: Path, ranker: Ranker) -> None:
    golden = read_parquet(folder / "golden.parquet")
    try:
        scores = ranker.predict(golden)
    except ContractError as error:
        raise IntegrityError(f"{folder}: golden.parquet lacks features of the ranker.") from error
    apart = np.abs(scores - golden["score"].to_numpy())
    moved = int((~(apart <= ranker.tolerance)).sum())
    if moved:
        largest = float(apart.max())
        raise IntegrityError(
            f"{folder}: {moved} of {golden.height} golden rows score differently here (by up to {largest:.2g}). "
            "Use the library versions that the manifest names."
        )
