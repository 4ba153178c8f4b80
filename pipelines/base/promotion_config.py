"""The policy of a promotion: what a version must show to become champion."""

import difflib
import re
from collections.abc import Iterable
from typing import ClassVar, Self

from pydantic import Field, model_validator

from features.frozen import FrozenConfig, Owner
from features.requests.engaged import SLICES

__all__ = ["NEW_USER", "GroupGates", "GuardGates", "PromotionConfig", "SliceGates", "column_of", "nearest"]

NEW_USER = "new user"
"""The slice of requests of users who had engaged with nothing before the as-of."""
_NAMED = (*SLICES, NEW_USER)
_ATTRIBUTE = re.compile(r"(items|users)\.([^=]+)(?:=(.+))?")
_BEYOND = ("coverage", "diversity", "gini", "novelty", "popularity")


def column_of(name: str) -> tuple[str, str, str | None]:
    """Table, column and value of `items.COLUMN=VALUE` or `users.COLUMN`; empty table and column for another name.

    >>> column_of("items.category=kettles"), column_of("cold item")
    (('items', 'category', 'kettles'), ('', '', None))
    """
    match = _ATTRIBUTE.fullmatch(name)
    return ("", "", None) if match is None else (match[1], match[2], match[3])


def nearest(name: str, names: Iterable[str]) -> str:
    """What to write instead of an unknown name: the nearest of some, or which there are."""
    choices = list(names)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.4)
    return f"Did you mean {near[0]!r}?" if near else f"Choose of: {'; '.join(choices[:20])}."


class SliceGates(FrozenConfig):
    """What is asked of a part of the items or of the requests."""

    owner = Owner.EVALUATION

    slice: str = Field(
        description="Its name: all, repeat, new-to-user, cold item, new user (who had engaged with nothing before), "
        "items.COLUMN=VALUE or users.COLUMN=VALUE."
    )
    floor: float | None = Field(default=None, ge=0, le=1, description="Least mean of the metric in the slice.")
    max_loss_to_champion: float | None = Field(
        default=None,
        ge=0,
        description="How far the lower end of the 95 % interval of the lift over the champion may lie below 0 there.",
    )

    @model_validator(mode="after")
    def _is_a_slice(self) -> Self:
        table, _, value = column_of(self.slice)
        if self.slice not in _NAMED and (not table or value is None):
            names = (*_NAMED, "items.COLUMN=VALUE", "users.COLUMN=VALUE")
            hint = f"Name a value: {self.slice}=VALUE" if table else nearest(self.slice, names)
            msg = f"there is no slice {self.slice!r}. {hint}"
            raise ValueError(msg)
        if self.floor is None and self.max_loss_to_champion is None:
            msg = f"nothing is asked of {self.slice!r}. Set floor or max_loss_to_champion, or leave the slice out"
            raise ValueError(msg)
        return self


class GuardGates(FrozenConfig):
    """What is asked of a figure beyond accuracy, of the version's lists over the window."""

    owner = Owner.EVALUATION

    figure: str = Field(
        description="Its name: coverage@K, gini@K, novelty@K, popularity@K or diversity@K, K one of "
        "`evaluation.cutoffs`."
    )
    least: float | None = Field(default=None, description="Its smallest allowed value.")
    most: float | None = Field(default=None, description="Its largest allowed value.")
    max_fall: float | None = Field(default=None, ge=0, description="How far it may lie below the champion's.")
    max_rise: float | None = Field(default=None, ge=0, description="How far it may lie above the champion's.")

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if all(limit is None for limit in (self.least, self.most, self.max_fall, self.max_rise)):
            msg = f"nothing is asked of {self.figure!r}. Set least, most, max_fall or max_rise, or leave it out"
            raise ValueError(msg)
        return self


class GroupGates(FrozenConfig):
    """What may at most lie between the groups that an attribute makes of users or of items."""

    owner = Owner.EVALUATION

    by: str = Field(description="The attribute: users.COLUMN for a gap in NDCG, items.COLUMN for one in exposure.")
    max_ndcg_gap: float | None = Field(
        default=None, ge=0, le=1, description="Largest difference of the metric's means between two groups of users."
    )
    max_exposure_gap: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Largest difference, in any group of items, between its share of the places in the first K of "
        "every list and its share of what users then engaged with.",
    )
    min_requests: int = Field(
        default=30, ge=1, description="Requests that a group of users needs for its mean to count."
    )

    @model_validator(mode="after")
    def _fits_its_table(self) -> Self:
        table, _, value = column_of(self.by)
        if not table or value is not None:
            msg = f"{self.by!r} names no attribute. Write users.COLUMN or items.COLUMN"
            raise ValueError(msg)
        fitting, other = ("max_ndcg_gap", "max_exposure_gap")[:: 1 if table == "users" else -1]
        if getattr(self, fitting) is None or getattr(self, other) is not None:
            msg = f"groups of {table} take {fitting}, and not {other}. Set it for {self.by!r}"
            raise ValueError(msg)
        return self


