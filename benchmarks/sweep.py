"""A grid of tone curves through one network, against one evaluation at a single pair.

    python benchmarks/sweep.py [--preset celeba] [--dtype bfloat16] [--json PATH]

Decoding is not included. `ratio_vs_single` is the grid's time relative to that of one pair; the
other two ratios are relative to evaluating all pairs one by one, in the plain form in JAX and in
PyTorch (one pair is timed).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import measure
import numpy as np
import tyro
from flax import nnx

from iamt_jax.config import PRESETS
from iamt_jax.inference.predictor import as_float
from iamt_jax.model.network import build
from iamt_jax.training.dry_run import products
from iamt_jax.xla_setup import prepare

N_VALUES = np.float32([0.5, 1, 2, 4, 8])
BETA_VALUES = np.linspace(0, 1, 21, dtype=np.float32)
SINGLE = np.float32([2.0, 0.5])
"""The single pair, n and beta; both are run-time values."""


@dataclass(frozen=True)
class Arguments:
    """Options of the benchmark."""

    preset: Literal[tuple(PRESETS)] = "small"
    """Preset of the network."""
    batch_size: int = 32
    """Images in a batch."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Compute type; None is the preset's."""
    repeats: int = 10
    """Rounds."""
    json: Path | None = None
    """File to which the figures are written."""


def compare(arguments: Arguments) -> dict[str, Any]:
    """Times the grid and the other forms in turn."""
    config = measure.configured(arguments.preset, arguments.batch_size, arguments.dtype)
    batch = measure.random_batch(config)
    definition, params, statistics = build(config.model, batch.labels.shape[1])
    ways = {}
    if measure.find_peer():
        import peer_training

        peer_training.check(config, params, statistics, batch)
        ways["torch"] = peer_training.prediction(config, params, statistics, batch, *SINGLE)

    def grid(network, images, n, beta):
        return network.heads.sweep(network.extractor(images), n, beta)

    def single(network, images, n, beta):
        return network.predict(images, n, beta)

    def plain(network, images, n, beta):
        return network.heads.reference(network.extractor(images), n, beta)

    def program(run):
        def whole(params, statistics, images, n, beta):
            return run(nnx.merge(definition, params, statistics), as_float(images), n, beta)

        return whole

    data = jax.device_put((params, statistics, batch.images))
    inputs = {"ours": (*data, N_VALUES, BETA_VALUES), "single": (*data, *SINGLE)}
    inputs["plain"] = inputs["single"]
    runs = {"ours": program(grid), "single": program(single), "plain": program(plain)}
    compiled = {name: jax.jit(run).lower(*inputs[name]).compile() for name, run in runs.items()}
    ways |= {name: lambda name=name: compiled[name](*inputs[name]) for name in runs}
    times, ceiling = measure.compete(ways, config.model.dtype, arguments.repeats)

    pairs = len(N_VALUES) * len(BETA_VALUES)
    times |= {name: pairs * times[name] for name in ("plain", "torch") if name in times}
    # Masks are computed once for all pairs; the rest is not a matrix product.
    useful = products(runs["plain"], *inputs["plain"])
    memory = {name: measure.temporary(run) for name, run in compiled.items()}
    return {
        "pairs": pairs,
        **measure.comparison(times, ceiling, arguments.batch_size, useful, 0),
        **measure.memory(memory["ours"], memory["plain"]),
        "ratio_vs_single": times["ours"] / times["single"],
    }


def main(arguments: Arguments) -> None:
    """Prints and writes the figures."""
    prepare()
    measure.report(arguments, compare(arguments), arguments.json)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
