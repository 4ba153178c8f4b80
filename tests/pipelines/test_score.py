"""What a night publishes beside the order."""

from pathlib import Path

import polars as pl

from pipelines.registry import Registry
from pipelines.versions import load_version


def test_reasons_name_families_of_the_version_and_leave_the_order_as_it_is(trained_project, tmp_path, command):
    told = {}
    for most in (0, 2):
        project = trained_project.copy(tmp_path / f"project-{most}")
        ended = command(project, "score", "--date", str(project.day), "--set", f"night.reasons={most}")
        assert ended.code == 0, ended.err
        shards = sorted(Path(ended.facts["attempt"]).glob("shard-*.parquet"))
        told[most] = pl.concat(pl.read_parquet(shard) for shard in shards)
    _, version = load_version(Registry(trained_project.config), "champion")
    families = set(version.features.families(version.ranker.features))
    assert "reasons" not in told[0].columns
    assert told[2].drop("reasons").equals(told[0])
    named = told[2]["reasons"]
    assert named.list.len().max() == 2
    assert set(named.explode().drop_nulls()) <= families
    best = told[2].filter(pl.col("rank") == 1)["reasons"]
    assert (best.list.len() > 0).mean() > 0.9
