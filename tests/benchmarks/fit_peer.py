"""What sentence-transformers' trainer makes of pairs of texts, and when; needs nothing of ours.

    python fit_peer.py MODE MODEL DATA OUT THREADS

MODE is fp32 or bf16 (the trainer's `bf16=True`). DATA is JSON: `pairs` (anchor, positive), to be shuffled, `texts` to
encode at each check, `batch`, `check_every` (steps), `rate` (peak) and `seed`. All layers are trained, against in-batch
negatives (MultipleNegativesRankingLoss), with a warm-up of a tenth. OUT gets the vectors before the first step and at
each check (.npy: checks, texts, width). Prints the seconds of training up to each; checks themselves aside.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    losses,
)
from transformers import TrainerCallback

MAX_TOKENS = 48  # as ours reads by default


class Checks(TrainerCallback):
    """Vectors and times of each check."""

    def __init__(self, model: SentenceTransformer, texts: list[str], every: int) -> None:
        self.model, self.texts, self.every = model, texts, every
        self.vectors, self.seconds, self.cpu_seconds = [], [], []
        self.apart = self.cpu_apart = 0.0

    def on_train_begin(self, *_: object, **__: object) -> None:
        self.start, self.cpu_start = time.perf_counter(), time.process_time()
        self.check()

    def on_step_end(self, _: object, state: object, *__: object, **___: object) -> None:
        if state.global_step % self.every == 0:
            self.check()

    def check(self) -> None:
        now, cpu = time.perf_counter(), time.process_time()
        self.seconds.append(now - self.start - self.apart)
        self.cpu_seconds.append(cpu - self.cpu_start - self.cpu_apart)
        self.model.eval()
        self.vectors.append(np.asarray(self.model.encode(self.texts, show_progress_bar=False), np.float32))
        self.model.train()
        sys.stderr.write(f"{len(self.seconds)} checks, {self.seconds[-1]:.0f} s\n")
        self.apart += time.perf_counter() - now
        self.cpu_apart += time.process_time() - cpu


def main() -> None:
    """Train, and say when each check was reached."""
    mode, path, data_path, out, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    data = json.loads(Path(data_path).read_text(encoding="utf-8"))
    model = SentenceTransformer(path, device="cpu")
    model.max_seq_length = MAX_TOKENS
    anchors, positives = zip(*data["pairs"], strict=True)
    checks = Checks(model, data["texts"], data["check_every"])
    with tempfile.TemporaryDirectory() as folder:
        trainer = SentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(
                output_dir=folder,
                num_train_epochs=1,
                per_device_train_batch_size=data["batch"],
                learning_rate=data["rate"],
                warmup_steps=len(data["pairs"]) // data["batch"] // 10,
                bf16=mode == "bf16",
                use_cpu=True,
                seed=data["seed"],
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_dict({"anchor": anchors, "positive": positives}),
            loss=losses.MultipleNegativesRankingLoss(model),
            callbacks=[checks],
        )
        trainer.train()
    np.save(out, np.stack(checks.vectors))
    sys.stdout.write(json.dumps({"seconds": checks.seconds, "cpu_seconds": checks.cpu_seconds}) + "\n")


if __name__ == "__main__":
    main()
