import gzip
import io
import json
import os
import stat

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.errors import ConfigError, ContractError, IntegrityError, TryAgainError
from pipelines.config import TableConfig
from pipelines.storage import apply_umask, atomic_writer, read_json, read_raw, sha256_of, write_json, write_parquet

FRAME = pl.DataFrame({"user_id": ["u1", "u2"], "clicks": [3, 4]})


def raw(path, *, allow_empty=False, **options):
    return read_raw(TableConfig(path=str(path), **options), name="events", allow_empty=allow_empty)


def parquet_bytes(frame):
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def test_parquet_keeps_its_types(tmp_path):
    FRAME.write_parquet(tmp_path / "log.parquet")
    table = raw(tmp_path / "log.parquet")
    assert table.frame.equals(FRAME)
    assert table.files == 1


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_csv_is_text_so_that_ids_keep_their_zeros(tmp_path, suffix):
    content = b"user_id,price\n007,1.50\n08,\n"
    (tmp_path / f"log.{suffix}").write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    frame = raw(tmp_path / f"log.{suffix}").frame
    assert frame.rows() == [("007", "1.50"), ("08", None)]
    assert set(frame.dtypes) == {pl.String}


def test_csv_bytes_that_are_no_utf_8_are_replaced(tmp_path):
    (tmp_path / "log.csv").write_bytes(b"\xef\xbb\xbfuser_id,title\nu,caf\xe9\nv,\xf0\x9f\x91\x8d\n")
    assert raw(tmp_path / "log.csv").frame.rows() == [("u", "caf\ufffd"), ("v", "👍")]


def test_quoted_csv_cells_may_hold_commas_and_lines(tmp_path):
    (tmp_path / "log.csv").write_text('user_id,title\nu,"a, ""b""\nc"\n', encoding="utf-8")
    assert raw(tmp_path / "log.csv").frame.rows() == [("u", 'a, "b"\nc')]


def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path):
    for day in (3, 1, 2):
        folder = tmp_path / f"extracted_at=2024-05-0{day}T00%3A00"
        folder.mkdir()
        pl.DataFrame({"day": [day]}).write_parquet(folder / "part.parquet")
    (tmp_path / "0.csv").write_text("day\n0\n", encoding="utf-8")
    frame = raw(tmp_path).frame
    assert frame["day"].to_list() == ["0", "1", "2", "3"]
    assert frame["extracted_at"].to_list() == [None, *(f"2024-05-0{day}T00:00" for day in (1, 2, 3))]


def test_a_glob_finds_files_and_partition_columns(tmp_path):
    for region in ("north", "south"):
        folder = tmp_path / "log" / f"region={region}" / "day=1"
        folder.mkdir(parents=True)
        FRAME[:1].write_parquet(folder / "part.parquet")
        FRAME.write_parquet(folder / "other.parquet")
    table = raw(tmp_path / "log" / "*" / "*" / "part.*")
    assert table.frame.select("region", "day").rows() == [("north", "1"), ("south", "1")]
    assert table.files == 2
    assert raw(tmp_path / "**" / "*.parquet").files == 4


def test_a_column_of_the_file_is_stronger_than_its_folder(tmp_path):
    (tmp_path / "user_id=x").mkdir()
    FRAME.write_parquet(tmp_path / "user_id=x" / "part.parquet")
    assert raw(tmp_path).frame["user_id"].to_list() == ["u1", "u2"]


def test_a_path_with_brackets_is_a_path(tmp_path):
    (tmp_path / "log[1]").mkdir()
    FRAME.write_parquet(tmp_path / "log[1]" / "part[2].parquet")
    assert raw(tmp_path / "log[1]").files == 1
    assert raw(tmp_path / "log[1]" / "part[2].parquet").files == 1


def test_temporary_hidden_and_marker_files_are_ignored(tmp_path):
    FRAME.write_parquet(tmp_path / "part.parquet")
    clean = raw(tmp_path)
    for name in (
        "part.parquet.tmp",
        "_SUCCESS",
        "_metadata.parquet",
        ".part.parquet",
        "notes.txt",
        ".x.parquet.crc",
    ):
        (tmp_path / name).write_bytes(b"junk")
    for folder in ("_temporary", ".staging"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "part.parquet").write_bytes(b"junk")
    for path in (tmp_path, tmp_path / "*", tmp_path / "**" / "*.parquet"):
        table = raw(path)
        assert table.frame.equals(clean.frame)
        assert table.fingerprint == clean.fingerprint


def test_hidden_folders_above_the_table_do_not_hide_it(tmp_path):
    folder = tmp_path / ".cache" / "_data"
    folder.mkdir(parents=True)
    FRAME.write_parquet(folder / "part.parquet")
    for path in (folder, folder / "part.parquet", folder / "*.parquet"):
        assert raw(path).files == 1


def test_columns_are_renamed_and_constants_added(tmp_path):
    FRAME.with_columns(event=pl.lit("theirs")).write_parquet(tmp_path / "log.parquet")
    frame = raw(
        tmp_path,
        columns={"value": "clicks", "item_id": "user_id"},
        constants={"event": "purchase", "query": ""},
    ).frame
    assert frame.select("value", "item_id", "event", "query").rows() == [
        (3, "u1", "purchase", ""),
        (4, "u2", "purchase", ""),
    ]


def test_columns_may_swap_their_names(tmp_path):
    pl.DataFrame({"user_id": ["i"], "item_id": ["u"]}).write_parquet(tmp_path / "log.parquet")
    frame = raw(tmp_path, columns={"user_id": "item_id", "item_id": "user_id"}).frame
    assert frame.select("user_id", "item_id").rows() == [("u", "i")]


