import json
import os
import stat

import polars as pl
import pytest

from features.errors import ConfigError, IntegrityError, TryAgainError
from pipelines.stores.storage import (
    apply_umask,
    atomic_writer,
    read_json,
    read_parquet,
    sha256_of,
    write_json,
    write_parquet,
)

FRAME = pl.DataFrame({"user_id": ["u1", "u2"], "clicks": [3, 4]})


def half_written(path, error):
    with atomic_writer(path) as file:
        file.write(b"half")
        raise error


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "new" / "folder" / "file.bin"
    with atomic_writer(path) as file:
        file.write(b"first")
        assert not path.exists()
    assert path.read_bytes() == b"first"
    with atomic_writer(path) as file:
        file.write(b"second")
        file.flush()
        assert path.read_bytes() == b"first"
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt(), SystemExit(143)])
def test_a_file_whose_writer_fails_leaves_nothing_behind(tmp_path, error):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(type(error)):
        half_written(path, error)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_worth_another_try(tmp_path):
    full = OSError(28, "No space left on device")
    with pytest.raises(TryAgainError, match=r"file\.bin cannot be written \(No space left"):
        half_written(tmp_path / "file.bin", full)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_worth_another_try(tmp_path):
    (tmp_path / "folder").touch()
    with pytest.raises(TryAgainError, match="cannot be written"), atomic_writer(tmp_path / "folder" / "file"):
        pass


def test_others_may_read_what_the_umask_lets_them(tmp_path):
    write_json([1], tmp_path / "new.json")
    (tmp_path / "plain").touch()
    new, plain = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("new.json", "plain"))
    assert new == plain


def test_parquet_is_written_with_its_hash(tmp_path):
    digest = write_parquet(FRAME, tmp_path / "log.parquet")
    assert digest == sha256_of(tmp_path / "log.parquet")
    assert write_parquet(FRAME, tmp_path / "again.parquet") == digest
    assert pl.read_parquet(tmp_path / "log.parquet").equals(FRAME)


@pytest.mark.parametrize("folder", ["log[1]", "what?*", "day=1"])
def test_fault_53_no_character_of_a_path_is_a_wildcard(tmp_path, folder):
    write_parquet(FRAME, tmp_path / folder / "part.parquet")
    assert read_parquet(tmp_path / folder / "part.parquet").equals(FRAME)
    assert read_parquet(tmp_path / folder / "part.parquet", ["clicks"]).columns == ["clicks"]


def test_equal_values_make_equal_json_bytes(tmp_path):
    write_json({"b": 1, "a": ["é"]}, tmp_path / "one.json")
    write_json({"a": ["é"], "b": 1}, tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert read_json(tmp_path / "one.json", what="bundle") == {"a": ["é"], "b": 1}


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"ndcg": float("nan")}, tmp_path / "report.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff"])
def test_json_that_is_missing_or_broken_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"bundle: .*manifest\.json is missing or no JSON"):
        read_json(tmp_path / "manifest.json", what="bundle")


def test_json_is_what_json_is(tmp_path):
    write_json([1.5, None], tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text()) == [1.5, None]


def test_fault_83_what_a_library_kept_to_itself_gets_what_the_umask_gives(tmp_path):
    folder = tmp_path / "staging"
    (folder / "inner").mkdir(parents=True)
    file = folder / "inner" / "weights"
    file.write_bytes(b"x")
    file.chmod(0o600)
    folder.chmod(0o700)
    before = os.umask(0o027)
    try:
        apply_umask(folder)
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (folder, folder / "inner", file)]
    assert modes == [0o750, 0o750, 0o640]
    assert [path.name for path in tmp_path.iterdir()] == ["staging"]


def test_json_that_cannot_be_read_may_be_read_later(tmp_path):
    with pytest.raises(TryAgainError, match="cannot be read"):
        read_json(tmp_path, what="folder")
    with pytest.raises(IntegrityError, match="is missing"):
        read_json(tmp_path / "nothing.json", what="file")


def test_a_name_that_no_file_system_allows_is_never_tried_again(tmp_path):
    with pytest.raises(ConfigError, match="shorter path"), atomic_writer(tmp_path / ("x" * 300) / "file"):
        pass
