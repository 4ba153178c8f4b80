"""Approvals: who says that a version's bundle may go live. `promotion.min_approvals` asks for them.

An approval is of a bundle, by its digest, so that it says nothing of another one under the same number. It is kept in
the model registry like a decision: as a registered model of its own, called `~MODEL.approval-DIGEST-AUTHOR` by the
digest's beginning and a hash of the author's name, so that the store refuses the same author a second time.
"""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

from features.errors import ConfigError
from pipelines.base.outside import printable, without_credentials
from pipelines.registry.decisions import account, named_models, now
from pipelines.registry.registry import Registry, Version
from pipelines.registry.tracking_errors import tracking_errors

__all__ = ["APPROVE", "Approval", "Approvals", "tags_of"]

APPROVE = "approve"
"""What an approval is called in the history."""
_PREFIX = "nightrank."
_MOST = 1000  # characters of a name or a reason


@dataclass(frozen=True, slots=True)
class Approval:
    """That somebody approved a bundle.

    Attributes:
        version: Number of the version that was named.
        digest: sha256 of the manifest of its bundle.
        author: Who approved, by the name that was given.
        reason: In the author's words; may be empty.
        by: The account that ran the command.
        at: When, in UTC.
    """

    version: str
    digest: str
    author: str
    reason: str = ""
    by: str = field(default_factory=account)
    at: str = field(default_factory=now)

    def as_json(self, model: str) -> dict[str, Any]:
        """The approval as an entry of the history."""
        return {
            "at": self.at,
            "by": self.by,
            "action": APPROVE,
            "from": None,
            "to": f"{model}/{self.version}",
            "author": self.author,
            "digest": self.digest,
            "reason": self.reason,
            "why": {},
        }


class Approvals:
    """The approvals of a model's bundles, read and written.

    Args:
        registry: Versions and their bundles.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._prefix = f"~{registry.model}.approval-"

    def read(self, digest: str = "") -> list[Approval]:
        """All approvals, or those of one bundle, oldest first.

        Raises:
            TryAgainError: The registry does not answer.
        """
        with tracking_errors(self._registry.config, "the registry"):
            models = list(named_models(self._registry.client, self._prefix + digest[:32]))
        whole = re.compile(re.escape(self._prefix) + r"[0-9a-f]{32}-[0-9a-f]{16}")
        approvals = [_parsed(model) for model in models if whole.fullmatch(model.name)]
        fitting = [each for each in approvals if each is not None and each.digest.startswith(digest)]
        return sorted(fitting, key=lambda each: (each.at, each.author))

    def approve(self, version: Version, author: str, *, reason: str = "") -> Approval:
        """Keep that somebody approves a version's bundle.

        Args:
            version: The version; its bundle is verified first.
            author: Who approves: any name, the same in any case and spacing.
            reason: In the author's words.

        Raises:
            ConfigError: The name is empty, or has approved this bundle already.
            IntegrityError: The bundle is not as it was registered.
            TryAgainError: The registry does not answer.
        """
        name = printable(" ".join(author.split()))
        if not name:
            raise ConfigError(
                "an approval by nobody: --as is empty. Say who approves: nightrank approve --version "
                f"{version.number} --as NAME"
            )
        self._registry.bundle_folder(version)
        approval = Approval(version.number, version.digest, name[:_MOST], without_credentials(reason)[:_MOST])
        key = f"{self._prefix}{version.digest[:32]}-{hashlib.sha256(name.casefold().encode()).hexdigest()[:16]}"
        with tracking_errors(self._registry.config, "the registry"):
            try:
                self._registry.client.create_registered_model(key, tags=_tags(approval))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                raise ConfigError(
                    f"{name} has approved this bundle of {version.name} already; one person counts once. `nightrank "
                    "history` shows when."
                ) from error
        return approval


def tags_of(registry: Registry, version: Version) -> dict[str, str]:
    """The tags of a version in MLflow.

    Raises:
        TryAgainError: The registry does not answer.
    """
    with tracking_errors(registry.config, "the registry"):
        return dict(registry.client.get_model_version(registry.model, version.number).tags)


def _tags(approval: Approval) -> dict[str, str]:
    fields = ("version", "digest", "author", "reason", "by", "at")
    return {f"{_PREFIX}{name}": getattr(approval, name) for name in fields}


def _parsed(model: RegisteredModel) -> Approval | None:
    """An approval from its registered model; None where somebody took its tags away, so that it approves nothing."""
    tags = {name.removeprefix(_PREFIX): value for name, value in model.tags.items() if name.startswith(_PREFIX)}
    try:
        return Approval(**tags)
    except TypeError:
        return None
