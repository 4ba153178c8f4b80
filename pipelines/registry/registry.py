"""The registry: versions, the champion, and the journal of promotions and rollbacks."""

import fcntl
import getpass
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlparse
from uuid import uuid4

from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from features.errors import BlockedError, ConfigError, IntegrityError, TryAgainError
from pipelines.base.config import Config
from pipelines.base.outside import written
from pipelines.registry.bundle import verify_files
from pipelines.registry.tracking import Tracking, local_artefacts, tracking_uri
from pipelines.registry.tracking_errors import tracking_errors
from pipelines.stores.storage import apply_umask, sha256_of

__all__ = ["CHALLENGER", "CHAMPION", "PREVIOUS", "Registry", "Version"]

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
_DIGEST_TAG = "bundle_digest"


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version.

    Attributes:
        number: MLflow's version number.
        name: `model/number`, as published rankings carry it.
        run_id: The training's run.
        digest: sha256 of the bundle's manifest.
        aliases: Its aliases when it was read.
    """

    number: str
    name: str
    run_id: str
    digest: str
    aliases: tuple[str, ...]


class Registry:
    """Versions of the configured model.

    Args:
        config: Server, model name, and the folder of locks, caches and the journal.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._model = config.tracking.model_name
        self._client = Tracking(config).client
        self._folder = Path(config.output) / "registry"

    def register(self, run_id: str, digest: str) -> Version:
        """Register a run's bundle as a new version with the alias `challenger`."""
        with tracking_errors(self._config, "the registry"):
            try:
                self._client.create_registered_model(self._model)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            made = self._client.create_model_version(
                self._model, source=f"runs:/{run_id}/bundle", run_id=run_id, tags={_DIGEST_TAG: digest}
            )
            self._client.set_registered_model_alias(self._model, CHALLENGER, str(made.version))
        return self.version(str(made.version))

    def version(self, wanted: str) -> Version:
        """A version by number or alias.

        Raises:
            ConfigError: There is none.
        """
        version = self.find(wanted)
        if version is None:
            hint = (
                "train one with `nightrank train`" if wanted == CHALLENGER else "promote one with `nightrank promote`"
            )
            if wanted != CHAMPION and self.find(CHAMPION) is not None:
                hint += f", or name another: {CHAMPION!r} is what is live"
            raise ConfigError(f"registry: {self._model!r} has no version {wanted!r}; {hint}.")
        return version

    def find(self, wanted: str) -> Version | None:
        """A version by number or alias, None if there is none."""
        with tracking_errors(self._config, "the registry"):
            try:
                if wanted.isdecimal():
                    return self._of(self._client.get_model_version(self._model, wanted))
                return self._of(self._client.get_model_version_by_alias(self._model, wanted))
            except MlflowException as error:
                if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                    raise
        return None

    def versions(self) -> list[Version]:
        """All versions, the latest first.

        Raises:
            TryAgainError: The registry does not answer.
        """
        versions: list[Version] = []
        token: str | None = None
        with tracking_errors(self._config, "the registry"):
            while True:
                page = self._client.search_model_versions(f"name='{self._model}'", page_token=token)
                versions += [self._of(model_version) for model_version in page]
                token = page.token
                if not token:
                    break
        return sorted(versions, key=lambda version: -int(version.number))

    def _of(self, model_version: ModelVersion) -> Version:
        # NOTE: a version got by number carries all its aliases, one got by alias does not.
        whole = self._client.get_model_version(self._model, str(model_version.version))
        digest = whole.tags.get(_DIGEST_TAG, "")
        return Version(
            str(whole.version),
            f"{self._model}/{whole.version}",
            whole.run_id or "",
            digest,
            tuple(sorted(whole.aliases)),
        )

    def bundle_folder(self, version: Version) -> Path:
        """A local, verified copy of a version's bundle.

        Raises:
            IntegrityError: Its files are not those that were registered, or its source lies outside the run.
            TryAgainError: It cannot be fetched.
        """
        cached = Path(self._config.output) / "bundles" / version.digest[:32]
        if not cached.is_dir():
            self._fetch(version, cached)
        verify_files(cached)
        if sha256_of(cached / "manifest.json") != version.digest:
            raise IntegrityError(f"{cached}: not the bundle that {version.name} was registered with.")
        return cached

    def _fetch(self, version: Version, cached: Path) -> None:
        """Fetch a bundle from its run; concurrent fetches bring the same files."""
        with tracking_errors(self._config, "the registry"):
            source = self._client.get_model_version(self._model, version.number).source or ""
        if source != f"runs:/{version.run_id}/bundle" or ".." in unquote(urlparse(source).path).split("/"):
            raise IntegrityError(f"{version.name}: its source is not the bundle of its own run; refused.")
        staging = cached.with_name(f".fetch-{uuid4().hex}")
        with written(staging):
            staging.mkdir(parents=True)
        try:
            with tracking_errors(self._config, f"{version.name}: fetching its bundle"):
                fetched = self._copied(version, source, staging)
            apply_umask(fetched)
            with written(cached):
                if not cached.is_dir():
                    fetched.rename(cached)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _copied(self, version: Version, source: str, staging: Path) -> Path:
        """Copy a run's bundle into a folder.

        NOTE: without a server it lies under today's `output`, whatever path the run recorded.

        Raises:
            IntegrityError: The run does not hold it any more.
        """
        artefacts = local_artefacts(self._config)
        local = None if artefacts is None else artefacts / version.run_id / "artifacts" / "bundle"
        if local is not None and local.is_dir():
            return Path(shutil.copytree(local, staging / "bundle", symlinks=True))
        try:
            return Path(
                download_artifacts(artifact_uri=source, dst_path=str(staging), tracking_uri=tracking_uri(self._config))
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise IntegrityError(
                f"{version.name}: its run no longer holds the bundle. Bring back {local or 'its artefacts'} from a "
                "backup, roll back, or train again."
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Context for one promoter at a time.

        Raises:
            TryAgainError: Another one holds the lock.
        """
        path = self._folder / "lock"
        with written(path):
            self._folder.mkdir(parents=True, exist_ok=True)
            opened = path.open("w")
        with opened as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise TryAgainError(
                    "another promotion holds the registry's lock. Run it again when it is done."
                ) from error
            yield

    def make_champion(self, version: Version, *, why: dict[str, Any], action: str) -> Version | None:
        """Set the alias, read it back, and write the journal. Call it `locked`.

        Returns:
            The champion before.

        Raises:
            TryAgainError: Someone who does not share the lock moved the alias meanwhile.
        """
        before = self.find(CHAMPION)
        with self._journal() as journal:
            with tracking_errors(self._config, "the registry"):
                if before is not None:
                    self._client.set_registered_model_alias(self._model, PREVIOUS, before.number)
                self._client.set_registered_model_alias(self._model, CHAMPION, version.number)
                challenger = self.find(CHALLENGER)
                if challenger is not None and challenger.number == version.number:
                    self._client.delete_registered_model_alias(self._model, CHALLENGER)
            if self.version(CHAMPION).number != version.number:
                raise TryAgainError(
                    "the alias `champion` was moved by someone else at the same time. Look at `history`."
                )
            journal.write(_entry(action, before, version, why))
        return before

    def journal_refusal(self, version: Version, why: dict[str, Any]) -> None:
        """Write a refused promotion to the journal."""
        before = self.find(CHAMPION)
        with self._journal() as journal:
            journal.write(_entry("refused", before, version, why))

    @contextmanager
    def _journal(self) -> Iterator[IO[str]]:
        """The journal, open for one entry: it is opened before the change that the entry records.

        Raises:
            TryAgainError: It cannot be written.
        """
        path = self._folder / "journal.jsonl"
        with written(path):
            self._folder.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())

    def history(self) -> list[dict[str, Any]]:
        """The journal, oldest first."""
        path = self._folder / "journal.jsonl"
        try:
            text = path.read_text(encoding="utf-8")
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise TryAgainError(f"{path} cannot be read ({error.strerror}). See to its permissions.") from error
        except ValueError as error:
            raise IntegrityError(f"{path} holds lines that are no entries of a journal. Bring it back.") from error

    def rollback(self) -> tuple[Version, Version]:
        """Make the previous champion champion again. Call it `locked`.

        Returns:
            The champion before and the champion now.

        Raises:
            BlockedError: There is no previous one.
        """
        now, previous = self.version(CHAMPION), self.find(PREVIOUS)
        if previous is None or previous.number == now.number:
            raise BlockedError(f"nothing to roll back to: {now.name} has no champion before it.")
        self.bundle_folder(previous)
        self.make_champion(previous, why={"rollback of": now.name}, action="rollback")
        return now, previous


def _entry(action: str, before: Version | None, after: Version, why: dict[str, Any]) -> str:
    """A line of the journal."""
    entry = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": _account(),
        "action": action,
        "from": before.name if before else None,
        "to": after.name,
        "why": why,
    }
    return json.dumps(entry, sort_keys=True) + "\n"


def _account() -> str:
    """The account's name; its number where it has none, as in a container with a user of its own."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
