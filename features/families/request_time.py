"""Clock and context of a request, in online mode alone."""

from features.families.attribute import coded_attribute
from features.log.event_log import EventLog
from features.log.inventory import slugs
from features.signals.family import Columns, Family, Plan, Rows, Values

__all__ = ["RequestContext", "RequestTime"]


class RequestTime(Family):
    """Hour and weekday of the request in the calendar's zone; no columns in batch mode."""

    name = "request_time"
    keys = ("request",)
    columns = {
        "request_hour": "local hour (0 to 23) of the request",
        "request_weekday": "local weekday of the request, 1 is Monday",
    }

    def __init__(self, log: EventLog, plan: Plan) -> None:  # noqa: ARG002 - one signature
        self._zone = log.calendar.config.timezone

    @classmethod
    def columns_of(cls, plan: Plan) -> Columns:
        """See `Family`."""
        return cls.columns if plan.online else {}

    def compute(self, rows: Rows) -> Values:
        """See `Family`."""
        assert rows.request_context is not None  # the framework gives it in online mode
        local = rows.request_context["requested_at"].dt.convert_time_zone(self._zone).dt
        return {"request_hour": local.hour().to_numpy(), "request_weekday": local.weekday().to_numpy()}


class RequestContext(Family):
    """Columns of events that `requests.context` names: numbers as they are, texts as codes; none in batch mode."""

    name = "context"
    keys = ("request",)

    def __init__(self, log: EventLog, plan: Plan) -> None:  # noqa: ARG002 - one signature
        self._columns = _columns(plan)
        self._vocabularies = {name: plan.inventory.vocabularies.get(f"events.{name}") for name in self._columns}

    @classmethod
    def columns_of(cls, plan: Plan) -> Columns:
        """See `Family`."""
        return {
            column: (
                f"{name} of the request, "
                + ("code of its value, 0 unknown" if f"events.{name}" in plan.inventory.vocabularies else "as it is")
            )
            for name, column in _columns(plan).items()
        }

    def compute(self, rows: Rows) -> Values:
        """See `Family`."""
        assert rows.request_context is not None  # the framework gives it in online mode
        return {
            self._columns[name]: coded_attribute(rows.request_context[name], vocabulary)
            for name, vocabulary in self._vocabularies.items()
        }


def _columns(plan: Plan) -> dict[str, str]:
    """The column of each context column of the log that holds anything."""
    named = slugs(plan.requests.context_columns)
    return {name: f"context_{of}" for name, of in named.items() if plan.inventory.has([f"events.{name}"])}
