"""Verbs `click-model train` and `click-model score`: the pointwise head over a user's table, kept as a folder."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import dataframely as dy
import polars as pl

from encoders.click_model import ClickModel, telling
from encoders.model import InterestModel
from features.errors import ConfigError, ContractError, IntegrityError, listed
from features.tables.contracts import RULES, check_table, enforce
from features.tables.schemas import Clicks
from pipelines.base.config import ClickConfig
from pipelines.base.outside import written
from pipelines.base.progress import task
from pipelines.inputs.tables import read_raw
from pipelines.stores.storage import apply_umask, read_json, sha256_of, write_json, write_parquet

__all__ = ["load_click_model", "score_click_model", "train_click_model", "write_click_model"]

_NAME, _MANIFEST = "click-model", "manifest.json"
_PACKAGE = dy.UInt32(nullable=False, alias="package")
_COLUMNS = ("group", "text", "impressions", "clicks")


def train_click_model(config: ClickConfig, *, allow_empty: bool = False) -> dict[str, Any]:
    """Read and check the table of clicks, train the click model and write it; returns the facts.

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
    least_losses = [round(min(losses), 6) for losses in model.validation_losses]
    return {**facts, "held_out_loss": least_losses, "digest": model.digest(), "folder": str(folder)}


def score_click_model(config: ClickConfig, table: Path, to: Path) -> dict[str, Any]:
    """Score a table's texts; its rows and its other columns stay as they are, a row without text gets no score.

    Raises:
        ConfigError: There is no such table, or what is to be written is a folder.
        ContractError: It has no column of texts, or no text.
        IntegrityError: The model's folder is not what `train` wrote.
    """
    if to.is_dir():
        raise ConfigError(f"--to {to}: it is a folder. Name the Parquet file to write.")
    model = load_click_model(Path(config.output) / _NAME)
    frame, texts = _texts_to_score(config, table)
    has = (texts.str.len_bytes() > 0).fill_null(value=False)
    logits = pl.Series("logit", [None] * frame.height, dtype=pl.Float64)
    logits = logits.scatter(has.arg_true(), model.predict(texts.filter(has).to_list()))
    odds = pl.col("logit").exp()
    write_parquet(frame.with_columns(logits).with_columns(probability=odds / (1 + odds)), to)
    without = int((~has).sum())
    return {"texts": frame.height - without, "without_text": without, "digest": model.digest(), "scores": str(to)}


def _texts_to_score(config: ClickConfig, table: Path) -> tuple[pl.DataFrame, pl.Series]:
    """The table to score, as it lies, and its column of texts."""
    theirs = config.data.clicks.columns.get("text", "text")
    remedy = "name the column of texts with --set data.clicks.columns.text=NAME"
    table_config = config.data.clicks.model_copy(update={"path": str(table), "columns": {}, "constants": {}})
    try:
        frame = read_raw(table_config, name="clicks", allow_empty=True).frame
    except ConfigError as error:
        raise ConfigError(f"{table}: no .parquet, .csv or .tsv file there. Name another.") from error
    if theirs not in frame.columns:
        raise ContractError(
            f"{table}: there is no column {theirs!r}; the table has {listed(frame.columns, most=20)}. Add it, or "
            f"{remedy}."
        )
    kind = frame.schema[theirs]
    if kind.is_nested() or kind in (pl.Binary, pl.Object):
        raise ContractError(f"{table}: column {theirs!r} is {kind}; write it as text, or {remedy}.")
    texts = frame[theirs].cast(pl.String)
    if frame.height and not (texts.str.len_bytes() > 0).any():
        raise ContractError(f"{table}: none of {frame.height} rows has a text in column {theirs!r}; {remedy}.")
    return frame, texts


def _read_clicks(config: ClickConfig, *, allow_empty: bool) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The checked table, with repeated texts of a group pooled; and its facts.

    `silent_groups` of the groups teach nothing: one text is left of them, or nobody or everybody clicked.
    """
    raw = read_raw(config.data.clicks, name="clicks", allow_empty=allow_empty)
    # NOTE: Each row is a package of its own: two that had equal luck are no duplicates.
    packages = raw.frame.with_row_index("package")
    checked_table = check_table(packages, Clicks, name="clicks", required=_COLUMNS, extra={"package": _PACKAGE})
    checked = replace(checked_table, files=raw.files)
    path = Path(config.output) / "quarantine" / "clicks.parquet"
    if checked.bad.height:
        write_parquet(checked.bad, path)
    enforce([checked], config.data.quarantine.max_share, kept={"clicks": path})
    if checked.good.is_empty():
        raise ContractError(
            f"clicks: all {checked.n_rows} rows were set aside, and none is left to learn from; they lie, with the "
            f"rules they broke, in {path}. Mend them, or name the right columns in data.clicks.columns."
        )
    rows = checked.good.group_by("group", "text").agg(pl.col("impressions", "clicks").sum()).sort("group", "text")
    totals = {name: int(rows[name].sum()) for name in ("impressions", "clicks")}
    groups = rows["group"].n_unique()
    silent = groups - telling(rows)["group"].n_unique()
    facts: dict[str, Any] = {"groups": groups, "silent_groups": silent, "texts": rows.height, **totals}
    facts |= {"quarantined": checked.bad.height, "data": raw.fingerprint}
    if checked.bad.height:
        rules = dict(zip(checked.rules[RULES].to_list(), checked.rules["rows"].to_list(), strict=True))
        facts |= {"rules": rules, "quarantine": str(path)}
    return rows, facts


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
    if not folder.is_dir():
        raise IntegrityError(f"{folder}: there is no click model. Train one by nightrank click-model train.")
    manifest = read_json(folder / _MANIFEST, what="click model")
    named = manifest.get("files") if isinstance(manifest, dict) else None
    hashes = _hashes(folder)
    if not isinstance(named, dict) or named != hashes:
        recorded = named if isinstance(named, dict) else {}
        wrong = sorted(name for name in recorded.keys() | hashes.keys() if recorded.get(name) != hashes.get(name))
        raise IntegrityError(f"{folder}: missing, unknown or altered: {listed(wrong, most=9)}. Train it again.")
    return ClickModel.load(folder)


def _hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file but the manifest, by its path below the folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_file()]
    by_name = {path.relative_to(folder).as_posix(): path for path in files}
    return {
        name: "a link" if path.is_symlink() else sha256_of(path) for name, path in by_name.items() if name != _MANIFEST
    }
