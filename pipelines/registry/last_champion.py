"""The champion as this output folder last saw it, which ranks the night where the registry cannot say who it is.

A night that learns its champion from the registry keeps name, digest, decision and time in ``jobs/champion.json``.
Where the registry is down, hangs, is damaged or has lost its champion, a later night takes that version from the cache
of bundles, which verifies it, and says that it is degraded. Only a night that could go on without an answer sets the
registry a time limit: one that could not waits as every other command does.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import TypeVar

from features.errors import IntegrityError, NightrankError, TryAgainError
from pipelines.base.config import Config
from pipelines.base.progress import say
from pipelines.registry.bundle import Bundle, load_bundle
from pipelines.registry.champion import Champion
from pipelines.registry.decisions import last_move
from pipelines.registry.registry import CHAMPION, Registry, Version
from pipelines.registry.tracking import tracking_uri
from pipelines.registry.tracking_errors import tracking_errors
from pipelines.registry.tracking_store import is_made, sqlite_file
from pipelines.stores.storage import read_json, write_json

__all__ = ["NightVersion", "champion_again", "champion_tonight", "open_registry"]

_Answer = TypeVar("_Answer")

_FIRST_SECONDS, _AGAIN_SECONDS = 12.0, 6.0
"""How long a night waits for the registry when it begins, and before the pointer moves: there it holds the mutex."""
_REQUEST_SECONDS = 4


@dataclass(frozen=True, slots=True)
class NightVersion:
    """The version that ranks a night.

    Attributes:
        name: `model/number`.
        bundle: The version, verified and loaded.
        degraded: Why the registry could not say that it is the champion; None where it did.
    """

    name: str
    bundle: Bundle
    degraded: str | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """A champion as the registry named it.

    Attributes:
        registry: Of which server and model.
        name: `model/number`.
        digest: sha256 of its bundle's manifest.
        decision: Number of the decision that made it champion; None where there is none.
        at: When, in UTC.
    """

    registry: str
    name: str
    digest: str
    decision: int | None
    at: str


def champion_tonight(config: Config, *, write: bool = True) -> NightVersion:
    """The champion, verified; where the registry does not say who it is, the last one that was seen here.

    Args:
        config: Names the registry and the output folder.
        write: Whether this folder keeps what it saw.

    Raises:
        ConfigError: There is no champion, or the registry cannot be used as configured; and none was seen here.
        TryAgainError: The registry does not answer, and no champion was seen here whose bundle is sound.
        IntegrityError: The champion's bundle is not as it was registered.
    """
    seen = _seen(config)
    try:
        registry, champion, decision = _asked(config, seconds=None if seen is None else _FIRST_SECONDS, retries=1)
        version = champion or registry.version(CHAMPION)  # which says what to do
    except NightrankError as error:
        if seen is None:
            raise
        return _standing_in(config, seen, error)
    bundle = load_bundle(registry.bundle_folder(version))
    if write:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        _keep(config, _Seen(_registry_of(config), version.name, version.digest, decision, now))
    return NightVersion(version.name, bundle)


def champion_again(config: Config, version: str) -> tuple[str | None, str | None]:
    """Who is champion now, asked in the moment before the pointer moves.

    Args:
        config: Names the registry and the output folder.
        version: Name of the version whose lists are to go live.

    Returns:
        The champion's name, None if there is none; and why the registry did not say it, if this version may go live
        all the same because it is the last one that was seen here.

    Raises:
        NightrankError: The registry does not answer, and this version is not what was seen here.
    """
    seen = _seen(config)
    stands_in = seen is not None and seen.name == version
    try:
        _, champion, _ = _asked(config, seconds=_AGAIN_SECONDS if stands_in else None, retries=0)
    except NightrankError as error:
        if not stands_in:
            raise
        return version, str(error)
    if champion is None and stands_in:
        return version, f"the registry names no champion any more, and {version} was it."
    return None if champion is None else champion.name, None


def open_registry(config: Config) -> Registry:
    """The registry; its database under `output` is not made anew where a champion was seen by one that is gone.

    Raises:
        IntegrityError: That database is missing.
        NightrankError: As `Registry` raises it.
    """
    file = sqlite_file(tracking_uri(config))
    if file is not None and _seen(config) is not None:
        with tracking_errors(config, "the registry"):
            made = is_made(file)
        if not made:
            raise IntegrityError(f"the registry: {file} is missing or empty. Bring it back from a backup.")
    return Registry(config)


def _asked(config: Config, *, seconds: float | None, retries: int) -> tuple[Registry, Version | None, int | None]:
    """The registry, its champion, and the number of the decision that made it so."""

    def ask() -> tuple[Registry, Version | None, int | None]:
        registry = open_registry(config)
        return registry, registry.find(CHAMPION), _decision(registry)

    if seconds is None:
        return ask()
    with _patience(retries):
        return _within(seconds, ask)


def _decision(registry: Registry) -> int | None:
    """Number of the decision that the champion stands by; None where there is none, or it cannot be read."""
    try:
        move = last_move(Champion(registry).decisions.read())
    except IntegrityError:
        return None
    return None if move is None else move.number


def _within(seconds: float, ask: Callable[[], _Answer]) -> _Answer:
    """What a function returns, if it does so in time.

    NOTE: a thread, since a database's driver may wait for ever in a call that takes no limit; whoever does not come
    back is left behind, and ends with the process.

    Raises:
        TryAgainError: It does not.
    """
    answer: Future[_Answer] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # noqa: BLE001 - raised again below
            answer.set_exception(error)

    Thread(target=run, daemon=True, name="nightrank-registry").start()
    try:
        return answer.result(timeout=seconds)
    except TimeoutError as error:
        raise TryAgainError(
            f"the registry did not answer within {seconds:.0f} s. Check tracking.uri, then run it again."
        ) from error


@contextmanager
def _patience(retries: int) -> Iterator[None]:
    """Context in which MLflow waits seconds for a server, where it would wait longer."""
    limits = {"MLFLOW_HTTP_REQUEST_TIMEOUT": _REQUEST_SECONDS, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": retries}
    before = {name: os.environ[name] for name in limits}
    os.environ.update({name: str(min(int(float(before[name])), most)) for name, most in limits.items()})
    try:
        yield
    finally:
        os.environ.update(before)


def _standing_in(config: Config, seen: _Seen, error: NightrankError) -> NightVersion:
    """The last champion that was seen here, from the cache.

    Raises:
        NightrankError: The registry's error, if its bundle is not there or not sound.
    """
    folder = Path(config.output) / "bundles" / seen.digest[:32]
    try:
        bundle = load_bundle(folder)
    except NightrankError as damage:
        raise type(error)(f"{error} Nor can {seen.name} stand in, which was champion at {seen.at}: {damage}") from error
    if bundle.digest != seen.digest:
        raise type(error)(f"{error} Nor can {seen.name} stand in, since {folder} is not its bundle.") from error
    by = "" if seen.decision is None else f" by decision {seen.decision}"
    why = f"{seen.name} was champion{by} when the registry last answered, at {seen.at}. {error}"
    say("degraded", version=seen.name, because=why)
    return NightVersion(seen.name, bundle, why)


def _path(config: Config) -> Path:
    return Path(config.output) / "jobs" / "champion.json"


def _registry_of(config: Config) -> str:
    """Which server and model a champion is of; a database's folders may move."""
    return f"{config.tracking.portable_uri or ''}#{config.tracking.model_name}"


def _keep(config: Config, seen: _Seen) -> None:
    body = asdict(seen)
    write_json({"body": body, "sha256": _digest(body)}, _path(config))


def _seen(config: Config) -> _Seen | None:
    """The last champion of the configured registry that was seen here; None where there is none, or it is damaged."""
    path = _path(config)
    if not path.is_file():
        return None
    try:
        record = read_json(path, what="the last champion")
        seen = _Seen(**record["body"]) if record["sha256"] == _digest(record["body"]) else None
    except (IntegrityError, TypeError, KeyError):
        seen = None
    if seen is None:
        say("the record of the last champion is damaged, and left out", file=str(path))
    return seen if seen is not None and seen.registry == _registry_of(config) else None


def _digest(body: object) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
