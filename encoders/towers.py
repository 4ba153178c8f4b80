"""The two towers: item texts to unit vectors, and a user's history to a score of any item."""

# T texts, L tokens, D width; B requests, H history items, C candidates, K attention heads, E event types
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from encoders.architecture import KINDS
from encoders.loading import Backbone

__all__ = ["TextTower", "UserTower"]

_GATE = 1.0  # of a query at the start: it counts as the history does
_NEVER = torch.finfo(torch.float32).min  # as a logit: no weight, but without any other an even one, of zeros


class TextTower(nn.Module):
    """A transformer, pooling and a projection that starts as the identity.

    The transformer is split in two: the lower part stays as it is, so that what it makes of a text can be kept and used
    again, and the upper part is trained.

    Args:
        backbone: The pretrained encoder.
        train_layers: Upper layers that are trained, at most all of them.
        train_embeddings: Whether everything is trained, the embeddings too.
    """

    def __init__(self, backbone: Backbone, train_layers: int, *, train_embeddings: bool = False) -> None:
        super().__init__()
        model: Any = backbone.model
        self.config = model.config
        self.pooling = backbone.pooling
        self.train_embeddings = train_embeddings
        self.embeddings = model.embeddings
        self.kind = KINDS[self.config.model_type](model)
        layers = self.kind.layers(model)
        cut = 0 if train_embeddings else max(len(layers) - train_layers, 0)
        self.lower = nn.ModuleList(layers[:cut])
        self.upper = nn.ModuleList(layers[cut:])
        self.projection = nn.Linear(self.config.hidden_size, self.config.hidden_size, bias=False)
        nn.init.eye_(self.projection.weight)
        self.embeddings.requires_grad_(requires_grad=train_embeddings)
        self.lower.requires_grad_(requires_grad=False)
        self.kind.requires_grad_(requires_grad=len(self.upper) > 0)

    @property
    def width(self) -> int:
        """Width of a vector."""
        return int(self.config.hidden_size)

    @property
    def shared(self) -> tuple[nn.Module, ...]:
        """The parts that are never trained."""
        return (self.lower,) if self.train_embeddings else (self.embeddings, self.lower)

    def train(self, mode: bool = True) -> "TextTower":  # noqa: FBT001, FBT002 - torch's signature
        """Training mode for what is trained; frozen layers stay in eval mode, without dropout."""
        super().train(mode)
        for part in (self.embeddings, *self.lower, *self.upper):
            part.train(mode and any(parameter.requires_grad for parameter in part.parameters()))
        return self

    def trained(self) -> list[tuple[int, list[nn.Parameter]]]:
        """What is trained of the transformer from the bottom up: how far below the top a part is, its parameters."""
        top = len(self.upper) - 1
        layers = ((top - at, layer) for at, layer in enumerate(self.upper))
        parts = [(top + 1, self.embeddings), *layers, (0, self.kind)]
        trainable = [(below, [each for each in part.parameters() if each.requires_grad]) for below, part in parts]
        return [(below, parameters) for below, parameters in trainable if parameters]

    def read(self, ids_TL: Tensor, mask_TL: Tensor) -> Tensor:
        """The frozen part: hidden states (T, L, D) after the lower layers, in the precision they are kept in.

        Where the embeddings are trained nothing is frozen: the token ids (T, L) themselves.
        """
        if self.train_embeddings:
            return ids_TL
        with torch.no_grad():
            hidden_TLD = self._through(self.lower, self.embeddings(input_ids=ids_TL), mask_TL)
        device = hidden_TLD.device.type
        return hidden_TLD.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else hidden_TLD

    def pool(self, read: Tensor, mask_TL: Tensor, *, checkpoint: bool = False) -> Tensor:
        """The trained layers over what `read` gives: their output pooled (T, D), float32.

        Args:
            read: What `read` returned.
            mask_TL: Where there is a token.
            checkpoint: Whether a layer's inner values are computed again for the gradient instead of kept.
        """
        hidden_TLD = self.embeddings(input_ids=read) if self.train_embeddings else read
        hidden_TLD = self._through(self.upper, hidden_TLD, mask_TL, checkpoint=checkpoint)
        hidden_TLD = self.kind.finish(hidden_TLD).float()
        if self.pooling == "cls":
            return hidden_TLD[:, 0]
        weight_TL1 = mask_TL.unsqueeze(-1).float()
        return (hidden_TLD * weight_TL1).sum(1) / weight_TL1.sum(1).clamp(min=1)

    def pool_each(self, hidden_TLD: Tensor, mask_TL: Tensor) -> Tensor:
        """Means over tokens of what the trained layers get and of each one's output: (T, 1 + layers, D), float32."""
        states = [hidden_TLD]
        for layer in self.upper:
            states.append(self._through(nn.ModuleList([layer]), states[-1], mask_TL))
        weight_TL1 = mask_TL.unsqueeze(-1).float()
        sums_TKD = torch.stack([(state.float() * weight_TL1).sum(1) for state in states], 1)
        return sums_TKD / weight_TL1.sum(1, keepdim=True).clamp(min=1)

    def project(self, pooled_TD: Tensor) -> Tensor:
        """Unit vectors (T, D) from pooled ones."""
        with torch.autocast(pooled_TD.device.type, enabled=False):
            return nn.functional.normalize(self.projection(pooled_TD), dim=-1)

    def _through(
        self, layers: nn.ModuleList, hidden_TLD: Tensor, mask_TL: Tensor, *, checkpoint: bool = False
    ) -> Tensor:
        context = self.kind.layer_context(hidden_TLD, mask_TL)
        for layer in layers:
            if checkpoint:
                hidden_TLD = recomputed(self.kind.step, layer, hidden_TLD, context, use_reentrant=False)
            else:
                hidden_TLD = self.kind.step(layer, hidden_TLD, context)
        return hidden_TLD


