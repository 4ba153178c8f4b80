import gzip
import io
from datetime import UTC, datetime

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.errors import ConfigError, ContractError, IntegrityError, TryAgainError
from pipelines.base.config import TableConfig
from pipelines.inputs.tables import read_raw
from pipelines.stores.storage import atomic_writer

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
    assert len(table.files) == 1


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_csv_is_text_so_that_ids_keep_their_zeros(tmp_path, suffix):
    content = b"user_id,price\n007,1.50\n08,\n"
    (tmp_path / f"log.{suffix}").write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    frame = raw(tmp_path / f"log.{suffix}").frame
    assert frame.rows() == [("007", "1.50"), ("08", None)]
    assert set(frame.dtypes) == {pl.String}


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
    assert len(table.files) == 2
    assert len(raw(tmp_path / "**" / "*.parquet").files) == 4


def test_a_column_of_the_file_is_stronger_than_its_folder(tmp_path):
    (tmp_path / "user_id=x").mkdir()
    FRAME.write_parquet(tmp_path / "user_id=x" / "part.parquet")
    assert raw(tmp_path).frame["user_id"].to_list() == ["u1", "u2"]


def test_a_path_with_brackets_is_a_path(tmp_path):
    (tmp_path / "log[1]").mkdir()
    FRAME.write_parquet(tmp_path / "log[1]" / "part[2].parquet")
    assert len(raw(tmp_path / "log[1]").files) == 1
    assert len(raw(tmp_path / "log[1]" / "part[2].parquet").files) == 1
    assert len(raw(tmp_path / "log[1]" / "part*.parquet").files) == 1
    assert len(raw(tmp_path / "log[[]1]" / "*").files) == 1


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
        assert len(raw(path).files) == 1


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
    with pytest.raises(
        ConfigError,
        match=r"data\.events\.path: no \.parquet, \.csv, \.tsv, \.inter, \.item, \.user, \.jsonl, \.ndjson file at",
    ):
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


def test_fault_41_what_is_wrong_with_a_csv_is_said_of_every_file(tmp_path):
    for name in ("1.csv", "2.csv"):
        (tmp_path / name).write_text("a,b\n1,2\n3,4,5\n", encoding="utf-8")
    (tmp_path / "3.csv").write_bytes(b"a,b\ncaf\xe9,1\n")
    with pytest.raises(ContractError) as caught:
        raw(tmp_path)
    uneven, also, latin = str(caught.value).splitlines()
    assert uneven.startswith("events: 1.csv: line 3 has 3 fields and the header 2.")
    assert also.startswith("events: 2.csv: line 3")
    assert "events: 3.csv: line 2 is not UTF-8 (byte 0xE9)" in latin
    assert "iconv -f WINDOWS-1252" in latin


@pytest.mark.parametrize("suffix", ["CSV", "Csv.GZ", "TSV"])
def test_fault_43_suffixes_are_known_in_any_case(tmp_path, suffix):
    content = b"user_id\tprice\nu\t1\n" if suffix == "TSV" else b"user_id;price\nu;1\n"
    (tmp_path / f"log.{suffix}").write_bytes(gzip.compress(content) if suffix.endswith("GZ") else content)
    assert raw(tmp_path).frame.rows() == [("u", "1")]


def test_gzipped_content_is_read_whatever_its_name(tmp_path):
    (tmp_path / "log.csv").write_bytes(gzip.compress(b"user_id\nu\n"))
    assert raw(tmp_path).frame.rows() == [("u",)]


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [("log.csv", parquet_bytes(FRAME), "a Parquet file"), ("log.csv", b"PK\x03\x04rest", "a ZIP archive")],
)
def test_a_file_that_is_not_what_it_is_called_is_named(tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ContractError, match=rf"log\.csv is {kind}"):
        raw(tmp_path)


def linked_partitions(tmp_path):
    for day in (1, 2, 3):
        folder = tmp_path / ("archive" if day < 3 else "log") / f"day={day}"
        folder.mkdir(parents=True)
        FRAME.with_columns(user_id=pl.format("{}-{}", "user_id", pl.lit(day))).write_parquet(folder / "part.parquet")
    for day in (1, 2):
        (tmp_path / "log" / f"day={day}").symlink_to(tmp_path / "archive" / f"day={day}")
    return tmp_path / "log"


