"""Fine-tuning over a catalogue of a million texts: its peak memory and its time.

    python tests/benchmarks/encoder_memory.py [--items 1_000_000] [--steps 120] [--cache-gb 2]

Titles are the simulated shop's, each with a number of its own; 3,000 requests with histories draw items by a Zipf law,
and MiniLM is fine-tuned on them with the default configuration but for the number of steps (half of them with the
layers). Only texts that the block's requests name pass through the encoder: the hidden states of a whole catalogue are
an hour's work, and lie in a file beyond `encoder.cache_gb` anyway. Exits with 1 where the peak is above 6 GiB.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from tempfile import TemporaryFile

import numpy as np

from encoders.config import EncoderConfig
from encoders.data import Examples, Histories
from encoders.fit import ReadTexts, fit_block
from encoders.model import InterestModel
from features.shop.words import N_DRAWS, STYLES, THEMES, write_text

BAR_GIB = 6.0
REQUESTS, CANDIDATES, POSITIVES = 3000, 20, 2
ZIPF = 1.3


def main() -> int:
    """Train, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=lambda text: int(text.replace("_", "")), default=1_000_000)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--cache-gb", type=float, default=EncoderConfig().cache_gb)
    arguments = parser.parse_args()
    steps = arguments.steps // 2
    config = EncoderConfig(head_steps=arguments.steps - steps, steps=steps, cache_gb=arguments.cache_gb)
    seconds: dict[str, float] = {}
    clock = time.monotonic()

    def say(name: str) -> None:
        nonlocal clock
        seconds[name], clock = round(time.monotonic() - clock, 1), time.monotonic()
        sys.stderr.write(f"{name}: {seconds[name]} s, peak {peak_gib():.2f} GiB\n")

    model = InterestModel.start(config)
    tokenised = model.tokenise(list(titles(arguments.items)))
    say("titles and tokens")
    examples = lessons(arguments.items, config)
    items = np.concatenate([examples.item, examples.histories.item_RH.ravel()])
    used = np.unique(items[items >= 0])  # an item's text is its own
    text_of_item = np.zeros(arguments.items, np.int64)
    text_of_item[used] = np.arange(len(used))
    texts, examples = tokenised.take(used), replace(examples, text_of_item=text_of_item)
    say(f"{REQUESTS} requests with {len(used)} texts")
    in_file = model.hidden_bytes(texts) > config.cache_gb * 1e9
    with TemporaryFile() as file:
        lower = model.read_lower(texts, file=file if in_file else None)
    say("frozen layers")
    pooled = model.pool("tuned", texts, lower=lower)
    say("upper layers")
    losses = fit_block(model, examples, ReadTexts(texts, lower, pooled), config=config, seed=0).losses
    say(f"{len(losses)} steps")
    peak = peak_gib()
    sys.stderr.write(f"{'reached' if peak < BAR_GIB else 'MISSED '}  peak {peak:.2f} GiB < {BAR_GIB}\n")
    facts = {"items": arguments.items, "texts": len(used), "in_file": in_file, "seconds": seconds, "peak_gib": peak}
    sys.stdout.write(json.dumps({**facts, "last_loss": losses[-1]}) + "\n")
    return 0 if peak < BAR_GIB else 1


def titles(count: int) -> Iterator[str]:
    """Distinct titles of the simulated shop."""
    rng = np.random.default_rng(0)
    for start in range(0, count, 10_000):
        draws = rng.random((min(10_000, count - start), N_DRAWS))
        picks = rng.integers(0, (len(THEMES), len(STYLES)), (len(draws), 2))
        for row, ((theme, style), drawn) in enumerate(zip(picks, draws, strict=True)):
            title, _ = write_text(THEMES[theme], STYLES[style], 0, drawn.tolist())
            yield f"{title} {start + row}"


def lessons(items: int, config: EncoderConfig) -> Examples:
    """Requests whose histories and candidates follow a Zipf law; the first candidates were taken."""
    rng = np.random.default_rng(1)
    drawn = (rng.zipf(ZIPF, (REQUESTS, config.history_items + CANDIDATES)) - 1) % items
    drawn = rng.permutation(items)[drawn]
    shape = (REQUESTS, config.history_items)
    ones = np.ones(shape, np.float32)
    taken = np.arange(CANDIDATES) < POSITIVES
    return Examples(
        histories=Histories(
            drawn[:, : config.history_items],
            rng.integers(1, 90, shape).astype(np.float32),
            ones,
            ones.astype(np.uint16),
        ),
        item=drawn[:, config.history_items :].ravel(),
        gain=np.tile(taken.astype(np.float32), REQUESTS),
        starts=np.arange(REQUESTS + 1) * CANDIDATES,
        positives=np.full(REQUESTS, POSITIVES),
        text_of_item=np.arange(items),
    )


def peak_gib() -> float:
    """The largest resident set so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    sys.exit(main())
