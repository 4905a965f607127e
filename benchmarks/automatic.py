"""Cost of evaluate.py --auto relative to a plain evaluation, on this machine.

    python benchmarks/automatic.py --workdir W

Both are timed alternately on a batch of noisy images; the result is the ratio of the medians.
Start-up, compilation and reading are not included; estimating the noise is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import measure
import numpy as np
import tyro

from iamt_jax.inference.classifier import load
from iamt_jax.xla_setup import prepare


@dataclass(frozen=True)
class Arguments:
    """Options of the benchmark."""

    workdir: Path
    """A calibrated run."""
    batch_size: int = 128
    """Images in a batch."""
    repeats: int = 30
    """Batches of each."""


def main(arguments: Arguments) -> None:
    """Times both, prints medians and ratio."""
    prepare()
    trained = load(arguments.workdir)
    transformation = trained.transformation
    size = trained.run.config.data.size
    noise = np.random.default_rng(0).normal(0.5, 0.2, (arguments.batch_size, size, size, 3))
    images = noise.astype(np.float32)
    ways = {
        "plain": lambda: trained.predictor.predict(images).logits,
        "auto": lambda: trained.predictor.predict(images, transformation).logits,
    }
    times = measure.take_turns(ways, arguments.repeats)
    plain, auto = times["plain"], times["auto"]
    each = 1000 / arguments.batch_size
    print(f"plain {plain * each:.2f} ms/image, auto {auto * each:.2f}: ratio {auto / plain:.2f}")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
