"""Training: where it keeps what it computes, and in which precision, decides no result."""

import errno
import os

import pytest

import pipelines.train
from encoders.model import InterestModel
from features.errors import TryAgainError
from pipelines.check import read_inputs
from pipelines.registry import Registry
from pipelines.storage import read_json
from pipelines.train import _room, _settle_precision, train


def test_hidden_states_kept_in_a_file_train_the_same_version_and_leave_no_file(trained_project, shop_project, tmp_path):
    project = shop_project.copy(tmp_path / "project")
    project.change(encoder={"cache_gb": 0})
    trained = train(read_inputs(project.config).log, project.config)
    registry = Registry(trained_project.config)
    manifest = read_json(registry.bundle_folder(registry.version("1")) / "manifest.json", what="bundle")
    assert trained.model.digest("tuned") == manifest["encoder"]["tuned"]
    assert {path.name for path in (project.folder / "out").iterdir()} <= {"vectors", "quarantine", "state"}


def test_a_file_is_opened_only_where_memory_is_not_to_hold_it(shop_project, tmp_path):
    project = shop_project.copy(tmp_path / "project")
    project.change(encoder={"cache_gb": 1e-6})
    with _room(1000, project.config) as file:
        assert file is None
    with _room(1001, project.config) as file:
        assert file is not None


def test_a_disk_that_cannot_hold_the_hidden_states_is_said_with_the_remedy(shop_project, tmp_path):
    project = shop_project.copy(tmp_path / "project")
    project.change(encoder={"cache_gb": 0})
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with (
        pytest.raises(TryAgainError, match=r"cannot hold 3\.0 GB.*No space left.*encoder\.cache_gb"),
        _room(3 * 10**9, project.config),
    ):
        raise full


@pytest.mark.parametrize(
    ("least", "precision", "bf16"), [(1.1, "auto", False), (0.5, "auto", True), (1.1, "bf16", True)]
)
def test_auto_leaves_bf16_where_vectors_would_move_too_far(shop_project, tmp_path, monkeypatch, least, precision, bf16):
    project = shop_project.copy(tmp_path / "project")
    project.change(encoder={"precision": precision})
    model = InterestModel.start(project.config.encoder)
    model.bf16 = True  # as on a processor that has it
    monkeypatch.setattr(pipelines.train, "LEAST_AGREEMENT", least)
    _settle_precision(model, model.tokenise(["red mug", "blue kettle", "lamp"]), project.config)
    assert model.bf16 is bf16
