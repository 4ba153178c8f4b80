"""What peers came to, where `make bench-peers` has been run: what benchmarks of ours are compared with."""

import os
from pathlib import Path
from typing import Any

from pipelines.inputs.tables import fingerprint_of
from pipelines.stores.storage import sha256_of

ROOT = Path(__file__).resolve().parents[2]


def peers_folder() -> Path:
    """Where peers' results are: below BENCH_FOLDER, by default `.bench` in the repository."""
    return Path(os.environ.get("BENCH_FOLDER", ROOT / ".bench")) / "peers"


def peer_results(data: str, folder: Path | None = None) -> dict[str, Path]:
    """What was judged of each peer, by its name; empty where none has been run.

    Of `beauty` NDCG@10 by request (request_id, ndcg@10), requests being users in the order of the file; of
    `online-retail` lists as `nightrank evaluate --scores` reads them.
    """
    files = ((folder or peers_folder()) / data / "judged").glob("*.parquet")
    return {path.stem: path for path in sorted(files)}


def peers_json(data: str) -> dict[str, Any]:
    """What a benchmark's configuration says of the peers it is compared with: their files' hash, if there are any."""
    results = peer_results(data)
    return {"peers": fingerprint_of([(name, sha256_of(path)) for name, path in results.items()])} if results else {}