def test_fault_46_links_to_folders_and_files_are_followed(tmp_path):
    log = linked_partitions(tmp_path)
    users = ["u1-1", "u2-1", "u1-2", "u2-2", "u1-3", "u2-3"]
    for path in (log, log / "*" / "*.parquet", log / "*", log / "day=*"):
        table = raw(path)
        assert table.frame["user_id"].to_list() == users
        assert table.frame["day"].to_list() == ["1", "1", "2", "2", "3", "3"]
        assert table.left_out == []
    (tmp_path / "whole").symlink_to(log)
    assert raw(tmp_path / "whole").frame["user_id"].to_list() == users
    (tmp_path / "one.parquet").symlink_to(log / "day=3" / "part.parquet")
    assert raw(tmp_path / "one.parquet").frame["user_id"].to_list() == users[4:]


def test_a_link_to_a_folder_above_is_no_endless_way(tmp_path):
    log = linked_partitions(tmp_path)
    (log / "day=3" / "up").symlink_to(log)
    assert raw(log).frame.height == 6


def test_faults_46_and_66_a_link_that_leads_nowhere_stops_the_job(tmp_path):
    log = linked_partitions(tmp_path)
    (log / "day=4.parquet").symlink_to(tmp_path / "gone.parquet")
    with pytest.raises(ContractError, match=r"events: .*day=4\.parquet' is a link that leads nowhere"):
        raw(log)
    with pytest.raises(ContractError, match="leads nowhere"):
        raw(log / "day=4.parquet")


def test_fault_46_what_is_not_read_is_told(tmp_path):
    FRAME.write_parquet(tmp_path / "part.parquet")
    for name in ("old.json", "_SUCCESS", ".part.parquet.crc", "part.parquet.bak"):
        (tmp_path / name).write_bytes(b"x")
    assert raw(tmp_path).left_out == [".part.parquet.crc", "_SUCCESS", "old.json", "part.parquet.bak"]
    with pytest.raises(ConfigError, match=r"no \.parquet.* It has 'old\.json'"):
        raw(tmp_path / "old.json")


def test_a_file_that_is_named_is_read_though_it_looks_hidden(tmp_path):
    FRAME.write_parquet(tmp_path / "_log.parquet")
    assert raw(tmp_path / "_log.parquet").frame.equals(FRAME)


def test_an_empty_hive_partition_is_null(tmp_path):
    for value in ("north", "__HIVE_DEFAULT_PARTITION__"):
        (tmp_path / f"region={value}").mkdir()
        FRAME.head(1).write_parquet(tmp_path / f"region={value}" / "part.parquet")
    assert raw(tmp_path).frame["region"].to_list() == [None, "north"]


def ids_by_file(tmp_path, *parts):
    for number, part in enumerate(parts):
        pl.DataFrame({"user_id": part}).write_parquet(tmp_path / f"{number}.parquet")
    return raw(tmp_path).frame["user_id"]


@pytest.mark.parametrize(
    ("other", "meant"),
    [
        (pl.Series([102.0, None]), [101, 102, None]),
        (pl.Series([102.0, float("nan")]), [101, 102, None]),
        (pl.Series(["102", "x"]), ["101", "102", "x"]),
        (pl.Series([102, 5], dtype=pl.UInt64), [101, 102, 5]),
        (pl.Series([2**63]), ["101", "9223372036854775808"]),
        (pl.Series([102]).cast(pl.Decimal(12, 0)), [101, 102]),
        (pl.Series(["102"]).cast(pl.Categorical), ["101", "102"]),
        (pl.Series(["102"]).cast(pl.Binary), ["101", "102"]),
        (pl.Series([None, None]), [101, None, None]),
    ],
)
def test_faults_47_and_48_ids_have_one_type_in_all_files(tmp_path, other, meant):
    assert ids_by_file(tmp_path, pl.Series([101]), other).to_list() == meant


def test_fault_47_text_and_floats_are_the_same_users(tmp_path):
    assert ids_by_file(tmp_path, pl.Series(["101", "102"]), pl.Series([101.0, 103.0])).n_unique() == 3