class PromotionConfig(FrozenConfig):
    """The policy: what a version must show to become champion. What is null or empty is not asked for."""

    owner = Owner.EVALUATION
    example: ClassVar[str] = """\
promotion:
  min_lift_over_champion: 0.002     # the least effect; without it a version may lose 0.005
  slices:
    - {slice: cold item, floor: 0.01}
    - {slice: new user, max_loss_to_champion: 0.02}
    - {slice: items.category=Garden, floor: 0.1, max_loss_to_champion: 0.02}
  guards:
    - {figure: coverage@10, least: 0.2, max_fall: 0.05}
  groups:
    - {by: users.country, max_ndcg_gap: 0.1}
    - {by: items.category, max_exposure_gap: 0.2}
  max_bundle_mb: 500
  max_request_ms: 50
  max_days_since_window: 14
  tags: {reviewed: yes}
  min_approvals: 1                  # nightrank approve --version 3 --as "Ada Lovelace"
"""

    metric: str | None = Field(
        default=None,
        pattern=r"^ndcg@\d+( \(value\))?$",
        description="The metric of lifts, slices and groups: ndcg@K with K of `evaluation.cutoffs`, or `ndcg@K "
        "(value)` where `labels.value_gain` is set; null: NDCG at the last of them.",
    )
    min_lift_over_baseline: float = Field(
        default=0.0,
        description="Least NDCG by which a version must beat the user's own most frequent items: the lower end of the "
        "95 % interval must exceed it.",
    )
    max_loss_to_champion: float = Field(
        default=0.005,
        ge=0,
        description="NDCG by which a version may at most be worse than the champion: the lower end of the 95 % "
        "interval may be this far below 0.",
    )
    min_lift_over_champion: float | None = Field(
        default=None,
        ge=0,
        description="Least effect: NDCG by which a version must beat the champion, instead of not losing to it: the "
        "lower end of the 95 % interval must exceed it.",
    )
    min_distinct_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Least share of requests in which the scores of the candidates are not all the same.",
    )
    slices: tuple[SliceGates, ...] = Field(
        default=(), description="Floors and largest losses in parts of the items or requests."
    )
    guards: tuple[GuardGates, ...] = Field(
        default=(), description="Limits of coverage, Gini index, novelty, popularity and diversity."
    )
    groups: tuple[GroupGates, ...] = Field(
        default=(), description="Largest gaps between groups of users (NDCG) or of items (exposure)."
    )
    max_bundle_mb: float | None = Field(default=None, gt=0, description="Largest size of the bundle in MB.")
    max_request_ms: float | None = Field(
        default=None,
        gt=0,
        description="Most milliseconds that a request may take on this machine, from its candidates to its scores, on "
        "average over the window.",
    )
    max_memory_gb: float | None = Field(
        default=None,
        gt=0,
        description="Most memory in GB that the command may have held when it had scored the version's window, the "
        "log included.",
    )
    max_days_since_window: int | None = Field(
        default=None,
        ge=0,
        description="Days that the log may go on after the window that the version is judged on.",
    )
    tags: dict[str, str | None] = Field(
        default_factory=dict,
        description="Tags that the version must have in MLflow, as `name: value`; null takes any value.",
    )
    min_approvals: int | None = Field(
        default=None, ge=1, description="How many people must have approved the bundle: `nightrank approve`."
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for key, names in (
            ("slices", [each.slice for each in self.slices]),
            ("guards", [each.figure for each in self.guards]),
            ("groups", [each.by for each in self.groups]),
        ):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                msg = f"promotion.{key}: {twice[0]!r} stands there twice. Write one entry with all its limits"
                raise ValueError(msg)
        return self

    def columns(self, table: str) -> tuple[str, ...]:
        """Columns of `items` or `users` that slices and groups read."""
        names = [column_of(name) for name in (*(s.slice for s in self.slices), *(g.by for g in self.groups))]
        return tuple(dict.fromkeys(column for of, column, _ in names if of == table))

    def faults(self, cutoffs: Iterable[int]) -> list[str]:
        """What names a figure that an evaluation with these cut-offs does not make, with the nearest that it makes."""
        figures = [f"{name}@{k}" for k in cutoffs for name in _BEYOND]
        faults = [
            f"promotion.guards: no figure is called {guard.figure!r}. {nearest(guard.figure, figures)}"
            for guard in self.guards
            if guard.figure not in figures
        ]
        metrics = [f"ndcg@{k}" for k in cutoffs]
        if self.metric is not None and self.metric.removesuffix(" (value)") not in metrics:
            faults.append(
                f"promotion.metric: {self.metric!r} is none of the evaluation's. {nearest(self.metric, metrics)}"
            )
        return faults

    @property
    def needs_lists(self) -> bool:
        """Whether something is asked that an evaluation after training did not measure."""
        return bool(self.slices or self.groups or self.max_request_ms or self.max_memory_gb)

    def configured(self) -> dict[str, object]:
        """What is asked for, as plain values: without what is null or empty."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {key: value for key, value in values.items() if value not in ({}, [])}
