"""The registry: versions, their aliases, and their bundles. Who is champion is decided in `champion`."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote, urlparse
from uuid import uuid4

from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from features.errors import ConfigError, IntegrityError
from pipelines.base.config import Config
from pipelines.base.outside import written
from pipelines.base.progress import say
from pipelines.registry.bundle_files import damage, install
from pipelines.registry.tracking import Tracking, local_artefacts, tracking_uri
from pipelines.registry.tracking_errors import tracking_errors
from pipelines.stores.storage import alone, apply_umask

__all__ = ["CHALLENGER", "CHAMPION", "PREVIOUS", "Registry", "Version"]

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
_DIGEST_TAG = "bundle_digest"
_FETCH_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version.

    Attributes:
        number: MLflow's version number.
        name: `model/number`, as published rankings carry it.
        run_id: The training's run.
        digest: sha256 of the bundle's manifest.
        aliases: Its aliases when it was read.
        pinned: Whether somebody set its tag `pinned` (to anything but `false`), so that it is kept.
    """

    number: str
    name: str
    run_id: str
    digest: str
    aliases: tuple[str, ...]
    pinned: bool = False


class Registry:
    """Versions of the configured model.

    Args:
        config: Server, model name, and the folder of cached bundles.

    Attributes:
        config: The same.
        model: Name of the model.
        client: Of the server.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.model = config.tracking.model_name
        self.client = Tracking(config).client

    def register(
        self, run_id: str, digest: str, *, description: str = "", tags: Mapping[str, str] = MappingProxyType({})
    ) -> Version:
        """Register a run's bundle as a new version with the alias `challenger`.

        Args:
            run_id: The run.
            digest: sha256 of the bundle's manifest.
            description: What the version is, for people.
            tags: The same for programs.
        """
        with tracking_errors(self.config, "the registry"):
            try:
                self.client.create_registered_model(self.model)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            made = self.client.create_model_version(
                self.model,
                source=f"runs:/{run_id}/bundle",
                run_id=run_id,
                tags={**tags, _DIGEST_TAG: digest},
                description=description or None,
            )
        return self.challenge(str(made.version))

    def challenge(self, number: str) -> Version:
        """Let the alias `challenger` name a version."""
        with tracking_errors(self.config, "the registry"):
            self.client.set_registered_model_alias(self.model, CHALLENGER, number)
        return self.version(number)

    def version(self, wanted: str) -> Version:
        """A version by number, alias, or name (`model/number`).

        Raises:
            ConfigError: There is none, or it is another model's.
        """
        model, _, number = wanted.rpartition("/")
        if model and model != self.model:
            raise ConfigError(
                f"registry: {wanted!r} is a version of another model than tracking.model_name, {self.model!r}. Name "
                f"the number of one of its versions, or the other model: --version {number} --set "
                f"tracking.model_name={model}"
            )
        version = self.find(number)
        if version is None:
            hint = (
                "train one with `nightrank train`" if wanted == CHALLENGER else "promote one with `nightrank promote`"
            )
            if wanted != CHAMPION and self.find(CHAMPION) is not None:
                hint += f", or name another: {CHAMPION!r} is what is live"
            raise ConfigError(f"registry: {self.model!r} has no version {wanted!r}; {hint}.")
        return version

    def find(self, wanted: str) -> Version | None:
        """A version by number or alias, None if there is none."""
        with tracking_errors(self.config, "the registry"):
            try:
                if wanted.isdecimal():
                    return self._of(self.client.get_model_version(self.model, wanted))
                return self._of(self.client.get_model_version_by_alias(self.model, wanted))
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
        with tracking_errors(self.config, "the registry"):
            while True:
                page = self.client.search_model_versions(f"name='{self.model}'", page_token=token)
                versions += [self._of(model_version) for model_version in page]
                token = page.token
                if not token:
                    break
        return sorted(versions, key=lambda version: -int(version.number))

    def _of(self, model_version: ModelVersion) -> Version:
        # NOTE: a version got by number carries all its aliases, one got by alias does not.
        whole = self.client.get_model_version(self.model, str(model_version.version))
        digest = whole.tags.get(_DIGEST_TAG, "")
        return Version(
            str(whole.version),
            f"{self.model}/{whole.version}",
            whole.run_id or "",
            digest,
            tuple(sorted(whole.aliases)),
            whole.tags.get("pinned", "false").lower() != "false",
        )

    def cached_bundle(self, version: Version) -> Path:
        """Where the local copy of a version's bundle lies, if there is one."""
        return Path(self.config.output) / "bundles" / version.digest[:32]

    def bundle_folder(self, version: Version) -> Path:
        """A local, verified copy of a version's bundle; one that is missing or damaged is fetched from its run.

        Of several processes of a machine one fetches, and the others wait for it.

        Raises:
            IntegrityError: Its files are not those that were registered, or its source lies outside the run.
            TryAgainError: It cannot be fetched.
        """
        cached = self.cached_bundle(version)
        if cached.is_dir() and damage(cached, version.digest) is None:
            return cached
        lock = Path(self.config.output) / "jobs" / f"fetch-{cached.name}.lock"
        with alone(lock, seconds=_FETCH_SECONDS, doing=f"fetching the bundle of {version.name}"):
            wrong = damage(cached, version.digest) if cached.is_dir() else ""
            if wrong:
                say("a bundle on this machine was damaged; it is fetched again", version=version.name, damage=wrong)
            if wrong is not None:
                self._fetch(version, cached)
        return cached

    def _fetch(self, version: Version, cached: Path) -> None:
        """Bring a bundle from its run to where its copy lies, which it replaces."""
        with tracking_errors(self.config, "the registry"):
            source = self.client.get_model_version(self.model, version.number).source or ""
        if source != f"runs:/{version.run_id}/bundle" or ".." in unquote(urlparse(source).path).split("/"):
            raise IntegrityError(f"{version.name}: its source is not the bundle of its own run; refused.")
        staging = cached.with_name(f".fetch-{uuid4().hex}")
        with written(staging):
            staging.mkdir(parents=True)
        try:
            with tracking_errors(self.config, f"{version.name}: fetching its bundle"):
                fetched = self._copied(version, source, staging)
            if wrong := damage(fetched, version.digest):
                raise IntegrityError(
                    f"{version.name}: the bundle that its run holds is not the one that was registered. "
                    f"{wrong.replace(str(fetched), str(self.run_bundle(version) or 'there'))}"
                )
            apply_umask(fetched)
            install(fetched, cached)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def run_bundle(self, version: Version) -> Path | None:
        """The bundle among the artefacts of the run, under today's `output`; None where a server keeps them."""
        artefacts = local_artefacts(self.config)
        return None if artefacts is None else artefacts / version.run_id / "artifacts" / "bundle"

    def run_has_bundle(self, version: Version) -> bool:
        """Whether the bundle is among the artefacts of the run; not whether it is whole."""
        if (folder := self.run_bundle(version)) is not None and folder.is_dir():
            return True
        with tracking_errors(self.config, f"{version.name}: listing its artefacts"):
            try:
                present = self.client.list_artifacts(version.run_id, "bundle")
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return False
        return any(artefact.path == "bundle/manifest.json" for artefact in present)

    def _copied(self, version: Version, source: str, staging: Path) -> Path:
        """Copy a run's bundle into a folder.

        NOTE: without a server it lies under today's `output`, whatever path the run recorded.

        Raises:
            IntegrityError: The run does not hold it any more.
        """
        local = self.run_bundle(version)
        if local is not None and local.is_dir():
            return Path(shutil.copytree(local, staging / "bundle", symlinks=True))
        try:
            return Path(
                download_artifacts(artifact_uri=source, dst_path=str(staging), tracking_uri=tracking_uri(self.config))
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise IntegrityError(
                f"{version.name}: its run no longer holds the bundle. Bring back {local or 'its artefacts'} from a "
                "backup, roll back, or train again: nightrank train."
            ) from error
