"""Verbs of `nightrank bundle`: verify, show, compare and copy bundles, of registered versions or of any folder."""

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from features.errors import ConfigError, IntegrityError
from pipelines.base.config import flat
from pipelines.base.outside import written
from pipelines.registry.bundle import load_bundle, other_libraries
from pipelines.registry.bundle_files import damage, verify_files
from pipelines.registry.parsing import read_features
from pipelines.registry.registry import Registry
from pipelines.stores.storage import apply_umask, read_json, sha256_of
from pipelines.stores.trash import size_of

__all__ = ["Kept", "bundle_in", "bundle_of", "differences", "export", "facts_of", "trained_until", "verify"]

_FULL = "full system"


@dataclass(frozen=True, slots=True)
class Kept:
    """A bundle whose files are those that its manifest names.

    Attributes:
        name: The version's `model/number`, or the folder as it was named.
        aliases: Of the version.
        folder: Where it lies.
        digest: sha256 of its manifest.
        manifest: The manifest.
    """

    name: str
    aliases: tuple[str, ...]
    folder: Path
    digest: str
    manifest: Mapping[str, Any]


def bundle_of(wanted: str, registry: Registry) -> Kept:
    """The bundle of a version by number or alias; it is fetched if it is not here.

    Raises:
        ConfigError: There is no such version.
        IntegrityError: It is not as it was written.
    """
    version = registry.version(wanted)
    return replace(bundle_in(registry.bundle_folder(version)), name=version.name, aliases=version.aliases)


def bundle_in(folder: Path) -> Kept:
    """The bundle in a folder.

    Raises:
        IntegrityError: It is not as it was written.
    """
    manifest = verify_files(folder)
    return Kept(str(folder), (), folder, sha256_of(folder / "manifest.json"), manifest)


def verify(kept: Kept) -> dict[str, Any]:
    """Load a bundle as a night would: hashes, a child that parses it, golden rows.

    Raises:
        IntegrityError: Something is not as it was written, or scores differently here.
    """
    bundle = load_bundle(kept.folder)
    return {
        "version": kept.name,
        "folder": str(kept.folder),
        "digest": kept.digest,
        "files": len(kept.manifest["files"]),
        "bytes": size_of(kept.folder),
        "other_libraries": _others(kept.manifest),
        "features": len(bundle.features.ranker),
    }


def _others(manifest: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    others = other_libraries(manifest.get("libraries", {}))
    return {name: {"then": then, "here": here} for name, (then, here) in others.items()}


def facts_of(kept: Kept) -> dict[str, Any]:
    """What a bundle is: when it was trained, on what, what it reads, how it was judged, with which libraries."""
    manifest, evaluation = kept.manifest, read_json(kept.folder / "evaluation.json", what="bundle")
    features, config = read_features(kept.folder), _config(kept)
    lineage = manifest.get("training", {})
    families = Counter(features.families(features.ranker))
    figures = [row for row in evaluation["systems"] if row["system"] == _FULL and row["slice"] == "all"]
    return {
        "version": kept.name,
        "aliases": list(kept.aliases),
        "folder": str(kept.folder),
        "digest": kept.digest,
        "bytes": size_of(kept.folder),
        "cutoff": manifest["cutoff"],
        "encoder_day": lineage.get("encoder_day"),
        "continues": (lineage.get("continues") or {}).get("version"),
        "encoder": str(config.get("encoder.model")),
        "ranker": config.get("ranker.kind") or "LambdaMART with a network beside it",
        "window": evaluation["window"],
        "requests": evaluation["requests"],
        "metrics": {row["metric"]: {key: row[key] for key in ("mean", "low", "high")} for row in figures},
        "features": {"ranker": len(features.ranker), "behaviour": len(features.behaviour), "families": dict(families)},
        "data": dict(manifest["data"]),
        "libraries": dict(manifest["libraries"]),
        "other_libraries": _others(manifest),
        "files": {
            name: {"bytes": (kept.folder / name).stat().st_size, "sha256": digest}
            for name, digest in manifest["files"].items()
        },
    }


def _config(kept: Kept) -> dict[str, Any]:
    """The configuration of a training by dotted key.

    Raises:
        IntegrityError: It is no mapping.
    """
    values = yaml.safe_load((kept.folder / "config.yaml").read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise IntegrityError(f"{kept.folder}: config.yaml is no configuration.")
    return dict(flat(values))


def differences(one: Kept, other: Kept) -> dict[str, Any]:
    """What differs between two bundles: each part by name, with the value of the first and of the second.

    Returns:
        `config`, `libraries`, `data`: name to both values, None where a side has none. `features`: the columns that
        only one has. `files`: names of those that differ. `metrics`: every figure that both have, and the difference.
    """
    before, after = (read_features(kept.folder).ranker for kept in (one, other))
    evaluations = [read_json(kept.folder / "evaluation.json", what="bundle") for kept in (one, other)]
    return {
        "versions": [one.name, other.name],
        "digests": [one.digest, other.digest],
        "cutoffs": [one.manifest["cutoff"], other.manifest["cutoff"]],
        "windows": [evaluation["window"] for evaluation in evaluations],
        "config": _changed(_config(one), _config(other)),
        "features": {
            "only_first": [name for name in before if name not in after],
            "only_second": [name for name in after if name not in before],
        },
        "libraries": _changed(one.manifest["libraries"], other.manifest["libraries"]),
        "data": _changed(one.manifest["data"], other.manifest["data"]),
        "files": list(_changed(one.manifest["files"], other.manifest["files"])),
        "metrics": _figures(*evaluations),
    }


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    names = sorted({*before, *after})
    return {name: [before.get(name), after.get(name)] for name in names if before.get(name) != after.get(name)}


def _figures(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The figures that two evaluations both have, in the order of the first."""
    means = {(row["system"], row["slice"], row["metric"]): row["mean"] for row in after["systems"]}
    return [
        {
            "system": row["system"],
            "slice": row["slice"],
            "metric": row["metric"],
            "first": row["mean"],
            "second": second,
            "difference": second - row["mean"],
        }
        for row in before["systems"]
        if (second := means.get((row["system"], row["slice"], row["metric"]))) is not None
    ]


def export(kept: Kept, to: Path) -> Path:
    """Copy a bundle to a new folder, which appears complete and verified, or not at all.

    Raises:
        ConfigError: Something is there already.
        TryAgainError: The disk is full or refuses.
        IntegrityError: The copy is not what was copied.
    """
    if to.exists() or to.is_symlink():
        raise ConfigError(f"{to} is there already. Name a folder that is not, or remove it first.")
    staging = to.with_name(f".{uuid4().hex}.tmp")
    try:
        with written(to):
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(kept.folder, staging)
            apply_umask(staging)
            if wrong := damage(staging, kept.digest):
                raise IntegrityError(f"copying the bundle went wrong: {wrong}")
            staging.rename(to)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return to


def trained_until(cutoff: str) -> str:
    """A cut-off as a person reads it."""
    return f"{datetime.fromisoformat(cutoff):%Y-%m-%d %H:%M} UTC"
