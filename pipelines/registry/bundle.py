"""The bundle of a version: a verifiable folder of encoder, rankers, features, configuration and evaluation."""

import shutil
from collections.abc import Mapping
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

from encoders.model import InterestModel
from features.candidates.cut import CandidateCut
from features.errors import ConfigError, ContractError, IntegrityError, listed
from features.families.manifest import FeatureManifest, columns_of
from features.log.event_log import date_of
from features.log.inventory import UNKNOWN
from pipelines.base.config import Config
from pipelines.base.outside import written
from pipelines.registry.bundle_files import (
    BEHAVIOUR,
    FILES,
    LATER_FILES,
    MANIFEST,
    RANKER,
    are_of_rankers,
    install,
    verify_files,
)
from pipelines.registry.mlmodel import MLMODEL, mlmodel
from pipelines.registry.parsing import behaviour_name, parse_elsewhere, read_features, read_rankers
from pipelines.stores.storage import apply_umask, read_json, read_parquet, sha256_of, write_json, write_parquet
from pipelines.training.train import Trained
from ranker.ranker import Ranker

__all__ = [
    "Bundle",
    "library_versions",
    "load_bundle",
    "other_libraries",
    "rescore_golden",
    "write_bundle",
]

_GOLDEN_ROWS = 200
_CUDA = "cuda"
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
            (staging / MLMODEL).write_text(mlmodel(trained.chain.log), encoding="utf-8")
            names = FILES | LATER_FILES | {f"{RANKER}/{path.name}" for path in (staging / RANKER).iterdir()}
            manifest = {
                "files": {name: sha256_of(staging / name) for name in sorted(names)},
                "cutoff": trained.cutoff().isoformat(),
                "training": _lineage(trained),
                "data": fingerprints,
                "encoder": _digests(trained.model),
                "libraries": library_versions() | _backend_version(trained.model),
            }
            write_json(manifest, staging / MANIFEST)
            apply_umask(staging)
            final = root / sha256_of(staging / MANIFEST)[:32]
            install(staging, final)
            return final
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write_models(folder: Path, trained: Trained, golden_rows: pl.DataFrame) -> None:
    """Write the encoder, both rankers with their features, and the golden rows with their scores."""
    ranker = trained.ranker
    for inner in ("encoder", RANKER):
        (folder / inner).mkdir()
    trained.model.save(folder / "encoder")
    contents = ranker.files() | {behaviour_name(name): each for name, each in trained.behaviour_ranker.files().items()}
    if not are_of_rankers(f"{RANKER}/{name}" for name in contents):
        raise ConfigError(
            f"ranker.kind: the files of a ranker ({listed(ranker.files())}) need plain names with different suffixes, "
            f"and none of them may be called {BEHAVIOUR}."
        )
    for name, content in contents.items():
        (folder / RANKER / name).write_bytes(content)
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


def load_bundle(folder: Path) -> Bundle:
    """Verify and load a version, and re-score its golden rows.

    Raises:
        IntegrityError: Anything is not as it was written, its files break their parsers, or golden rows score
            differently here, by more than `Ranker.tolerance`.
        ConfigError: Its ranker is of a kind that no installed package brings.
    """
    manifest, digest = verify_files(folder), sha256_of(folder / MANIFEST)
    parse_elsewhere(folder, digest)
    features = read_features(folder)
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    ranker, behaviour = read_rankers(folder, features, config["ranker"].get("kind"))
    rescore_golden(folder, ranker, manifest.get("libraries", {}))
    cut = (folder / "candidates.json").read_text(encoding="utf-8")
    first, last = read_json(folder / "evaluation.json", what="bundle")["window"]
    return Bundle(
        folder=folder,
        digest=digest,
        manifest=manifest,
        model=InterestModel.load(folder / "encoder"),
        ranker=ranker,
        behaviour_ranker=behaviour,
        features=features,
        config=config,
        window=(date.fromisoformat(first), date.fromisoformat(last)),
        cut=None if cut == "null" else CandidateCut.from_json(cut),
    )


def _backend_version(model: InterestModel) -> dict[str, str]:
    """The CUDA version, if vectors are made on a GPU."""
    return {} if model.gpu is None else {_CUDA: str(torch.version.cuda)}


def _digests(model: InterestModel) -> dict[str, str]:
    """Digests of the vector stores that a version uses: of each tower, and of queries where it reads them."""
    digests = {which: model.digest(which) for which in ("tuned", "zero_shot")}
    return digests | ({"queries": model.digest("tuned", queries=True)} if model.queries else {})


def _manifest_of(trained: Trained) -> FeatureManifest:
    assembler = trained.chain.assembler
    return FeatureManifest(
        ranker=trained.ranker.features,
        behaviour=trained.behaviour_ranker.features,
        columns=columns_of(assembler.families, [assembler.sources, trained.chain.interest]),
        inventory=assembler.plan.inventory,
        unknown_code=UNKNOWN,
        zero_shot_pooling=trained.pooling,
    )


def rescore_golden(folder: Path, ranker: Ranker, libraries: Mapping[str, str]) -> None:
    """Score a bundle's golden rows again.

    Args:
        folder: The bundle.
        ranker: Its full ranker.
        libraries: Versions of the libraries that it was made with.

    Raises:
        IntegrityError: Rows lack features, or score differently by more than `Ranker.tolerance`.
    """
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
            f"{_blamed(libraries)}"
        )


def other_libraries(recorded: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Libraries of another version here than was recorded: both versions by name; `none` where one is not installed."""
    here = library_versions()
    both = {name: (then, here.get(name, "none")) for name, then in recorded.items() if name != _CUDA}
    return {name: (then, now) for name, (then, now) in both.items() if then != now}


def _blamed(recorded: Mapping[str, str]) -> str:
    """What to do about other scores: which libraries differ, and how to install them."""
    others = other_libraries(recorded)
    if not others:
        return (
            "All libraries have the versions that it was made with, so that it is the processor, or what a library was "
            "built with: train again on this machine, or score where it was made."
        )
    differ = ", ".join(f"{name} {then}, here {now}" for name, (then, now) in others.items())
    install = " ".join(f"{name}=={then}" for name, (then, _) in others.items())
    return f"It was made with other libraries: {differ}. Install those (pip install {install}), or train again."
