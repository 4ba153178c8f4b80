"""A registered version behind `mlflow models serve` and `mlflow models predict`: lists as a night would make them.

MLflow finds this module by the `MLmodel` of a bundle and calls `_load_pyfunc`. What the version is, lies in the bundle;
what happened until today, in the tables of a configuration file, which are read once, as a night reads them.
"""

import math
import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import polars as pl

from features.errors import ConfigError, ContractError
from features.log.event_log import batch_day, date_of
from pipelines.base.config import Config, load_config
from pipelines.base.progress import say
from pipelines.inputs.check import Inputs
from pipelines.inputs.read import read_for
from pipelines.night.lists import Lists, rank_users
from pipelines.registry.bundle import Bundle, load_bundle
from pipelines.registry.versions import plan_of_version, working_config
from pipelines.training.chain import Chain
from pipelines.training.feature_plan import load_plugins
from pipelines.verbs.score import has_hindsight, ranked_users, refuse_unanswerable

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CONFIG_VARIABLE", "DATE_VARIABLE", "ServedVersion"]

CONFIG_VARIABLE, DATE_VARIABLE = "NIGHTRANK_CONFIG", "NIGHTRANK_DATE"
_MOST = 1000  # items of a list, as of night.top


class ServedVersion:
    """A version that answers for users, as of the cut-off that opens a day.

    Args:
        inputs: The checked tables, read under `working_config`.
        config: Today's configuration.
        bundle: The version.
        when: The day whose night it answers as; None for the day after the log's latest event.

    Raises:
        ConfigError: The version ranks at request time, or re-ranks given lists and none are configured.
        BlockedError: The version has seen the day's future.
    """

    def __init__(self, inputs: Inputs, config: Config, bundle: Bundle, when: date | None = None) -> None:
        own = working_config(config, bundle)
        self._name = f"bundle {bundle.digest[:12]}"
        refuse_unanswerable(own, self._name)
        self._day = batch_day(when or _day_after(inputs))
        log = inputs.log.before(self._day)
        has_hindsight(log, self._day, self._name, bundle, allowed=False)
        self._config = own.model_copy(update={"night": own.night.model_copy(update={"reasons": 0})})
        self._bundle = bundle
        self._chain = Chain(log, self._config, bundle.model, bundle.features.inventory, cut=bundle.cut)
        self._fallback = Lists(log, self._to(_MOST), self._day, self._name, bundle).fallback(self._chain)
        self._codes = _codes_of(ranked_users(inputs, log), log.user_ids)
        self._one_at_a_time = Lock()  # portions are sized for one computation in memory
        say("serving", version=self._name, date=str(date_of(self._day)), users=self._codes.height)

    def predict(self, model_input: "pd.DataFrame", params: Mapping[str, Any] | None = None) -> "pd.DataFrame":  # noqa: ARG002
        """The lists of some users, one below the other in the order of the rows.

        Args:
            model_input: `user_id`, and perhaps `k`, how long the row's list is; without it, or where it is missing, as
                long as a night's (`night.top`).
            params: Not used; MLflow passes them.

        Returns:
            user_id, rank, item_id, score and fallback: whether it is the list for users whom the night does not
            know, or has no candidates for.

        Raises:
            ContractError: A column is missing, an id is null, or a `k` is not a number from 1 to 1,000.
        """
        import pandas as pd

        asked = self._asked(model_input)
        with self._one_at_a_time:
            lists = self._lists(asked)
        return pd.DataFrame({name: lists[name].to_list() for name in lists.columns})

    def _asked(self, model_input: "pd.DataFrame") -> pl.DataFrame:
        """Number (`row`), user_id, k and the user's code (`user`, null if unknown) of each row."""
        if "user_id" not in model_input.columns:
            raise ContractError("input: there is no column user_id. Send a row a user: user_id, and k if you like.")
        ids = pl.Series("user_id", [_none_if_missing(value) for value in model_input["user_id"].tolist()], strict=False)
        if ids.dtype.is_float():  # as pandas holds whole numbers beside a missing one
            ids = ids.cast(pl.Int64)
        if ids.null_count():
            raise ContractError(f"input: user_id is missing in {ids.null_count()} of {len(ids)} rows. Leave them out.")
        lengths = [self._config.night.top] * len(ids)
        if "k" in model_input.columns:
            lengths = [self._length(value) for value in model_input["k"].tolist()]
        asked = pl.DataFrame({"user_id": ids, "k": lengths}, schema_overrides={"k": pl.Int64}).with_row_index("row")
        text = asked.with_columns(text=pl.col("user_id").cast(pl.String))
        return text.join(self._codes, on="text", how="left", maintain_order="left").drop("text")

    def _length(self, value: Any) -> int:  # noqa: ANN401 - whatever came over HTTP
        if _none_if_missing(value) is None:
            return self._config.night.top
        if isinstance(value, int | float) and value == int(value) and 1 <= value <= _MOST:
            return int(value)
        raise ContractError(f"input: k is {value!r}. It must be a whole number from 1 to {_MOST:,}.")

    def _lists(self, asked: pl.DataFrame) -> pl.DataFrame:
        """The rows of the answer."""
        users = asked["user"].drop_nulls().unique().sort()
        own = asked.clear().join(self._fallback, how="cross")
        if len(users):
            config = self._to(max(asked["k"]))
            ranked = rank_users(self._chain, config, users, self._day, self._name, self._bundle)
            coded = ranked.with_columns(text=pl.col("user_id").cast(pl.String)).join(self._codes, on="text")
            own = asked.join(coded.drop("user_id"), on="user")
        rest = asked.join(own, on="row", how="anti").join(self._fallback, how="cross")
        columns = ("row", "user_id", "k", "rank", "item_id", "score")
        both = pl.concat([own.select(*columns, fallback=False), rest.select(*columns, fallback=True)])
        return both.filter(pl.col("rank") <= pl.col("k")).sort("row", "rank").drop("row", "k")

    def _to(self, length: int) -> Config:
        """The configuration of a night whose lists are so long."""
        return self._config.model_copy(update={"night": self._config.night.model_copy(update={"top": length})})


