"""What sentence-transformers takes for the same texts under the same weights; needs nothing of ours.

    python encoder_peer.py MODE MODEL TEXTS OUT THREADS

MODE is fp32, bf16, onnx (ONNX Runtime, graph optimised to O3) or openvino (which takes bf16 by itself where the
processor has it), each as `SentenceTransformer.encode` runs it: sorted by length, batches of 32, padded to the longest.
TEXTS is a JSON list; OUT gets the vectors (.npy). Prints the seconds of `encode` alone, after a warm-up.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

MAX_TOKENS = 48  # as ours reads by default
WARM_UP = 256


def load(mode: str, model: str, threads: int) -> SentenceTransformer:
    """The model in one of the modes."""
    if mode == "fp32":
        return SentenceTransformer(model, device="cpu")
    if mode == "bf16":
        return SentenceTransformer(model, device="cpu", model_kwargs={"dtype": torch.bfloat16})
    if mode == "openvino":
        return SentenceTransformer(model, device="cpu", backend="openvino", model_kwargs={"export": True})
    import onnxruntime
    from sentence_transformers import export_optimized_onnx_model

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    settings = {"session_options": options, "provider": "CPUExecutionProvider"}
    folder = Path(tempfile.gettempdir()) / "nightrank-bench-onnx"
    if not (folder / "onnx" / "model_O3.onnx").is_file():
        plain = SentenceTransformer(model, device="cpu", backend="onnx", model_kwargs={"export": True})
        plain.save_pretrained(str(folder))
        export_optimized_onnx_model(plain, "O3", str(folder))
    return SentenceTransformer(
        str(folder), device="cpu", backend="onnx", model_kwargs={"file_name": "onnx/model_O3.onnx", **settings}
    )


def main() -> None:
    """Encode, and say how long it took."""
    mode, model, texts_path, out, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    encoder = load(mode, model, int(threads))
    encoder.max_seq_length = MAX_TOKENS
    texts = json.loads(Path(texts_path).read_text(encoding="utf-8"))
    encoder.encode(texts[:WARM_UP])
    start, cpu = time.perf_counter(), time.process_time()
    vectors = encoder.encode(texts)
    took = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
    np.save(out, np.asarray(vectors, np.float32))
    sys.stdout.write(json.dumps(took) + "\n")


if __name__ == "__main__":
    main()
