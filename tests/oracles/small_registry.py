"""A registry whose versions hold no model, the check that its history is one, and a process that decides in it.

As a program it is one of several promoters: ``python small_registry.py OUTPUT URI`` answers the lines `settle`,
`decide` and `loop` on stdin by a line on stdout.
"""

import json
import random
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from features.errors import NightrankError
from pipelines.base.config import Config
from pipelines.registry.bundle_files import FILES
from pipelines.registry.champion import Champion, Standing
from pipelines.registry.decisions import Action, Decision, State
from pipelines.registry.registry import CHAMPION, PREVIOUS, Registry
from pipelines.stores.storage import sha256_of

NAMES = FILES | {
    f"ranker/{name}" for name in ("booster.txt", "network.safetensors", "behaviour.txt", "behaviour.safetensors")
}


def config_of(output: Path, uri: str | None = None, model: str = "nightrank") -> Config:
    """A configuration of which only the folder and the store matter."""
    table = {"path": "none.parquet"}
    return Config.model_validate(
        {
            "data": {"items": table, "events": table},
            "output": str(output),
            "tracking": {"uri": uri, "model_name": model},
        }
    )


def write_bundle(folder: Path, content: str) -> str:
    """Write files under the names of a bundle's; returns the manifest's digest."""
    for name in NAMES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name} of {content}", encoding="utf-8")
    files = {name: sha256((folder / name).read_bytes()).hexdigest() for name in sorted(NAMES)}
    (folder / "manifest.json").write_text(json.dumps({"files": files}), encoding="utf-8")
    return sha256_of(folder / "manifest.json")


def add_versions(registry: Registry, count: int) -> None:
    """Register versions, each with a run and a bundle of its own."""
    output = Path(registry.config.output)
    for _ in range(count):
        run = registry.client.create_run("0").info.run_id
        digest = write_bundle(output / "mlartifacts" / run / "artifacts" / "bundle", run)
        write_bundle(output / "bundles" / digest[:32], run)
        registry.register(run, digest)


def number(registry: Registry, alias: str) -> str | None:
    """The version that an alias names."""
    version = registry.find(alias)
    return None if version is None else version.number


def one_history(registry: Registry) -> list[Decision]:
    """The decisions that moved the champion, after checking that they are one chain that the aliases follow."""
    decisions = Champion(registry).decisions.read()
    assert [decision.number for decision in decisions] == list(range(1, len(decisions) + 1))
    moves = [decision for decision in decisions if decision.moves]
    assert {move.state for move in moves} <= {State.DONE}
    assert [move.before for move in moves[1:]] == [move.after for move in moves[:-1]]
    assert number(registry, CHAMPION) == (moves[-1].after if moves else None)
    assert number(registry, PREVIOUS) == (moves[-1].before if moves else None)
    return moves


def move(registry: Registry, action: Action = Action.PROMOTE, to: str | None = None) -> Decision:
    """Make a version champion, by default the one after the present champion, in a circle."""
    champions = Champion(registry)
    return decide(registry, champions, champions.settle(), action, to)


def decide(
    registry: Registry, champions: Champion, standing: Standing, action: Action = Action.PROMOTE, to: str | None = None
) -> Decision:
    present = int(standing.champion.number) if standing.champion else 0
    version = registry.version(to or str(present % 4 + 1))
    return champions.decide(action, version, standing, reason="a round", figures={"ndcg@10": "+0.1"})


def decide_for_ever(registry: Registry) -> None:
    """Promote, roll back and register at random, until killed; answers each decision."""
    drawn = random.Random()
    first = registry.version("1")
    while True:
        if drawn.random() < 0.2:
            registry.register(first.run_id, first.digest)
        else:
            answer("decided", move(registry, drawn.choice([Action.PROMOTE, Action.ROLLBACK])).number)


def answer(*words: object) -> None:
    sys.stdout.write(" ".join(str(word) for word in words).replace("\n", " ") + "\n")
    sys.stdout.flush()


def main(output: str, uri: str) -> None:
    registry = Registry(config_of(Path(output), uri))
    champions = Champion(registry)
    standing: Any = None
    answer("ready")
    for line in sys.stdin:
        try:
            if line.strip() == "settle":
                standing = champions.settle()
                answer("settled")
            elif line.strip() == "decide":
                answer("won", decide(registry, champions, standing).number)
            else:
                decide_for_ever(registry)
        except NightrankError as error:
            answer(error.exit_code, error)


if __name__ == "__main__":
    main(*sys.argv[1:])
