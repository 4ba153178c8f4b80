"""E-mail addresses and telephone numbers that people write: masked wherever texts are kept, counted in items."""

from pathlib import Path

import polars as pl
import pytest

from pipelines.inputs.read import read_events

ADDRESS, NUMBER = "ann.planted@example.org", "030 7654321"


@pytest.fixture
def project(shop_project, tmp_path):
    """The shop, whose latest file has comments; one of a row that breaks its contract."""
    project = shop_project.copy(tmp_path / "project")
    (file,) = max((project.folder / "events").glob("date=*")).glob("*.parquet")
    events = pl.read_parquet(file, hive_partitioning=False)
    comments = [f"write to {ADDRESS}", f"call {NUMBER}", "lovely", *[None] * (events.height - 3)]
    broken = pl.int_range(pl.len()) == 1
    user = pl.when(~broken).then("user_id")
    events.with_columns(text=pl.Series(comments), user_id=user).write_parquet(file)
    items = pl.read_parquet(project.folder / "items.parquet")
    title = pl.when(pl.int_range(pl.len()) < 2).then(pl.lit(f"ask {ADDRESS}")).otherwise("title")
    items.with_columns(title=title).write_parquet(project.folder / "items.parquet")
    return project


def comments_of(config):
    return set(read_events(config).log.raw_events.holding("text")["text"])


def kept_texts(project):
    """All texts of the output folder's tables and other files, one below the other."""
    texts = []
    for path in Path(project.config.output).rglob("*"):
        if path.suffix == ".parquet":
            table = pl.read_parquet(path, glob=False, hive_partitioning=False)
            texts += [
                text for column in table.iter_columns() if column.dtype == pl.String for text in column.drop_nulls()
            ]
        elif path.is_file():
            texts.append(path.read_bytes().decode("latin-1"))
    return "\n".join(texts)


def test_comments_are_masked_in_log_state_and_quarantine_and_counted(project, command):
    ended = command(project, "check")
    assert ended.code == 0, ended.err
    assert ended.facts["tables"]["events"]["texts_masked"] == {"text": 2}
    assert comments_of(project.config) == {"write to [e-mail]", "lovely"}
    kept = kept_texts(project)
    assert "call [phone]" in kept  # the quarantine's row
    for planted in (ADDRESS, NUMBER):
        assert planted not in kept
        assert planted not in ended.err + ended.out


def test_addresses_in_titles_are_counted_and_stay(project, command):
    ended = command(project, "check")
    warned = [line for line in ended.err.splitlines() if "2 items have an e-mail address" in line]
    assert len(warned) == 1
    assert "data.items.text" in warned[0]
    assert (read_events(project.config).log.items["title"] == f"ask {ADDRESS}").sum() == 2


def test_nothing_is_masked_where_that_is_off_and_the_state_follows(project):
    assert comments_of(project.config) == {"write to [e-mail]", "lovely"}
    project.change(
        data={
            **project.config.data.model_dump(mode="json", exclude_unset=True),
            "events": {"path": "events", "mask_personal": False},
        }
    )
    assert comments_of(project.config) == {f"write to {ADDRESS}", "lovely"}
    assert f"call {NUMBER}" in kept_texts(project)
    project.change(data={"events": {"path": "events"}})
    assert comments_of(project.config) == {"write to [e-mail]", "lovely"}