def _none_if_missing(value: Any) -> Any:  # noqa: ANN401 - whatever came over HTTP
    """A cell of pandas, where NaN says that there is none."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _codes_of(users: pl.Series, user_ids: pl.Series) -> pl.DataFrame:
    """Code (`user`) and id as text (`text`) of some users."""
    return pl.DataFrame({"user": users, "text": user_ids.gather(users).cast(pl.String)})


def _day_after(inputs: Inputs) -> date:
    """The night that knows all of the log."""
    latest = inputs.log.latest_day
    if latest is None:
        raise ContractError("events: the log is empty. Deliver events (data.events.path).")
    return date_of(latest + 1)


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> ServedVersion:
    """What MLflow calls: the version in a folder, over the tables of the configuration file that is named.

    Args:
        path: The bundle's folder.
        model_config: `config`, the configuration file, and `date`, the day; where they are not set, the environment
            variables NIGHTRANK_CONFIG and NIGHTRANK_DATE; else `nightrank.yaml` here, and the day after the log's last.

    Raises:
        ConfigError: There is no such file, or the date is none.
    """
    named = model_config or {}
    file = Path(named.get("config") or os.environ.get(CONFIG_VARIABLE) or "nightrank.yaml")
    day = str(named.get("date") or os.environ.get(DATE_VARIABLE) or "")
    if not file.is_file():
        raise ConfigError(f"there is no configuration file {str(file)!r}. Name it by {CONFIG_VARIABLE}.")
    try:
        when = date.fromisoformat(day) if day else None
    except ValueError as error:
        raise ConfigError(f"{day!r} is no date. Write {DATE_VARIABLE} as YYYY-MM-DD.") from error
    load_plugins()
    config = load_config(file)
    bundle = load_bundle(Path(path))
    own = working_config(config, bundle)
    inputs = read_for(plan_of_version(config, bundle), own, candidates=own.candidates)
    return ServedVersion(inputs, config, bundle, when)