class UserTower(nn.Module):
    """Attention over the history, with the candidate as the query.

    Each head weighs the history items by their text similarity to the candidate, by their age, and by the gain and the
    type of the event, and takes the weighted mean of the similarities. A sharp head looks at the nearest history items
    only, a flat one at all alike; the score is a learned mixture. To it comes what the request asks for, the similarity
    of the candidate's text to its query, and what everybody wants: the similarity to one learned direction. A user
    without history is ranked by these alone.

    Args:
        width: D, width of text vectors.
        heads: Attention heads; their sharpness starts evenly spread from flat to nearest-only.
        event_types: E, how many types of event are distinguished; each has a prior in each head, 0 at the start.
        queries: Whether requests may have a query.
    """

    def __init__(self, width: int, heads: int = 4, *, event_types: int = 0, queries: bool = False) -> None:
        super().__init__()
        self.sharpness_K = nn.Parameter(torch.linspace(0.0, 24.0, heads))
        self.ageing_K = nn.Parameter(torch.full((heads,), 0.3))
        self.gain_K = nn.Parameter(torch.zeros(heads))
        self.event_KE = nn.Parameter(torch.zeros(heads, event_types)) if event_types else None
        self.query_gate = nn.Parameter(torch.tensor(_GATE)) if queries else None
        self.mixture_K = nn.Parameter(torch.zeros(heads))
        self.log_scale = nn.Parameter(torch.tensor(3.0))
        self.wanted_D = nn.Parameter(torch.zeros(width))

    def forward(
        self,
        similar_BHC: Tensor,
        age_BH: Tensor,
        gain_BH: Tensor,
        mask_BHC: Tensor,
        event_type_BH: Tensor | None = None,
    ) -> Tensor:
        """Match (B, C) of each request's user and each candidate; query and what everybody wants are not in it.

        Args:
            similar_BHC: Cosine of history and candidate texts.
            age_BH: Days since the event, 1 or more.
            gain_BH: Gain of the event.
            mask_BHC: Where there is a history item, other than the candidate itself.
            event_type_BH: Code of the event's type from 1 on, int64; 0, or None for all, is a type without a prior.
        """
        mixture_K = torch.softmax(self.mixture_K, 0)
        age_BH, gain_BH = torch.log(age_BH.clamp(min=1)), torch.log(gain_BH.clamp(min=1))
        # NOTE: Over the last dimension torch reduces each row on its own, over another one in groups of neighbours:
        # a match is the same to the last bit whatever other candidates and requests are in the batch.
        left_out_BCH = ~mask_BHC.transpose(1, 2).contiguous()
        similar_BCH = similar_BHC.transpose(1, 2).contiguous().masked_fill(left_out_BCH, 0.0)
        score_BC = torch.zeros_like(similar_BCH[..., 0])
        for head in range(len(mixture_K)):
            prior_BH = self.gain_K[head] * gain_BH - self.ageing_K[head] * age_BH
            if self.event_KE is not None and event_type_BH is not None:
                prior_BH = prior_BH + nn.functional.pad(self.event_KE[head], (1, 0))[event_type_BH]
            logit_BCH = self.sharpness_K[head] * similar_BCH + prior_BH.unsqueeze(1)
            weight_BCH = torch.softmax(logit_BCH.masked_fill(left_out_BCH, _NEVER), -1)
            score_BC = score_BC + mixture_K[head] * (weight_BCH * similar_BCH).sum(-1)
        return score_BC * self.log_scale.exp()

    def answer(self, similar_BC: Tensor) -> Tensor:
        """Score of each candidate as an answer to the query (B, C), on the scale of the match.

        Args:
            similar_BC: Cosine of the request's query and candidate texts, 0 where it has none.
        """
        assert self.query_gate is not None, "this tower reads no queries"
        return similar_BC * (self.query_gate * self.log_scale.exp())
