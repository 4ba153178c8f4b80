"""Items with similar texts."""

from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from features.log.asof import Ints
from features.signals.generator import Generator, recent_items
from features.signals.popularity import Popularity
from features.signals.similarity import MAX_NEIGHBOURS, near
from features.signals.top_k import NOTHING, first_of_each
from features.tables.text import GRID

__all__ = ["TextNeighbours", "text_similarity"]

_BLOCK_CELLS = 4_000_000  # of the matrix of dot products, made at a time


def text_similarity(vectors: npt.NDArray[np.int16]) -> sparse.csr_matrix:
    """Cosine of two items' text vectors, above 0.

    Args:
        vectors: (items, width) on the grid of 1/GRID, in the order of item codes; a zero row has no
            neighbours.
    """
    texts, text_of_item = _distinct(vectors)
    text, other, dots = _nearest(texts.astype(np.float32), MAX_NEIGHBOURS + 1)
    alike = pl.DataFrame({"text": text, "other": other, "dots": dots}).filter(pl.col("dots") > 0)
    carried = pl.DataFrame({"other": text_of_item}).with_row_index("to")
    # NOTE: items of one text have the same neighbours: 101 of each text will do, since an item is not its own.
    wanted = (
        alike.join(carried.group_by("other").len(), on="other")
        .sort(["text", "dots"], descending=[False, True])
        .with_columns(nearer=(pl.col("len").cum_sum() - pl.col("len")).over("text"))
        .filter(pl.col("nearer").min().over("text", "dots") <= MAX_NEIGHBOURS)
    )
    best = (
        wanted.join(carried, on="other")
        .sort(["text", "dots", "to"], descending=[False, True, False])
        .filter(pl.int_range(pl.len()).over("text") <= MAX_NEIGHBOURS)
    )
    pairs = carried.select(item="to", text="other").join(best, on="text", maintain_order="left_right")
    pairs = pairs.filter(pl.col("item") != pl.col("to"))
    pairs = pairs.filter(pl.int_range(pl.len()).over("item") < MAX_NEIGHBOURS)
    entries = (pairs["dots"].to_numpy() / GRID**2, (pairs["item"].to_numpy(), pairs["to"].to_numpy()))
    matrix = sparse.csr_matrix(entries, shape=(len(vectors), len(vectors)))
    matrix.sort_indices()
    return matrix


class TextNeighbours(Generator):
    """Neighbours of the history by item text. Their similarity does not depend on a day, so it is no fit of the log."""

    name = "text_neighbours"
    meaning = "neighbours of the history by item text"
    is_text = True

    def propose(self, requests: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:
        """Of items alike, the one more popular lately comes first."""
        if self._similarity is None:
            return NOTHING
        config, cache = self.inputs.config, self.inputs.cache
        scored = near(self._similarity, recent_items(history, config.history_items), most=self.most).join(
            requests.select("request", "as_of_day"), on="request", maintain_order="left"
        )
        lately, items = np.zeros(scored.height, np.int64), scored["item"].to_numpy()
        days = scored["as_of_day"].to_numpy()
        for day in np.unique(days).tolist():
            lately[days == day] = cache.fitted(Popularity(config.popular_days), day)[items[days == day]]
        ordered = scored.with_columns(lately=pl.Series(lately)).sort(
            ["request", "score", "lately", "item"], descending=[False, True, True, False]
        )
        return first_of_each(ordered, self.most).select(NOTHING.columns)

    @cached_property
    def _similarity(self) -> sparse.csr_matrix | None:
        vectors = self.inputs.text_vectors
        return None if vectors is None else text_similarity(vectors)


def _distinct(vectors: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.int16], Ints]:
    """Distinct rows in order of first appearance, and the number of each row among them."""
    _, first, group = np.unique(vectors, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return vectors[first[order]], np.argsort(order)[group.ravel()]


def _nearest(texts: npt.NDArray[np.float32], most: int) -> tuple[Ints, Ints, Ints]:
    """The `most` largest dot products of each row with all rows, itself included, ties to the earlier row.

    Returns:
        row, other, dot product (exact).
    """
    count = len(texts)
    block, most = max(1, _BLOCK_CELLS // max(count, 1)), min(most, count)
    rows, cols, values = [], [], []
    for start in range(0, count, block):
        dots = (texts[start : start + block] @ texts.T).astype(np.int64)
        keys = dots * count - np.arange(count)  # unique: ties go to the earlier row
        best = np.argpartition(keys, count - most, axis=1)[:, count - most :]
        rows.append(np.repeat(np.arange(start, start + len(dots)), most))
        cols.append(best.ravel())
        values.append(np.take_along_axis(dots, best, axis=1).ravel())
    return np.concatenate(rows), np.concatenate(cols), np.concatenate(values)
