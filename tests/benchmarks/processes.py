"""What benchmarks against others share: the Python of the others, and processes that print what they found."""

import json
import os
import subprocess
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
THREADS = 2
_NO_SPINNING = {"GOMP_SPINCOUNT": "1000", "OPENBLAS_THREAD_TIMEOUT": "4"}  # as `pipelines.cli.app` asks before anything


def kept_in(name: str) -> Path:
    """Where a benchmark keeps what is slow to make: below NIGHTRANK_BENCH, else the folder for temporary files."""
    root = os.environ.get("NIGHTRANK_BENCH")
    return Path(root) / name if root else Path(tempfile.gettempdir()) / f"nightrank-bench-{name}"


def peer_python(folder: Path, packages: Sequence[str]) -> str:
    """The Python that BENCH_PYTHON names, or one of an environment below a folder, made with these packages."""
    if "BENCH_PYTHON" in os.environ:
        return os.environ["BENCH_PYTHON"]
    python = folder / "venv/bin/python"
    if not python.exists():
        venv.create(folder / "venv", with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return str(python)


def run(command: Sequence[str]) -> dict[str, float]:
    """What a process of two threads prints last, once it has ended well."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "NUMBA_NUM_THREADS"), str(THREADS))
    environment = {**_NO_SPINNING, **os.environ, **threads, "PYTHONPATH": f"{HERE.parents[1]}:{HERE}"}
    ended = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    facts: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return facts
