"""The source of requests and labels that a configuration chooses."""

from typing import Any

from features.log.event_log import EventLog
from features.requests.engaged import EngagedDays, RequestSource
from features.requests.logged import LoggedRequests
from pipelines.base.config import Config

__all__ = ["request_source", "requests_summary"]


def request_source(log: EventLog, config: Config) -> RequestSource:
    """Where requests and their labels come from, by `requests.source`.

    Raises:
        ConfigError: A context column is not there.
        ContractError: Logged requests, and too many shown events are in none; see `LoggedRequests.of`.
    """
    if config.requests.source == "engaged_days":
        return EngagedDays(log, config.labels)
    return LoggedRequests.of(
        log,
        config.labels,
        shown=config.features.roles.shown,
        context=config.requests.context_columns,
        max_faulty_share=config.data.quarantine.max_share,
    )


def requests_summary(source: RequestSource) -> dict[str, Any]:
    """What `nightrank check` reports of logged requests, as plain values; empty where requests are engaged days."""
    if not isinstance(source, LoggedRequests):
        return {}
    requests = source.requests
    return {
        "requests": {
            "requests": requests.height,
            "users": requests["user"].n_unique(),
            "shown": int(requests["shown"].list.len().sum()),
            "with_query": requests["query"].count(),
            "without_id": source.without_id,
            "of_many_users": source.of_many_users,
        }
    }
