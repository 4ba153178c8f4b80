"""Logged requests: each list that the log says was shown is a ranking request, with its own labels and positions."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from features.config import LabelsConfig
from features.errors import ContractError, listed, require_columns
from features.log.event_log import EventLog
from features.log.label_events import REQUEST_ID
from features.requests.engaged import NUMBERED, graded, with_newness
from features.tables.frames import CandidateRows, LoggedLists, Requests

__all__ = ["LoggedRequests"]


@dataclass(frozen=True, slots=True)
class LoggedRequests:
    """Each `request_id` of the events that were shown is a request.

    Attributes:
        log: The event log.
        labels: Gains' horizon.
        requests: `LoggedLists` without their number, by (as_of_day, user, requested_at, request_id). A request is of
            the batch day of requested_at; query is the latest of its events that has one; the context columns are each
            the first of its shown events that is not null.
        without_id: Shown events that carry no request_id; they are in no request.
        of_many_users: Shown events whose request_id more than one user has; they are in no request.
    """

    log: EventLog
    labels: LabelsConfig
    requests: pl.DataFrame
    without_id: int
    of_many_users: int

    @classmethod
    def of(
        cls,
        log: EventLog,
        labels: LabelsConfig,
        *,
        shown: Sequence[str],
        context: Sequence[str] = (),
        max_faulty_share: float = 0.0,
    ) -> "LoggedRequests":
        """Find the requests of a log.

        Shown events without a request_id, and those whose request_id is used by several users, are left out like rows
        that break a contract: up to a share. They stay events, for features and for labels.

        Args:
            log: The event log, with request_id and position.
            labels: Gains' horizon.
            shown: Event types that say that the item was shown.
            context: Columns of events that describe a request.
            max_faulty_share: Largest share (0-1) of the shown events that may be left out.

        Raises:
            ConfigError: A context column is not there.
            ContractError: Nothing was shown, or more was left out than may be; with counts.
        """
        raw = log.raw
        require_columns(context, () if raw is None else raw.further, key="requests.context", table="events")
        if raw is None or REQUEST_ID not in raw.further:
            raise ContractError(
                "events: read without request_id, by which logged requests are told apart. Set requests.source: logged "
                "in the configuration that reads them."
            )
        kinds = pl.col("kind").is_in(list(shown))
        n_shown = sum(frame.height for frame in raw.frames("kind", where=kinds))
        _refuse_unshown(log, n_shown, shown)
        named = raw.holding(REQUEST_ID, "position", *raw.further)
        users = named.group_by("request_id").agg(pl.col("user").n_unique())
        shared = users.filter(pl.col("user") > 1)
        good = named.join(shared, on="request_id", how="anti", maintain_order="left")
        n_named = named.filter(kinds).height
        seen = good.filter(kinds)
        without_id, of_many_users = n_shown - n_named, n_named - seen.height
        if without_id + of_many_users > max_faulty_share * n_shown or not seen.height:
            raise ContractError(
                f"events: of {n_shown} rows that were shown, {without_id} have no request_id and {of_many_users} "
                f"belong to the {shared.height} request_ids that more than one user has. That is above "
                f"data.quarantine.max_share ({max_faulty_share:g}). Give each shown list a request_id of its own (map "
                "its column under data.events.columns), or raise that share: such rows are then in no request."
            )
        return cls(log, labels, _requests(good, seen, context), without_id, of_many_users)

    def between(self, first_day: int, end_day: int) -> pl.DataFrame:
        """Requests of the batch days ``first_day <= day < end_day``.

        Returns:
            `LoggedLists` in the order of `requests`.
        """
        within = self.requests.filter(pl.col("as_of_day").is_between(first_day, end_day, closed="left"))
        first = Requests.column_names()
        return within.with_columns(NUMBERED).select(*first, pl.exclude(first))

    def truth(self, requests: pl.DataFrame) -> pl.DataFrame:
        """The positives of requests: the highest gain of each shown item that the user engaged with.

        An engagement counts for the request whose request_id it carries. One that carries none counts for every request
        that had shown the user the item, from requested_at on. Both only until the horizon closes: on the days
        ``as_of_day <= day < as_of_day + labels.horizon_days``.

        Args:
            requests: As `between` makes them.

        Returns:
            `Truth`; with `labels.value_gain` `ValuedTruth`.
        """
        lists = requests.select(*Requests.column_names(), "request_id", "requested_at", item="shown")
        carried = pl.col("request_id").alias("carried")
        closes = pl.col("as_of_day") + self.labels.horizon_days
        days = requests["as_of_day"]
        first, last = (0, -1) if days.is_empty() else (days.min(), days.max())
        engaged = self.log.label_events.between(first, last + self.labels.horizon_days)  # type: ignore[arg-type, operator]
        engaged = engaged.select("user", "item", "gain", "label_day", "timestamp", "value", carried)
        later = pl.col("carried").is_null() & (pl.col("timestamp") >= pl.col("requested_at"))
        followed = (
            lists.explode("item")
            .join(engaged, on=["user", "item"])
            .filter(pl.col("label_day").is_between(pl.col("as_of_day"), closes, closed="left"))
            .filter((pl.col("carried") == pl.col("request_id")).fill_null(value=False) | later)
        )
        positives = followed.group_by(CandidateRows.column_names()).agg(**graded(self.labels))
        return with_newness(positives, self.log)


def _refuse_unshown(log: EventLog, n_shown: int, shown: Sequence[str]) -> None:
    if not n_shown:
        n_rows = sum(log.event_counts.values())
        raise ContractError(
            f"events: none of the {n_rows} rows has an event type that says that an item was shown "
            f"(features.roles.shown: {listed(shown)}), so there is no logged request. Name the types there, or set "
            "requests.source: engaged_days."
        )


def _requests(events: pl.DataFrame, seen: pl.DataFrame, context: Sequence[str]) -> pl.DataFrame:
    """One row a request_id of the events that were shown.

    Args:
        events: All events that carry a request_id.
        seen: Those of them that were shown.
        context: Columns of events that describe a request.
    """
    heads = seen.sort("timestamp", *context).group_by("request_id", maintain_order=True)
    requests = heads.agg(
        pl.col("user").first(),
        as_of_day=pl.col("label_day").first(),
        requested_at=pl.col("timestamp").first(),
        **{name: pl.col(name).drop_nulls().first() for name in context},
    )
    if "query" in events.columns:
        searched = events.drop_nulls("query").sort("timestamp", "query").group_by("request_id", maintain_order=True)
        queries = searched.agg(pl.col("query").last())
    else:
        queries = requests.select("request_id", query=pl.lit(None, LoggedLists.query.dtype)).head(0)
    positions = seen.group_by("request_id", "item").agg(pl.col("position").min()).sort("request_id", "item")
    lists = positions.group_by("request_id", maintain_order=True).agg(shown="item", positions="position")
    return (
        requests.join(queries, on="request_id", how="left")
        .join(lists, on="request_id")
        .sort("as_of_day", "user", "requested_at", "request_id")
        .select("request_id", "user", "as_of_day", "requested_at", "query", *context, "shown", "positions")
    )
