"""The click model: how likely a text is clicked, learned without users from texts shown against each other."""

# R rows (texts of a group), K states of a text, D width, V n-grams
import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from safetensors.torch import load_file, save_file
from scipy import optimize, sparse
from torch import Tensor

from encoders.click_module import Material, Scale, Shown, states_of, train_layers
from encoders.config import ClickModelConfig
from encoders.model import InterestModel
from encoders.ngrams import NGrams
from encoders.towers import TextTower
from features.errors import ContractError, IntegrityError

__all__ = ["ClickModel", "telling"]

Report = Callable[[int, list[float]], None]
"""Called with the number of each member that is fitted, and with its `validation_losses`."""

_WEIGHTS, _ABOUT, _ENCODER = "click_model.safetensors", "click_model.json", "encoder"
_ITERATIONS = 200


@dataclass(frozen=True, slots=True)
class _Member:
    """One of the models whose mean is the click model.

    Attributes:
        tower: Shares the frozen layers with the encoder; the encoder's own, where no layer was trained.
        head: (K * D,) float64 weights of the states' vectors.
        ngram_weights: (V,) float64.
    """

    tower: TextTower
    head: npt.NDArray[np.float64]
    ngram_weights: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ClickModel:
    """A fitted pointwise model of texts.

    A member's score is linear in what the encoder's top layers make of the text (the input of the trained layers and
    the output of each: the topmost is bent towards what a text is about, those below still know how it is written) and
    in its words and phrases, TF-IDF over case-kept n-grams. Both weights are fitted together, as the maximum a
    posteriori under `encoders.losses.binomial_log_loss`; then, with `epochs`, the layers are trained under them. The
    click model is the mean of its members, each of which has left one part of the groups out and is stopped by it.

    Attributes:
        encoder: The interest model it stands on: tokenizer, frozen layers, arithmetic.
        members: Layers and weights.
        scale: States to vectors.
        ngrams: The vocabulary.
        intercept: Log-odds of a click of the text of score 0, over all that was shown in training.
        validation_losses: For each member the loss of its held-out groups, under the heads alone and after each epoch.
    """

    encoder: InterestModel
    members: tuple[_Member, ...]
    scale: Scale
    ngrams: NGrams
    intercept: float
    validation_losses: tuple[tuple[float, ...], ...]

    @classmethod
    def fit(
        cls,
        rows: pl.DataFrame,
        *,
        encoder: InterestModel,
        config: ClickModelConfig,
        seed: int,
        report: Report | None = None,
    ) -> Self:
        """Learn from texts that were shown against each other.

        Args:
            rows: group (text or integers), text, impressions, clicks: one row a text of a group. Their order does not
                matter.
            encoder: What it stands on; stays as it is.
            config: Sizes and rates.
            seed: Same seed, same machine: same model to the last bit.
            report: Called after each member.

        Raises:
            ContractError: Fewer groups that tell anything than members. A group does if it has two texts, and if some
                but not all of its impressions were clicked.
        """
        rows = telling(rows).sort("group", "text")
        part_R = _parts(rows, config.members, seed)
        texts = rows["text"].to_list()
        tokens = encoder.tokenise(texts)
        lower = encoder.read_lower(tokens)
        states_RKD = states_of(encoder.tuned, tokens, lower, bf16=encoder.bf16)
        scale = Scale.fit(states_RKD, variance=config.vector_variance)
        ngrams = NGrams.fit(texts, longest=config.ngram_words, min_texts=config.ngram_texts)
        design = _Design(scale(states_RKD).double().numpy(), ngrams.transform(texts) * config.ngram_variance**0.5)
        shown = _weighed(rows, config.overdispersion)
        members, validation_losses = [], []
        for number in range(config.members):
            validation_R = part_R == number
            head, ngram_weights = design.fit(shown, np.flatnonzero(~validation_R))
            tower = _with_own_layers(encoder.tuned) if config.epochs else encoder.tuned
            material = Material(
                texts=tokens,
                lower=lower,
                shown=shown,
                scale=scale,
                beside_R=torch.from_numpy(design.ngrams_RV @ ngram_weights),
                validation_R=np.flatnonzero(validation_R),
                training_groups=_rows_of_groups(shown.group_R.numpy(), ~validation_R),
            )
            trained, losses = train_layers(
                tower, torch.from_numpy(head), material, bf16=encoder.bf16, config=config, seed=seed * 1000 + number
            )
            members.append(_Member(tower, trained.double().numpy(), ngram_weights * config.ngram_variance**0.5))
            validation_losses.append(tuple(losses))
            if report is not None:
                report(number, losses)
        fitted = cls(encoder, tuple(members), scale, ngrams, 0.0, tuple(validation_losses))
        return replace(fitted, intercept=_intercept(fitted.predict(texts), rows))

    def predict(self, texts: Sequence[str | None]) -> npt.NDArray[np.float64]:
        """Log-odds of a click (R,), at the click rate of all that was shown in training.

        Only differences between texts were learned: within a test of your own the order and the odds ratio are meant,
        not the level. A text's value does not depend on the texts beside it; null and empty texts have one too.
        """
        tokens = self.encoder.tokenise(texts)
        lower = self.encoder.read_lower(tokens)
        ngrams_RV = self.ngrams.transform([text or "" for text in texts])
        vectors: dict[int, npt.NDArray[np.float64]] = {}
        scores = []
        for member in self.members:
            own = id(member.tower)
            if own not in vectors:
                states_RKD = states_of(member.tower, tokens, lower, bf16=self.encoder.bf16)
                vectors[own] = self.scale(states_RKD).double().numpy()
            # NOTE: Not `@`: BLAS adds up in another order for another number of rows.
            scores.append((vectors[own] * member.head).sum(1) + ngrams_RV @ member.ngram_weights)
        mean_R: npt.NDArray[np.float64] = np.mean(scores, axis=0) + self.intercept
        return mean_R

    def probability(self, texts: Sequence[str | None]) -> npt.NDArray[np.float64]:
        """Probability of a click (R,): the logistic function of `predict`."""
        odds_R: npt.NDArray[np.float64] = np.exp(self.predict(texts))
        return odds_R / (1 + odds_R)

    def digest(self) -> str:
        """sha256 over all that decides a score."""
        digest = hashlib.sha256(self.encoder.digest("tuned").encode() + self._about().encode())
        for name, tensor in sorted(self._tensors().items()):
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write weights (safetensors), vocabulary (JSON) and the encoder into an existing folder."""
        (folder / _ENCODER).mkdir()
        self.encoder.save(folder / _ENCODER)
        save_file({name: tensor.contiguous() for name, tensor in self._tensors().items()}, folder / _WEIGHTS)
        (folder / _ABOUT).write_text(self._about(), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            IntegrityError: A file is missing or altered.
        """
        encoder = InterestModel.load(folder / _ENCODER)
        try:
            about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
            tensors = load_file(folder / _WEIGHTS)
            ngrams = NGrams(tuple(about["ngrams"]), tensors["idf"].numpy(), about["longest"])
            losses = tuple(tuple(losses) for losses in about["held_losses"])
            members = tuple(_member(encoder, tensors, number) for number in range(len(losses)))
            scale = Scale(tensors["scale.mean"], tensors["scale.factor"])
            return cls(encoder, members, scale, ngrams, about["intercept"], losses)
        except Exception as error:  # safetensors, JSON, torch: an altered file raises whatever it leads to
            raise IntegrityError(f"{folder}: the click model's files are missing or altered.") from error

    def _about(self) -> str:
        about: dict[str, Any] = {
            "ngrams": self.ngrams.vocabulary,
            "longest": self.ngrams.longest,
            "intercept": self.intercept,
            "held_losses": self.validation_losses,
        }
        return json.dumps(about, indent=0, sort_keys=True, ensure_ascii=False)

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {
            "idf": torch.from_numpy(self.ngrams.idf),
            "scale.mean": self.scale.mean_KD,
            "scale.factor": self.scale.factor_K,
        }
        for number, member in enumerate(self.members):
            tensors[f"{number}.head"] = torch.from_numpy(member.head)
            tensors[f"{number}.ngrams"] = torch.from_numpy(member.ngram_weights)
            if member.tower is not self.encoder.tuned:
                tensors |= {f"{number}.upper.{name}": own for name, own in member.tower.upper.state_dict().items()}
        return tensors


