"""Decisions about the champion: who moved it, when, from what to what and why, in numbered order, for every machine.

A decision is kept in the model registry itself, as a registered model of its own called `~MODEL.decision-000012`, which
no model of nightrank can be called and which lists sort behind all models. It is written before any alias moves.

What makes a decision exclusive is this name. MLflow has no compare-and-set of aliases, but it creates a registered
model in one transaction and refuses a name that is there (`RESOURCE_ALREADY_EXISTS`), by the primary key of the table
in SQLite and PostgreSQL, whether they are opened directly or by a server over HTTP. So of all who want to be number 12
one succeeds. A server's answer may get lost and the request be repeated: what counts is the token that is read back.
"""

import getpass
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import uuid4

from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

from features.errors import IntegrityError, TryAgainError
from pipelines.base.config import Config
from pipelines.base.outside import without_credentials
from pipelines.registry.tracking_errors import tracking_errors

__all__ = [
    "Action",
    "Decision",
    "Decisions",
    "State",
    "account",
    "last_move",
    "missing_numbers",
    "named_models",
    "now",
    "read_journal",
]

_INTENT, _STATE, _NOTE, _TOKEN = "nightrank.intent", "nightrank.state", "nightrank.note", "nightrank.token"
_TAG_LENGTH = 4000  # MLflow's SQL stores keep 5,000 characters of a tag
_PAGE = 500


