import io

import numpy as np
import polars as pl
import pytest
from matplotlib import image

from features.candidates.recall import TOGETHER
from features.candidates.union import SOURCES
from features.requests.engaged import SLICES
from pipelines.evaluation.plots import recall_plot


def table(found):
    """A recall table: what (source, slice, k) was found, 0 elsewhere; nothing is cold."""
    rows = [
        (source, name, k, None if name == "cold item" else found(source, name, k), 0 if name == "cold item" else 9)
        for source in (*SOURCES, TOGETHER)
        for name in SLICES
        for k in (10, 100, 300)
    ]
    schema = {"source": pl.String, "slice": pl.String, "k": pl.Int64, "recall": pl.Float64, "requests": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def pixels(png):
    return image.imread(io.BytesIO(png), format="png")


def coloured(png, start=0, end=None):
    """How many pixels are neither grey nor black, from one column to another: lines of generators."""
    red_green_blue = pixels(png)[:, start:end, :3]
    return (red_green_blue.max(axis=2) - red_green_blue.min(axis=2) > 0.2).sum()


def test_the_same_table_gives_the_same_picture_and_another_one_another():
    one, again, other = (
        recall_plot(table(lambda source, _, k, share=share: share * k / 300 if source == "popular" else 0.0), cut=300)
        for share in (0.5, 0.5, 0.4)
    )
    assert one == again
    assert pixels(one).shape == (624, 1440, 4)
    assert not np.array_equal(pixels(one), pixels(other))


LEFT, RIGHT = (0, 500), (750, 1195)  # columns well inside the panels


@pytest.mark.parametrize(("name", "panel", "other"), [("all", LEFT, RIGHT), ("new-to-user", RIGHT, LEFT)])
def test_each_slice_has_its_panel(name, panel, other):
    png = recall_plot(table(lambda source, told, k: k / 300 if (source, told) == ("popular", name) else None), cut=300)
    assert coloured(png, *panel) > 300
    assert coloured(png, *other) == 0


def test_a_generator_that_finds_nothing_has_no_line():
    together = recall_plot(table(lambda source, *_: float(source == TOGETHER)), cut=300)
    assert coloured(together) == 0
    with_another = recall_plot(table(lambda source, *_: float(source in {TOGETHER, "popular"})), cut=300)
    assert coloured(with_another) > 100


def test_a_table_without_positives_is_still_a_picture():
    nothing = recall_plot(table(lambda *_: None).with_columns(requests=pl.lit(0)), cut=50)
    assert coloured(nothing) == 0
