"""Texts to vectors, and fine-tuning, on a CUDA device against the processor of the same machine.

    python tests/benchmarks/gpu_speed.py [--model FOLDER | --random] [--texts 6000] [--steps 60] [--requests 256]

Titles are the simulated shop's. (a) Encoding them, after a warm-up, in fp32 and bf16: texts a second, the least cosine
to torch's fp32 on the processor, and whether vectors are the same to the bit in any batch. (b) Steps of fine-tuning
(half of them with the layers), batches made too; training runs where Lightning finds a device, so that the processor's
turn hides it. `--random` takes an encoder of MiniLM's shape with random weights, for a machine that lacks the real one:
times are the same. One line of JSON; nothing is judged.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from encoder_memory import lessons, titles
from outcome import tell

from encoders.config import Backend, EncoderConfig
from encoders.embed import pool_all
from encoders.fit import ReadTexts, fit_block
from encoders.model import InterestModel

ITEMS = 3000  # that the lessons are about
SHAPE = {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EncoderConfig().model)
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--texts", type=int, default=6000)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--fit-alone", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with _model(arguments) as name:
        if arguments.fit_alone:
            sys.stdout.write(json.dumps(_steps_a_second(name, arguments)) + "\n")
            return 0
        facts = {"texts_a_second": _encoding(name, arguments.texts)}
        facts["steps_a_second"] = {}
        for where, hidden in (("processor", {"CUDA_VISIBLE_DEVICES": ""}), ("device", {})):
            command = [sys.executable, __file__, "--model", name, "--fit-alone"]
            command += ["--steps", str(arguments.steps), "--requests", str(arguments.requests)]
            ended = subprocess.run(command, env={**os.environ, **hidden}, check=True, stdout=subprocess.PIPE, text=True)
            facts["steps_a_second"][where] = json.loads(ended.stdout.splitlines()[-1])
            tell(f"fine-tuning on the {where}: {facts['steps_a_second'][where]}")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    sys.stdout.write(json.dumps(facts | {"device": device, "threads": torch.get_num_threads()}) + "\n")
    return 0


@contextmanager
def _model(arguments: argparse.Namespace) -> Iterator[str]:
    if not arguments.random:
        yield arguments.model
        return
    sys.path.append(str(Path(__file__).resolve().parents[1] / "oracles"))
    from random_encoder import random_encoder

    with tempfile.TemporaryDirectory() as folder:
        sizes = {"heads": 12, "positions": 512, "spread": 0.05, "seed": 0} | SHAPE
        yield str(random_encoder(Path(folder), list(titles(2000)), **sizes))


def _encoding(name: str, count: int) -> dict[str, dict[str, float | bool]]:
    texts, vectors = list(titles(count)), {}
    kinds: list[tuple[Backend, str]] = [("torch", "fp32"), ("torch", "bf16")]
    kinds += [("cuda", "fp32"), ("cuda", "bf16")] if torch.cuda.is_available() else []
    for backend, precision in kinds:
        model = InterestModel.start(EncoderConfig(model=name, backend=backend, precision=precision))
        tokens = model.tokenise(texts)
        some = model.sample(tokens)
        exact = pool_all(model.zero_shot, some, bf16=False)
        cosine = float(torch.cosine_similarity(model.pool("zero_shot", some), exact).min())
        start = time.perf_counter()
        model.pool("zero_shot", tokens)
        taken = time.perf_counter() - start
        facts = {"texts_a_second": round(count / taken), "cosine": round(cosine, 6)}
        vectors[f"{backend} {precision}"] = facts | {"same_in_any_batch": model.batch_independent(tokens)}
        tell(f"{backend} {precision}: {vectors[f'{backend} {precision}']}")
    return vectors


def _steps_a_second(name: str, arguments: argparse.Namespace) -> dict[str, float | str]:
    """Of the head alone, and with the layers."""
    half = arguments.steps // 2
    config = EncoderConfig(model=name, head_steps=half, steps=half, requests_per_batch=arguments.requests)
    model = InterestModel.start(config)
    texts = model.tokenise(list(titles(ITEMS)))
    lower = model.read_lower(texts)
    read = ReadTexts(texts, lower, model.pool("tuned", texts, lower=lower))
    at: list[float] = []
    fit_block(
        model, lessons(ITEMS, config), read, config=config, seed=0, report=lambda *_: at.append(time.perf_counter())
    )
    first, last = at[half - 1] - at[0], at[-1] - at[half]
    steps_a_second = {"head": round((half - 1) / first, 2), "layers": round((half - 1) / last, 2)}
    return steps_a_second | {"precision": "bf16" if model.bf16 else "fp32"}


if __name__ == "__main__":
    sys.exit(main())
