"""Item embeddings: a learned residual on a text's vector, by the item's id and its attributes."""

# I items, U texts or items of a batch, N attributes (the id may be one), D width
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor, nn

from encoders.embed import on_grid
from features.tables.text import GRID

__all__ = ["CodedItems", "ItemEmbeddings"]


@dataclass(frozen=True, slots=True)
class CodedItems:
    """Meaning of a batch's positions where items have vectors of their own: items first, then queries.

    Attributes:
        text_U: Position of each one's text among the distinct texts.
        code_UN: Codes of `ItemEmbeddings.codes`, int64; 0 for queries, and for what may not be learned yet.
    """

    text_U: npt.NDArray[np.int64]
    code_UN: npt.NDArray[np.int64]


class ItemEmbeddings(nn.Module):
    """One vector a value of each attribute, 0 at the start; their sum is added to the unit vector of an item's text.

    A value that the vocabulary does not have adds nothing: a new item keeps its text's vector.

    Args:
        width: D.
        vocabularies: Values of each attribute as text, by column of items.
        dropout: Share of items that do without theirs in a training batch, so that the text alone must serve.
    """

    def __init__(self, width: int, vocabularies: Mapping[str, Sequence[str]], *, dropout: float) -> None:
        super().__init__()
        self.vocabularies = {name: tuple(values) for name, values in vocabularies.items()}
        self.dropout = dropout
        self.tables = nn.ParameterList(torch.zeros(len(values) + 1, width) for values in self.vocabularies.values())

    def codes(self, items: pl.DataFrame) -> npt.NDArray[np.int64]:
        """(I, N) position of each item's values in the vocabularies from 1 on, 0 for none.

        Args:
            items: The catalogue, with a column for each attribute.
        """
        codes = np.zeros((items.height, len(self.vocabularies)), np.int64)
        for column, (name, values) in enumerate(self.vocabularies.items()):
            code_of = {value: at + 1 for at, value in enumerate(values)}
            coded = items[name].cast(pl.String).replace_strict(code_of, default=0, return_dtype=pl.Int64)
            codes[:, column] = coded.fill_null(0).to_numpy()
        return codes

    def residual(self, code_UN: Tensor) -> Tensor:
        """What is added to the vectors of texts (U, D)."""
        parts = [
            nn.functional.embedding(code_U, table, padding_idx=0)
            for code_U, table in zip(code_UN.unbind(1), self.tables, strict=True)
        ]
        return torch.stack(parts).sum(0)

    def forward(self, vector_UD: Tensor, code_UN: Tensor) -> Tensor:
        """Unit vectors (U, D) of items from those of their texts; in training some are left as they are."""
        residual_UD = self.residual(code_UN)
        if self.training:
            kept_U1 = torch.rand(len(code_UN), 1) >= self.dropout
            residual_UD = residual_UD * kept_U1.to(residual_UD.device)
        return nn.functional.normalize(vector_UD + residual_UD, dim=-1)

    def apply_to(self, vectors: npt.NDArray[np.int16], items: pl.DataFrame) -> npt.NDArray[np.int16]:
        """Vectors of items on the grid (I, D) from those of their texts; what has no residual stays to the last bit."""
        with torch.inference_mode():
            residual_ID = self.residual(torch.from_numpy(self.codes(items))).numpy()
        has_residual = residual_ID.any(axis=1)
        made = vectors.copy()
        made[has_residual] = on_grid(
            vectors[has_residual].astype(np.float32) / np.float32(GRID) + residual_ID[has_residual]
        )
        return made