def _member(encoder: InterestModel, tensors: dict[str, Tensor], number: int) -> _Member:
    """A member from its tensors."""
    prefix = f"{number}.upper."
    upper = {name.removeprefix(prefix): own for name, own in tensors.items() if name.startswith(prefix)}
    tower = _with_own_layers(encoder.tuned) if upper else encoder.tuned
    if upper:
        tower.upper.load_state_dict(upper)
    return _Member(tower, tensors[f"{number}.head"].numpy(), tensors[f"{number}.ngrams"].numpy())


def _with_own_layers(tower: TextTower) -> TextTower:
    """A copy that shares what is frozen."""
    shared: dict[int, Any] = {id(module): module for module in (tower.embeddings, tower.lower, tower.config)}
    return copy.deepcopy(tower, shared)


@dataclass(frozen=True, slots=True)
class _Design:
    """Input of the linear part, scaled so that every weight's prior is a standard normal.

    Attributes:
        vectors_RX: States' vectors, X = K * D.
        ngrams_RV: Words and phrases.
    """

    vectors_RX: npt.NDArray[np.float64]
    ngrams_RV: sparse.csr_array

    def fit(self, shown: Shown, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Weights of vectors (X,) and n-grams (V,): maximum a posteriori by L-BFGS (the objective is convex)."""
        vectors_RX, ngrams_RV = self.vectors_RX[rows], self.ngrams_RV[rows]
        ngrams_VR = ngrams_RV.T.tocsr()
        width, fitted = vectors_RX.shape[1], shown.of(rows)
        clicks = float(fitted.clicks_R.sum())

        def objective(weights: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
            score_R = torch.from_numpy(vectors_RX @ weights[:width] + ngrams_RV @ weights[width:]).requires_grad_()
            loss = fitted.loss(score_R) * clicks
            (slope,) = torch.autograd.grad(loss, score_R)
            slope_R = slope.numpy()
            gradient = np.concatenate([slope_R @ vectors_RX, ngrams_VR @ slope_R]) + weights
            return float(loss.detach()) + 0.5 * float(weights @ weights), gradient

        start = np.zeros(width + ngrams_RV.shape[1])
        solution = optimize.minimize(
            objective, start, jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS, "maxcor": 20}
        )
        return solution.x[:width], solution.x[width:]


def _weighed(rows: pl.DataFrame, overdispersion: float) -> Shown:
    """The rows by how much they tell: clicks and impressions times ``1 / (1 + overdispersion * expected clicks)``.

    A headline with a thousand clicks tells its own click rate to three per cent, and little more about other headlines
    than one with a hundred (Williams, "Extra-binomial variation in logistic linear models", 1982).
    """
    rate = pl.col("clicks").sum().over("group") / pl.col("impressions").sum().over("group")
    weight = 1 / (1 + overdispersion * pl.col("impressions") * rate)
    weighted = rows.select(
        clicks=pl.col("clicks") * weight,
        impressions=pl.col("impressions") * weight,
        group=pl.col("group").rank("dense"),
    )
    clicks, impressions = (torch.from_numpy(weighted[name].to_numpy().copy()) for name in ("clicks", "impressions"))
    return Shown(clicks, impressions, torch.from_numpy(weighted["group"].to_numpy().astype(np.int64) - 1))


def _rows_of_groups(group_R: npt.NDArray[np.int64], training_R: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.int64]]:
    """The training rows of each group that has any; the rows of a group stand together."""
    rows = np.flatnonzero(training_R)
    return np.split(rows, np.flatnonzero(np.diff(group_R[rows])) + 1)


def _intercept(score_R: npt.NDArray[np.float64], rows: pl.DataFrame) -> float:
    """The intercept at which the expected clicks of all rows are their clicks."""
    clicks, impressions = rows["clicks"].to_numpy(), rows["impressions"].to_numpy()
    base = float(np.log(clicks.sum() / (impressions.sum() - clicks.sum())))

    def missing(intercept: float) -> float:
        return float((impressions / (1 + np.exp(-score_R - intercept))).sum() - clicks.sum())

    return float(optimize.brentq(missing, base - score_R.max() - 1, base - score_R.min() + 1, xtol=1e-12))


def telling(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of groups that tell anything: of two texts or more, with some but not all impressions clicked.

    Args:
        rows: group, text, impressions, clicks.
    """
    clicks, impressions = pl.col("clicks").sum(), pl.col("impressions").sum()
    return rows.filter(((pl.col("text").n_unique() > 1) & (clicks > 0) & (clicks < impressions)).over("group"))


def _parts(rows: pl.DataFrame, members: int, seed: int) -> npt.NDArray[np.int64]:
    """The part that each row's group is dealt into, as many groups to each.

    NOTE: Not by `features.tables.hashing`: a caller who split the groups by that hash would leave some parts empty.
    """
    group_R = rows["group"].rank("dense").to_numpy().astype(np.int64) - 1
    groups = rows["group"].n_unique()
    if groups < members:
        raise ContractError(
            f"click model: {groups} groups have two texts and clicks, and there are {members} members, each of which "
            "leaves a part of the groups out. Bring more groups, or lower click_model.members."
        )
    part_R: npt.NDArray[np.int64] = (np.random.default_rng(seed).permutation(groups) % members)[group_R]
    return part_R
