"""The spool: what is kept once, in order, and files that are no entries."""

import os

from pipelines.stores.spool import spool, spooled


def test_what_is_kept_twice_is_one_entry_and_the_oldest_comes_first(tmp_path):
    first = spool(tmp_path, {"kind": "a", "date": "2024-02-25"})
    second = spool(tmp_path, {"date": "2024-02-26", "kind": "a"})
    assert spool(tmp_path, {"date": "2024-02-25", "kind": "a"}) == first
    os.utime(second, (1, 1))
    assert list(spooled(tmp_path).items()) == [
        (second, {"kind": "a", "date": "2024-02-26"}),
        (first, {"kind": "a", "date": "2024-02-25"}),
    ]


def test_files_that_are_no_entries_are_said_and_stay(tmp_path, capsys):
    (tmp_path / "jobs/spool").mkdir(parents=True)
    for name, text in {"cut.json": '{"kind": "a', "list.json": "[]", "nameless.json": "{}"}.items():
        (tmp_path / "jobs/spool" / name).write_text(text, encoding="utf-8")
    assert spooled(tmp_path) == {}
    assert capsys.readouterr().err.count("cannot be read is left out") == 3
    assert len(list((tmp_path / "jobs/spool").iterdir())) == 3
