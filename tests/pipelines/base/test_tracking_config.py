"""`tracking.uri` as people write it, and what of it is kept."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from sqlalchemy.engine import make_url

from features.errors import ConfigError
from pipelines.base.config import load_config
from pipelines.base.tracking_config import TrackingConfig, sqlite_uri
from pipelines.registry.tracking import tracking_uri


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("./mlruns", "names a folder"),
        ("mlruns", "names a folder"),
        ("file:///tmp/mlruns", "names a folder"),
        ("localhost:5000", "has no scheme. Write http://HOST:PORT"),
        ("sqlite://", "names no database file"),
        ("sqlite:///:memory:", "names no database file"),
        ("http://", "is no URI"),
    ],
)
def test_what_is_no_server_is_refused_with_what_to_write(uri, says):
    with pytest.raises(ValidationError, match=says):
        TrackingConfig(uri=uri)


def test_a_refusal_does_not_repeat_a_password(shop_project):
    with pytest.raises(ConfigError, match=r"tracking\.uri: is no URI") as raised:
        load_config(shop_project.path, ["tracking.uri='http://alice:my s3cret@host'"])
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("uri", ["", " ", None])
def test_nothing_is_sqlite_under_the_output_folder(uri, shop_project):
    assert TrackingConfig(uri=uri).uri is None
    config = shop_project.config
    assert tracking_uri(config) == f"sqlite:///{config.output}/mlflow.db"


@pytest.mark.parametrize(
    "uri", ["http://h:5000", "https://h/x/", "postgresql+psycopg2://u:p@h/d", "databricks", "databricks://me", "uc:x"]
)
def test_servers_of_every_kind_stay_as_they_are_written(uri):
    assert TrackingConfig(uri=uri).uri == uri


@pytest.mark.parametrize("name", ["a b", "Ü", "a#b", "50% off", "what?now=1", "a%20b", "~x", ":memory:"])
def test_the_uri_of_a_database_leads_to_its_path_whatever_the_path_is(name):
    path = Path("/x") / name / "mlflow.db"
    assert make_url(sqlite_uri(path)).database == str(path)
    # MLflow makes the parent of the undecoded path:
    assert Path(sqlite_uri(path).removeprefix("sqlite:///")).parent in (path.parent, Path())


def test_a_relative_database_is_meant_from_the_configuration_file(shop_project, tmp_path, monkeypatch):
    project = shop_project.copy(tmp_path / "50% of it")
    monkeypatch.chdir(tmp_path)
    config = load_config(project.path, ["tracking.uri=sqlite:///runs/rel.db?timeout=9"])
    url = make_url(tracking_uri(config))
    assert url.database == str(project.folder / "runs" / "rel.db")
    assert url.query == {"timeout": "9"}
    assert config.portable()["tracking"]["uri"] == "sqlite:///rel.db"
    absolute = load_config(project.path, ["tracking.uri=sqlite:////srv/runs.db"])
    assert absolute.tracking.uri == "sqlite:////srv/runs.db"


def test_no_credential_is_kept_and_none_decides_what_a_job_is_called(shop_project):
    change = ["tracking.uri=http://alice:s3cret@h:5000", "encoder.model=https://bob:hunter2@hub/x?token=abc"]
    config = load_config(shop_project.path, change)
    kept = yaml.safe_dump(config.portable())
    assert not [secret for secret in ("alice", "s3cret", "bob", "hunter2", "abc") if secret in kept]
    assert tracking_uri(config) == "http://alice:s3cret@h:5000"  # and it is used
    other = load_config(shop_project.path, [change[0].replace("s3cret", "another"), change[1]])
    assert other.digest() == config.digest()
