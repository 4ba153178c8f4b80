"""`data.offers` as its owner uses it: a plan beside the log in training, and tonight's at night."""

from pathlib import Path

import polars as pl
import pytest

from pipelines.registry.bundle import load_bundle
from pipelines.stores.publish import published

PLACE = "offers.parquet"


@pytest.fixture(scope="module")
def planned(shop_project, tmp_path_factory):
    """The shop, with a leaflet of each day that names what was wanted on it, as if it had made people want it."""
    project = shop_project.copy(tmp_path_factory.mktemp("planned") / "project")
    day = pl.col("timestamp").dt.date()
    wanted = project.dataset.events.filter(pl.col("event").is_in(list(project.config.labels.gains)), day < project.day)
    plan = wanted.select("item_id", first_day=day, last_day=day, offer=pl.lit("leaflet")).unique()
    plan.sort("item_id", "first_day").write_parquet(project.folder / PLACE)
    project.change(data={"offers": {"path": PLACE}}, features={"families": ["item", "offers", "pair"]})
    return project


def share_on_top(project, items):
    """Of the places at the top of tonight's lists, the share that these items have."""
    top = published(Path(project.config.output) / "rankings").rankings().filter(pl.col("rank") <= 5)
    return top["item_id"].is_in(items).mean()


def test_check_tells_what_is_on_offer(planned, command):
    plan = pl.read_parquet(planned.folder / PLACE)
    checked = command(planned, "check")
    assert checked.code == 0
    assert checked.facts["offers"] == {
        "leaflet": {
            "rows": plan.height,
            "items": plan["item_id"].n_unique(),
            "first": str(plan["first_day"].min()),
            "last": str(plan["first_day"].max()),
        }
    }
    assert "first begins" in checked.err


@pytest.mark.slow
def test_a_plan_is_learned_from_and_tonights_moves_the_ranking(planned, command):
    trained = command(planned, "train")
    assert trained.code == 0, trained.err
    bundle = load_bundle(Path(trained.facts["bundle"]))
    assert {"item_offer_now_leaflet", "item_offer_28d_leaflet"} <= set(bundle.ranker.features)
    assert command(planned, "promote").code == 0
    plan = pl.read_parquet(planned.folder / PLACE)
    halves = [planned.dataset.items["item_id"].sort().gather_every(2, offset) for offset in (0, 1)]
    for half in halves:
        tonight = half.to_frame().with_columns(first_day=pl.lit(planned.day), last_day=pl.lit(planned.day))
        tonight = tonight.with_columns(offer=pl.lit("leaflet")).select(plan.columns)
        pl.concat([plan, tonight]).write_parquet(planned.folder / PLACE)
        night = command(planned, "score", "--date", str(planned.day))
        assert night.code == 0, night.err
        assert share_on_top(planned, half.implode()) > 0.8

    before = published(Path(planned.config.output) / "rankings").attempt.folder
    planned.change(data={"offers": None})
    refused = command(planned, "score", "--date", str(planned.day))
    assert refused.code == 10
    assert "there is no table of offers (data.offers)" in refused.err
    assert published(Path(planned.config.output) / "rankings").attempt.folder == before
