"""Verbs `click-model train` and `click-model score`: the pointwise head over a user's table, kept as a folder."""

import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

import dataframely as dy
import polars as pl

from encoders.click_model import ClickModel
from encoders.model import InterestModel
from features.contracts import check_table, enforce
from features.errors import ContractError, IntegrityError, listed
from features.schemas import Clicks
from pipelines.config import ClickConfig
from pipelines.outside import written
from pipelines.progress import task
from pipelines.storage import apply_umask, read_json, read_raw, sha256_of, write_json, write_parquet

__all__ = ["load_click_model", "score_click_model", "train_click_model", "write_click_model"]

_NAME, _MANIFEST = "click-model", "manifest.json"
_PACKAGE = dy.UInt32(nullable=False, alias="package")
_COLUMNS = ("group", "text", "impressions", "clicks")


def train_click_model(config: ClickConfig, *, allow_empty: bool = False) -> dict[str, Any]:
    """Read, check, learn, write; returns what was done.

    Raises:
        ContractError: The table breaks its contract, or there are too few groups.
    """
    rows, facts = _read_clicks(config, allow_empty=allow_empty)
    encoder = InterestModel.start(config.encoder)
    with task("Training the click model", config.click_model.members, "members") as advance:
        model = ClickModel.fit(
            rows,
            encoder=encoder,
            config=config.click_model,
            seed=config.seed,
            report=lambda _, losses: advance(1, note=f"held-out loss {min(losses):.4f}"),
        )
    folder = write_click_model(model, Path(config.output), data=facts["data"])
    held_out = [round(min(losses), 6) for losses in model.held_losses]
    return {**facts, "held_out_loss": held_out, "digest": model.digest(), "folder": str(folder)}


def score_click_model(config: ClickConfig, table: Path, to: Path) -> dict[str, Any]:
    """Score a table's texts; its other columns stay as they are.

    Raises:
        ContractError: It has no column of texts, or texts that are null.
        IntegrityError: The model's folder is not what `train` wrote.
    """
    theirs = config.data.clicks.columns.get("text", "text")
    asked = config.data.clicks.model_copy(update={"path": str(table), "columns": {"text": theirs}, "constants": {}})
    raw = read_raw(asked, name="clicks")
    missing = raw.frame["text"].null_count() if "text" in raw.frame.columns else raw.frame.height
    if missing:
        raise ContractError(
            f"{table}: {missing} of {raw.frame.height} rows have no text in column {theirs!r}. Drop them, or name the "
            "column of texts with --set data.clicks.columns.text=NAME."
        )
    model = load_click_model(Path(config.output) / _NAME)
    logit = pl.Series("logit", model.predict(raw.frame["text"].cast(pl.String).to_list()))
    odds = pl.col("logit").exp()
    scored = raw.frame.with_columns(logit).with_columns(probability=odds / (1 + odds))
    write_parquet(scored if theirs == "text" else scored.drop("text"), to)
    return {"texts": scored.height, "digest": model.digest(), "scores": str(to)}


def _read_clicks(config: ClickConfig, *, allow_empty: bool) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The table under its contract, a text that a group has twice pooled; and what is told of it."""
    raw = read_raw(config.data.clicks, name="clicks", allow_empty=allow_empty)
    # NOTE: Each row is a package of its own: two that had equal luck are no duplicates.
    packages = raw.frame.with_row_index("package")
    checked = check_table(packages, Clicks, name="clicks", required=_COLUMNS, extra={"package": _PACKAGE})
    if checked.bad.height:
        write_parquet(checked.bad, Path(config.output) / "quarantine" / "clicks.parquet")
    enforce([checked], config.data.quarantine.max_share)
    rows = checked.good.group_by("group", "text").agg(pl.col("impressions", "clicks").sum()).sort("group", "text")
    told = {name: int(rows[name].sum()) for name in ("impressions", "clicks")}
    facts = {"groups": rows["group"].n_unique(), "texts": rows.height, **told, "quarantined": checked.bad.height}
    return rows, {**facts, "data": raw.fingerprint}


def write_click_model(model: ClickModel, root: Path, *, data: str) -> Path:
    """Write a model under a folder, whole, in place of the one before.

    Args:
        model: The fitted model.
        root: Gets the folder `click-model`.
        data: Fingerprint of what it was trained on.

    Returns:
        Its folder.
    """
    staging = root / f".staging-{uuid4().hex}"
    try:
        with written(staging):
            staging.mkdir(parents=True)
            model.save(staging)
            write_json({"files": _hashes(staging), "data": data, "digest": model.digest()}, staging / _MANIFEST)
            apply_umask(staging)
            final, before = root / _NAME, root / f".{_NAME}-before"
            shutil.rmtree(before, ignore_errors=True)
            if final.exists():
                final.rename(before)
            staging.rename(final)
            shutil.rmtree(before, ignore_errors=True)
        return final
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def load_click_model(folder: Path) -> ClickModel:
    """Verify and load what `write_click_model` wrote.

    Raises:
        IntegrityError: A file is missing, unknown or altered; all are named.
    """
    manifest = read_json(folder / _MANIFEST, what="click model")
    named = manifest.get("files") if isinstance(manifest, dict) else None
    found = _hashes(folder)
    if not isinstance(named, dict) or named != found:
        told = named if isinstance(named, dict) else {}
        wrong = sorted(name for name in told.keys() | found.keys() if told.get(name) != found.get(name))
        raise IntegrityError(f"{folder}: missing, unknown or altered: {listed(wrong, most=9)}. Train it again.")
    return ClickModel.load(folder)


def _hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file but the manifest, by its place."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_file()]
    places = {path.relative_to(folder).as_posix(): path for path in files}
    return {
        place: "a link" if path.is_symlink() else sha256_of(path)
        for place, path in places.items()
        if place != _MANIFEST
    }