class Action(StrEnum):
    """What a decision does; all but a refusal move the champion."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"
    ADOPT = "adopt"
    REFUSED = "refused"


class State(StrEnum):
    """How far a decision was carried out."""

    INTENDED = "intended"
    DONE = "done"
    WITHDRAWN = "withdrawn"


def account() -> str:
    """The account's name; its number where it has none, as in a container with a user of its own."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision about the champion.

    Attributes:
        action: What it does.
        before: Number of the version that was champion; None if there was none.
        after: Number of the version that becomes champion, or was refused.
        reason: Whose words whoever decided gave; may be empty.
        figures: What was measured, by gate.
        policy: The configured policy that was applied.
        by: The account that decided.
        at: When, in UTC.
        number: Its place in the order of all decisions; 0 before it is written.
        state: How far it was carried out.
        note: Why it was withdrawn.
        token: What tells this decision from another that was to get the same number.
    """

    action: Action
    before: str | None
    after: str
    reason: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)
    by: str = field(default_factory=account)
    at: str = field(default_factory=now)
    number: int = 0
    state: State = State.INTENDED
    note: str = ""
    token: str = field(default_factory=lambda: uuid4().hex)

    @property
    def moves(self) -> bool:
        """Whether the champion is what this decision says, unless a later one says otherwise."""
        return self.action is not Action.REFUSED and self.state is not State.WITHDRAWN

    def as_json(self, model: str) -> dict[str, Any]:
        """The decision with versions as `model/number`, as `nightrank history` reports it."""
        return {
            "number": self.number,
            "at": self.at,
            "by": self.by,
            "action": str(self.action),
            "from": None if self.before is None else f"{model}/{self.before}",
            "to": f"{model}/{self.after}",
            "reason": self.reason,
            "why": dict(self.figures),
            "policy": dict(self.policy),
            "state": str(self.state),
            "note": self.note,
        }

    def words(self, model: str) -> str:
        """The decision in one line."""
        before = "nothing" if self.before is None else f"{model}/{self.before}"
        return f"{self.action} {before} -> {model}/{self.after} by {self.by} at {self.at}"


def last_move(decisions: Sequence[Decision]) -> Decision | None:
    """The decision that says what is champion: the last one that moved it and was not withdrawn."""
    return next((decision for decision in reversed(decisions) if decision.moves), None)


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """The entries of the file that kept the history before decisions did, oldest first; none where there is no file.

    Raises:
        IntegrityError: The file holds something else.
        TryAgainError: It cannot be read.
    """
    path = folder / "journal.jsonl"
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise TryAgainError(f"{path} cannot be read ({error.strerror}). See to its permissions.") from error
    except ValueError as error:
        raise IntegrityError(f"{path} holds lines that are no entries of a journal. Bring it back.") from error


def named_models(client: MlflowClient, prefix: str) -> Iterator[RegisteredModel]:
    """Registered models whose name begins so, by name; an underscore stands for any character."""
    token: str | None = None
    while True:
        page = client.search_registered_models(
            f"name LIKE '{prefix}%'", max_results=_PAGE, order_by=["name ASC"], page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def missing_numbers(decisions: Sequence[Decision]) -> list[int]:
    """Numbers between 1 and the last that no decision has: somebody deleted them in MLflow."""
    present = {decision.number for decision in decisions}
    return [number for number in range(1, max(present, default=0)) if number not in present]


class Decisions:
    """The decisions of a registry, read and written.

    Args:
        config: Names the model and the server.
        client: Of the server.
    """

    def __init__(self, config: Config, client: MlflowClient) -> None:
        self._config = config
        self._client = client
        self._model = config.tracking.model_name
        self._prefix = f"~{self._model}.decision-"
        self._numbered = re.compile(re.escape(self._prefix) + r"(\d{6,})")

    def read(self) -> list[Decision]:
        """All decisions in their order.

        Raises:
            IntegrityError: One was altered so that it cannot be read.
            TryAgainError: The registry does not answer.
        """
        models: dict[int, RegisteredModel] = {}
        with tracking_errors(self._config, "the registry"):
            for model in named_models(self._client, self._prefix):
                if match := self._numbered.fullmatch(model.name):  # a `_` in a model's name is a wildcard of LIKE
                    models[int(match[1])] = model
        return [_parsed(number, models[number]) for number in sorted(models)]

    def name(self, number: int) -> str:
        """The registered model that keeps a decision."""
        return f"{self._prefix}{number:06}"

    def create(self, decision: Decision, number: int) -> Decision | None:
        """Write a decision under a number; None if that is another decision's.

        Raises:
            TryAgainError: The registry does not answer: it may have been written, and whoever comes next completes it.
        """
        numbered = replace(decision, number=number)
        name = self.name(number)
        with tracking_errors(self._config, "the registry"):
            try:
                self._client.create_registered_model(
                    name, tags=_tags(numbered), description=f"nightrank: {numbered.words(self._model)}"
                )
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            # NOTE: a repeated request is refused because of its own first try; the token that is there decides.
            kept = self._client.get_registered_model(name)
        return numbered if kept.tags.get(_TOKEN) == numbered.token else None

    def mark(self, decision: Decision, state: State, note: str = "") -> None:
        """Write how far a decision was carried out; one that was withdrawn stays so."""
        name = self.name(decision.number)
        with tracking_errors(self._config, "the registry"):
            if self._client.get_registered_model(name).tags.get(_STATE) == State.WITHDRAWN:
                return
            if note:
                self._client.set_registered_model_tag(name, _NOTE, note[:_TAG_LENGTH])
            self._client.set_registered_model_tag(name, _STATE, str(state))

    def append(self, decision: Decision, *, since: int) -> Decision:
        """Write a decision under the next number, if the champion was not moved since another one.

        Args:
            decision: What is decided.
            since: Number of the last decision that moved the champion when this one was judged; 0 if there was none.

        Raises:
            TryAgainError: Somebody else decided meanwhile: nothing is written.
        """
        while True:
            present = self.read()
            last = last_move(present)
            if last is not None and last.number > since and decision.action is not Action.REFUSED:
                raise TryAgainError(
                    f"somebody else decided meanwhile: decision {last.number}, {last.words(self._model)}. Nothing was "
                    "moved by this command; look at `nightrank history`, then run it again."
                )
            written = self.create(decision, present[-1].number + 1 if present else 1)
            if written is not None:
                return written


def _tags(decision: Decision) -> dict[str, str]:
    """A decision as tags; the intent is cut into as many as the store asks for."""
    intent = {
        "action": str(decision.action),
        "from": decision.before,
        "to": decision.after,
        "by": decision.by,
        "at": decision.at,
        "reason": without_credentials(decision.reason),
        "figures": dict(decision.figures),
        "policy": dict(decision.policy),
    }
    text = json.dumps(intent, sort_keys=True)
    parts = [text[start : start + _TAG_LENGTH] for start in range(0, len(text), _TAG_LENGTH)]
    tags = {f"{_INTENT}.{part:03}": words for part, words in enumerate(parts)}
    return tags | {_STATE: str(decision.state), _TOKEN: decision.token}


def _parsed(number: int, model: RegisteredModel) -> Decision:
    """A decision from its registered model.

    Raises:
        IntegrityError: Its tags are not those that it was written with.
    """
    tags = model.tags
    try:
        intent = json.loads("".join(tags[key] for key in sorted(tags) if key.startswith(f"{_INTENT}.")))
        return Decision(
            action=Action(intent["action"]),
            before=intent["from"],
            after=intent["to"],
            reason=intent["reason"],
            figures=intent["figures"],
            policy=intent["policy"],
            by=intent["by"],
            at=intent["at"],
            number=number,
            state=State(tags[_STATE]),
            note=tags.get(_NOTE, ""),
            token=tags.get(_TOKEN, ""),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(
            f"the registered model {model.name!r} is a decision whose tags were altered in MLflow, so that it cannot "
            "be read. Bring the database back from a backup, or delete that registered model in MLflow, which takes "
            "the decision out of the history."
        ) from error
