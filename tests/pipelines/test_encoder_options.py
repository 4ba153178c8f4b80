"""Options of the encoder through the whole job: what training read and trained, the night reads from the version."""

import yaml

from encoders.model import InterestModel
from features.config import TextFieldConfig
from pipelines.chain import Catalogue

TEXT = [{"field": "description", "max_words": 3}, "title"]


def test_a_version_of_adapters_prefix_and_limits_ranks_a_night_of_another_configuration(
    shop_project, tmp_path, command
):
    project = shop_project.copy(tmp_path / "project")
    plain = project.path.read_text(encoding="utf-8")
    data = yaml.safe_load(plain)["data"]
    items = data["items"] | {"text": TEXT}
    project.change(
        data=data | {"items": items},
        encoder={"train": "lora", "passage_prefix": "red ", "pooling": "cls", "layer_decay": 0.9},
    )
    trained = command(project, "train")
    assert trained.code == 0, trained.err
    assert command(project, "promote").code == 0
    (bundle,) = (project.folder / "out/bundles").iterdir()
    model = InterestModel.load(bundle / "encoder")
    assert (model.tuned.pooling, model.passage_prefix) == ("cls", "red ")
    assert model.digest("tuned") != model.digest("zero_shot")  # something was trained
    assert yaml.safe_load((bundle / "config.yaml").read_text())["data"]["items"]["text"] == TEXT
    project.path.write_text(plain, encoding="utf-8")  # tonight's own configuration knows nothing of it
    night = command(project, "score", "--date", str(project.day))
    assert night.code == 0, night.err
    assert night.facts["texts_encoded"] == 0  # the same texts under the same model as in training


def test_items_that_differ_beyond_the_limit_share_a_text(shop_project):
    from pipelines.check import read_inputs

    log = read_inputs(shop_project.config).log
    whole = Catalogue.of(log, (TextFieldConfig(field="description"),))
    cut = Catalogue.of(log, (TextFieldConfig(field="description", max_words=1),))
    assert {" ".join(text.split()[:1]) for text in whole.texts} == set(cut.texts)
    assert len(cut.texts) < len(whole.texts)
