"""What disks and libraries say: on one line, without credentials and control characters, with the true remedy."""

import errno

import pytest

from features.errors import ConfigError, TryAgainError
from pipelines.base.outside import disk_error, errno_of, passwords_of, printable, without_credentials, words_of, written


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("http://alice:s3cret@127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://token@host/x", "https://host/x"),
        ("postgresql+psycopg2://u:p@ss:w@h:5432/db", "postgresql+psycopg2://h:5432/db"),
        ("mysql://u:pa/ss#1?@h/db", "mysql://h/db"),
        ("two: http://a:b@h/x, ftp://c:d@i", "two: http://h/x, ftp://i"),
        ("http://h:5000/models/x@v2", "http://h:5000/models/x@v2"),
        ("http://h/x@v2?mail=a@b.c", "http://h/x@v2?mail=a@b.c"),
        ("s3://b/x?X-Amz-Signature=ab%2F&page=1&sig=c", "s3://b/x?X-Amz-Signature=***&page=1&sig=***"),
        ("mssql+pyodbc:///?odbc_connect=UID%3Du%3BPWD%3Dp", "mssql+pyodbc:///?odbc_connect=***"),
        ("Authorization: Bearer abcdefgh.ijk", "Authorization: Bearer ***"),
        ("sqlite:////a/b c.db", "sqlite:////a/b c.db"),
        ("mail someone@example.com", "mail someone@example.com"),
    ],
)
def test_credentials_of_uris_go_and_nothing_else(text, bare):
    assert without_credentials(text) == bare


def test_a_password_that_a_library_quotes_alone_is_hidden_too():
    hidden = passwords_of("postgresql://u:p%40ss@h/db")
    assert hidden == ("p%40ss", "p@ss")
    assert words_of(ValueError("bad port 'p@ss'\n  of p%40ss"), hidden=hidden) == "bad port '***' of ***"
    assert passwords_of("http://h:5000/x") == passwords_of(None) == ()


def test_words_are_one_short_line_without_sql_and_its_parameters():
    text = "database is locked\n[SQL: select ?]\n[parameters: ('their text',)]"
    assert words_of(RuntimeError(text)) == "database is locked"
    assert words_of(RuntimeError("x" * 400)) == "x" * 297 + "..."
    assert words_of(RuntimeError()) == "RuntimeError"


def test_fault_85_control_and_formatting_characters_become_their_escapes():
    assert printable("a\x1b[31m\x9bb\u202ec\nd\x7f é") == r"a\x1b[31m\x9bb\u202ec\nd\x7f é"
    assert printable("a\n\x1bb", keep="\n") == "a\n\\x1bb"


@pytest.mark.parametrize(
    ("number", "kind", "remedy"),
    [
        (errno.ENOSPC, TryAgainError, "Free the disk"),
        (errno.EDQUOT, TryAgainError, "quota"),
        (errno.EROFS, TryAgainError, "mount it writable"),
        (errno.EACCES, TryAgainError, "change the permissions"),
        (errno.ENOTDIR, TryAgainError, "A file stands where a folder should be"),
        (errno.EIO, TryAgainError, "run it again"),
        (errno.ENAMETOOLONG, ConfigError, "shorter path"),
    ],
)
def test_each_refusal_of_a_disk_has_its_own_remedy(number, kind, remedy, tmp_path):
    with pytest.raises(kind, match="folder cannot be written") as raised, written(tmp_path / "folder"):
        raise OSError(number, "so the system says")
    assert remedy in str(raised.value)
    assert ("Free the disk" in str(raised.value)) == (number == errno.ENOSPC)


def test_a_rust_library_only_writes_the_number():
    error = RuntimeError("I/O error: No space left on device (os error 28)")
    assert errno_of(error) == errno.ENOSPC
    assert "Free the disk" in str(disk_error(error))


def test_of_a_copy_the_place_is_where_it_was_to_go():
    assert str(disk_error(OSError(errno.ENOSPC, "full", "/from", None, "/to"))).startswith("/to cannot be written")


def test_what_is_no_refusal_of_the_disk_passes(tmp_path):
    with pytest.raises(ZeroDivisionError), written(tmp_path):
        _ = 1 / 0


@pytest.mark.parametrize(
    ("uri", "password"),
    [("postgresql://user:12/secret@host/db", "12/secret"), ("mysql+pymysql://user:5#3?x@host/db", "5#3?x")],
)
def test_passwords_that_begin_with_digits_go_too(uri, password):
    assert "secret" not in without_credentials(uri)
    assert without_credentials(uri).endswith("://host/db")
    assert password in passwords_of(uri)