def test_whole_floats_in_a_csv_are_integers(tmp_path):
    (tmp_path / "1.csv").write_text("user_id\n101.0\n\n102.0\n", encoding="utf-8")
    pl.DataFrame({"user_id": [101]}).write_parquet(tmp_path / "2.parquet")
    assert raw(tmp_path).frame["user_id"].to_list() == ["101", "102", "101"]


def test_fault_47_numbers_that_are_no_ids_are_named_with_file_column_and_row(tmp_path):
    pl.DataFrame({"user_id": [1, 2]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"user_id": [1.0, 2.5, 3.5]}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(ContractError) as caught:
        raw(tmp_path)
    assert "events: b.parquet: column 'user_id': 2 of 3 values are no whole numbers" in str(caught.value)
    assert "first at row 1" in str(caught.value)
    assert "2.5" not in str(caught.value)


@pytest.mark.parametrize("odd", [pl.Series([True]), pl.Series([datetime(2024, 5, 1, tzinfo=UTC)]), pl.Series([[1]])])
def test_fault_47_what_is_no_id_in_one_file_is_refused_beside_others_too(tmp_path, odd):
    with pytest.raises(
        ContractError, match=r"events: 0\.parquet: column 'user_id': it is .*write ids as text or integers"
    ):
        ids_by_file(tmp_path, odd, pl.Series(["a"]))


def test_fault_46_a_file_and_a_link_to_it_are_one_file(tmp_path):
    FRAME.write_parquet(tmp_path / "b.parquet")
    (tmp_path / "a.parquet").symlink_to(tmp_path / "b.parquet")
    (tmp_path / "folder").mkdir()
    FRAME.head(1).write_parquet(tmp_path / "folder" / "c.parquet")
    (tmp_path / "again").symlink_to(tmp_path / "folder")
    table = raw(tmp_path)
    assert [place for place, _ in table.files] == ["b.parquet", "folder/c.parquet"]
    assert table.left_out == ["a.parquet", "again/c.parquet"]


def test_a_link_to_a_folder_above_the_table_is_not_followed(tmp_path):
    (tmp_path / "log").mkdir()
    FRAME.write_parquet(tmp_path / "items.parquet")
    FRAME.write_parquet(tmp_path / "log" / "a.parquet")
    (tmp_path / "log" / "up").symlink_to(tmp_path)
    assert [place for place, _ in raw(tmp_path / "log").files] == ["a.parquet"]


def test_columns_of_one_name_are_refused_in_parquet_too(tmp_path):
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["title", "title"])
    pq.write_table(table, tmp_path / "log.parquet")
    with pytest.raises(ContractError, match=r"events: log\.parquet: two of its columns have one name"):
        raw(tmp_path)


def test_clocks_and_categories_that_differ_by_file_are_read_value_by_value(tmp_path):
    at = datetime(2024, 5, 1, 12)  # noqa: DTZ001
    for number, (clock, kind) in enumerate(
        [
            (pl.lit(at.replace(tzinfo=UTC)), pl.Enum(["click"])),
            (pl.lit(at), pl.Enum(["click", "view"])),
            (pl.lit(at.date()), pl.Categorical),
        ]
    ):
        pl.select(timestamp=clock, event=pl.lit("click").cast(kind)).write_parquet(tmp_path / f"{number}.parquet")
    frame = raw(tmp_path).frame
    assert frame["timestamp"].to_list() == [
        "2024-05-01T12:00:00.000000+00:00",
        "2024-05-01T12:00:00.000000",
        "2024-05-01",
    ]
    assert frame["event"].to_list() == ["click"] * 3


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


def test_unfinished_files_are_not_read_as_data(tmp_path):
    FRAME.write_parquet(tmp_path / "a.parquet")
    with atomic_writer(tmp_path / "b.parquet") as file:
        file.write(b"half")
        file.flush()
        assert len(raw(tmp_path).files) == 1
        file.write(parquet_bytes(FRAME)[4:])
        file.seek(0)
        file.write(parquet_bytes(FRAME))
    assert len(raw(tmp_path).files) == 2
