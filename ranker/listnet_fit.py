"""Training of `ranker.listnet.ListNet`; the only module of this package that imports torch."""

# N rows, F features, I inputs, B requests of a batch, C the most rows of one of them
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import nn

from ranker.config import NetworkConfig, RankerConfig, Report
from ranker.groups import (
    feature_matrix,
    feature_table,
    group_sizes,
    label_vector,
    recency_weight,
    with_positives,
)
from ranker.listnet import FARTHEST, Layer, ListNet, squashed
from ranker.metrics import gain_of
from ranker.ranker import Allocate

__all__ = ["fit_listnet", "steps_of"]

_LEAST_STEPS = 20  # that a rise and fall is laid out over: torch's divides by zero over some fewer
_ROWS = 16_384  # rows whose inputs are made at a time
_UNIT = 32_767 // FARTHEST  # inputs are kept in 16 bits: whole numbers of 1 / _UNIT of a standard deviation


def fit_listnet(
    train: pl.DataFrame,
    *,
    features: tuple[str, ...],
    config: RankerConfig,
    seed: int,
    report: Report | None = None,
    allocate: Allocate | None = None,
) -> ListNet:
    """Train networks: the cross-entropy of each request's softmaxed scores to the shares of its gain.

    AdamW under a rate that rises and falls once (Smith and Topin 2018). The same machine, threads and seed give the
    same network.

    Args:
        train: request, label and the features; rows of a request together. As for `LambdaMart.fit`, requests without
            a positive teach nothing, and recency weighs.
        features: Ordered names of the columns to learn from.
        config: Of the network, its gain and its members (`ensemble`), whose scores are averaged.
        seed: Of the first member's weights, order and dropout; the next one's is one more.
        report: Called after each step with the number of steps, over all members, and the loss.
        allocate: Makes what the inputs lie in while the network learns; None makes it in memory.

    Raises:
        ContractError: As `ranker.groups`.
        ValueError: The configuration has no network.
    """
    if config.network is None:
        raise ValueError("ranker.network is null")
    size, train = config.network, with_positives(train, "training", remedy="timeline.ranker_days")
    start = _standardised(train, features)
    shape = train.height, len(features) + len(start.undefined_M)
    inputs_NI = torch.empty(shape, dtype=torch.int16) if allocate is None else torch.from_numpy(allocate(*shape))
    for first in range(0, train.height, _ROWS):
        made = start.inputs(feature_matrix(train.slice(first, _ROWS), features)) * np.float32(_UNIT)
        inputs_NI[first : first + len(made)] = torch.from_numpy(np.rint(made, out=made).astype(np.int16))
    sizes = group_sizes(train["request"]).astype(np.int64)
    gain_N = torch.from_numpy(gain_of(config.gain)[label_vector(train["label"])].astype(np.float32))
    weight = recency_weight(train, config.recency_half_life_days)
    lists = _Lists(inputs_NI, gain_N, np.cumsum(sizes) - sizes, sizes, weight)
    steps = 0

    def count_step(loss: float) -> None:
        nonlocal steps
        steps += 1
        if report is not None:
            report(steps, loss)

    fitted = tuple(_member(lists, size, seed + member, count_step) for member in range(config.ensemble))
    return ListNet(features, start.mean_F, start.scale_F, start.undefined_M, fitted)


def steps_of(config: RankerConfig, train: pl.DataFrame) -> int:
    """Steps that all members take together; 0 without a network."""
    if config.network is None:
        return 0
    requests = train.filter(pl.col("label") > 0)["request"].n_unique()
    return config.ensemble * _steps(config.network, requests)


def _steps(config: NetworkConfig, requests: int) -> int:
    return config.epochs * -(-requests // config.requests_per_batch)


class _Lists:
    """Requests as padded batches.

    Args:
        inputs_NI: Whole numbers of 1 / `_UNIT`.
        gain_N: Gain of each row's label.
        first: First row of each request.
        sizes: Its rows.
        weight: (N,) of each row.
    """

    def __init__(
        self,
        inputs_NI: torch.Tensor,
        gain_N: torch.Tensor,
        first: npt.NDArray[np.int64],
        sizes: npt.NDArray[np.int64],
        weight: npt.NDArray[np.float32] | None,
    ) -> None:
        self._inputs_NI, self._gain_N = inputs_NI, gain_N
        self._first, self._sizes = first, sizes
        self._weight = None if weight is None else weight[first]

    @property
    def width(self) -> int:
        """I."""
        return self._inputs_NI.shape[1]

    def __len__(self) -> int:
        return len(self._sizes)

    def loss(self, network: nn.Module, requests: npt.NDArray[np.int64]) -> torch.Tensor:
        """Mean cross-entropy of some requests."""
        sizes, first = self._sizes[requests], self._first[requests]
        position = np.arange(sizes.max())
        mask_BC = torch.from_numpy(position < sizes[:, None])
        row = torch.from_numpy(np.repeat(first - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum()))
        score = network(self._inputs_NI[row].float() / _UNIT).squeeze(-1)
        score_BC = torch.full(mask_BC.shape, -torch.inf).masked_scatter(mask_BC, score)
        gain_BC = torch.zeros(mask_BC.shape).masked_scatter(mask_BC, self._gain_N[row])
        share_BC = gain_BC / gain_BC.sum(1, keepdim=True)
        chance_BC = torch.log_softmax(score_BC, 1).masked_fill(~mask_BC, 0)
        loss_B = -(share_BC * chance_BC).sum(1)
        if self._weight is None:
            return loss_B.mean()
        weight_B = torch.from_numpy(self._weight[requests])
        return (loss_B * weight_B).sum() / weight_B.sum()


def _standardised(train: pl.DataFrame, features: tuple[str, ...]) -> ListNet:
    """A network without members: what its inputs are."""
    table = feature_table(train, features)
    mean, scale, undefined = *np.zeros((2, len(features)), np.float32), []
    for at, name in enumerate(features):
        values = table[name].fill_null(float("nan")).to_numpy()
        missing = np.isnan(values)
        if missing.any():
            undefined.append(at)
            values = values[~missing]
        if len(values):
            near = squashed(values)
            mean[at], spread = near.mean(dtype=np.float64), near.std(dtype=np.float64)
            scale[at] = 1 / spread if spread > 0 else 0
    return ListNet(features, mean, scale, np.array(undefined, np.int64), ())


def _member(lists: _Lists, config: NetworkConfig, seed: int, on_step: Callable[[float], None]) -> tuple[Layer, ...]:
    """Train one network."""
    order = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        network = _network(lists.width, config)
        optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        rates = torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            config.learning_rate,
            total_steps=max(_steps(config, len(lists)) + 1, _LEAST_STEPS),
            pct_start=0.1,
        )
        network.train()
        for _ in range(config.epochs):
            shuffled = order.permutation(len(lists))
            for first in range(0, len(lists), config.requests_per_batch):
                loss = lists.loss(network, np.sort(shuffled[first : first + config.requests_per_batch]))
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                rates.step()
                on_step(loss.item())
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    return tuple(
        (np.ascontiguousarray(layer.weight.detach().numpy().T), layer.bias.detach().numpy()) for layer in linear
    )


def _network(width: int, config: NetworkConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    for hidden in config.hidden:
        layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(config.dropout)]
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, 1))