def test_all_columns_that_are_missing_are_named(tmp_path):
    FRAME.write_parquet(tmp_path / "log.parquet")
    with pytest.raises(ContractError, match=r"missing columns 'who', 'what', which data\.events\.columns names"):
        raw(tmp_path, columns={"user_id": "who", "item_id": "what", "value": "clicks"})


def test_files_may_have_more_and_less_columns_but_must_agree_about_types(tmp_path):
    FRAME.write_parquet(tmp_path / "1.parquet")
    FRAME.select(pl.col("clicks").cast(pl.Int16), other=pl.lit(1)).write_parquet(tmp_path / "2.parquet")
    frame = raw(tmp_path).frame
    assert frame["clicks"].to_list() == [3, 4, 3, 4]
    assert frame["user_id"].to_list() == ["u1", "u2", None, None]
    pl.DataFrame({"clicks": [[1]]}).write_parquet(tmp_path / "3.parquet")
    with pytest.raises(ContractError, match="events: its files disagree about the type of a column"):
        raw(tmp_path)


@pytest.mark.parametrize("path", ["absent.csv", "*.csv", "folder"])
def test_no_file_is_an_error_of_the_configuration(tmp_path, path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=r"data\.events\.path: no \.parquet, \.csv, \.csv\.gz file at"):
        raw(tmp_path / path)


def test_the_fingerprint_is_of_places_and_contents_wherever_the_folder_lies(tmp_path):
    def laid_out(folder, day, frame):
        (tmp_path / folder / f"day={day}").mkdir(parents=True)
        frame.write_parquet(tmp_path / folder / f"day={day}" / "part.parquet")
        return raw(tmp_path / folder).fingerprint

    first = laid_out("a", 1, FRAME)
    assert laid_out("b", 1, FRAME) == first
    assert laid_out("c", 2, FRAME) != first
    assert laid_out("d", 1, FRAME.reverse()) != first


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.floats(0, 1, exclude_max=True), st.sampled_from(["parquet", "csv.gz"]))
def test_a_truncated_file_is_named(tmp_path, share, suffix):
    frame = pl.DataFrame({"user_id": [f"u{n}" for n in range(500)], "value": range(500)})
    whole = parquet_bytes(frame) if suffix == "parquet" else gzip.compress(frame.write_csv().encode())
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(IntegrityError, match=rf"events: .*cut\.{suffix} (is no complete|has zero bytes)"):
        raw(path)


@pytest.mark.parametrize("name", ["log.parquet", "log.csv", "log.csv.gz"])
def test_a_file_of_zero_bytes_is_named(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(IntegrityError, match=f"{name} has zero bytes"):
        raw(tmp_path)


@pytest.mark.parametrize("name", ["log.parquet", "log.csv.gz"])
def test_a_file_of_another_kind_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"user_id,item_id\nu,i\n")
    with pytest.raises(IntegrityError, match=name):
        raw(tmp_path)


def test_a_file_at_which_the_reader_panics_is_named(tmp_path, monkeypatch):
    FRAME.write_parquet(tmp_path / "log.parquet")

    def panic(_):  # as some flipped bits make it
        raise pl.exceptions.PanicException

    monkeypatch.setattr(pl, "read_parquet", panic)
    with pytest.raises(IntegrityError, match=r"log\.parquet is no complete Parquet file"):
        raw(tmp_path)


def test_csv_rows_of_another_length_are_refused(tmp_path):
    (tmp_path / "log.csv").write_text("a,b\n1,2\n3,4,5\n", encoding="utf-8")
    with pytest.raises(IntegrityError, match=r"log\.csv is no complete CSV file"):
        raw(tmp_path)


def test_a_file_that_cannot_be_read_may_be_readable_later(tmp_path, monkeypatch):
    FRAME.write_parquet(tmp_path / "log.parquet")

    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "read_bytes", refuse)
    with pytest.raises(TryAgainError, match=r"log\.parquet cannot be read \(Permission denied\)"):
        raw(tmp_path)


def test_a_partition_without_rows_is_refused_unless_that_is_allowed(tmp_path):
    for day, rows in ((1, 2), (2, 0), (3, 0)):
        (tmp_path / f"day={day}").mkdir()
        FRAME.head(rows).write_parquet(tmp_path / f"day={day}" / "part.parquet")
    with pytest.raises(ContractError, match=r"2 of 3 files have no rows \('day=2/part.parquet', .*--allow-empty"):
        raw(tmp_path)
    assert raw(tmp_path, allow_empty=True).frame.drop("day").equals(FRAME)


def test_a_csv_with_nothing_but_its_header_has_no_rows(tmp_path):
    (tmp_path / "log.csv").write_text("user_id,item_id\n", encoding="utf-8")
    with pytest.raises(ContractError, match="no rows"):
        raw(tmp_path)
    assert raw(tmp_path, allow_empty=True).frame.columns == ["user_id", "item_id"]


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


def test_unfinished_files_are_not_read_as_data(tmp_path):
    FRAME.write_parquet(tmp_path / "a.parquet")
    with atomic_writer(tmp_path / "b.parquet") as file:
        file.write(b"half")
        file.flush()
        assert raw(tmp_path).files == 1
        file.write(parquet_bytes(FRAME)[4:])
        file.seek(0)
        file.write(parquet_bytes(FRAME))
    assert raw(tmp_path).files == 2


def test_parquet_is_written_with_its_hash(tmp_path):
    digest = write_parquet(FRAME, tmp_path / "log.parquet")
    assert digest == sha256_of(tmp_path / "log.parquet")
    assert write_parquet(FRAME, tmp_path / "again.parquet") == digest
    assert pl.read_parquet(tmp_path / "log.parquet").equals(FRAME)


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
