"""Roofline plot of attention pooling on this machine.

    python benchmarks/roofline.py [--out docs/figures/roofline.png]

Measures the matmul ceiling, the memory's bandwidth, and pooling forward and backward, ours and
plain, in one run. Bytes are those that must be moved
to or from memory: for the plain form as XLA counts them; for ours every argument and result once,
and the kernels once for each tile of images, since tiles stay in cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import measure
import numpy as np
import pooling
import tyro

from iamt_jax.ops.attention_pool import attention_pool, form_of
from iamt_jax.ops.tiled import Tiles
from iamt_jax.xla_setup import prepare


@dataclass(frozen=True)
class Arguments:
    """Options of the plot."""

    out: Path = Path("roofline.png")
    """File of the plot."""
    repeats: int = 7
    """Rounds; the plot shows medians."""
    json: Path | None = None
    """File for the figures."""


def main(arguments: Arguments) -> None:
    """Measures, prints, draws."""
    prepare()
    sizes = pooling.Arguments()
    inputs = jax.device_put([jnp.asarray(x) for x in pooling.problem(sizes)])
    programs = {
        name: pooling.program(pool, sizes, inputs)
        for name, pool in (("ours", attention_pool), ("plain", pooling.plain_pool))
    }
    large = jnp.ones((64, 1024, 1024))
    copy = jax.jit(lambda x: x + 1)
    ways = {name: lambda run=run: run(*inputs) for name, run in programs.items()}
    times, ceiling = measure.compete(
        ways | {"copy": lambda: copy(large)}, sizes.dtype, arguments.repeats
    )
    bandwidth = 2 * large.nbytes / times["copy"]
    features, kernel, bias = inputs
    limits = form_of("cpu").limits
    tiles = Tiles.of(sizes.batch, sizes.size**2, sizes.attributes, limits)
    once = 3 * features.nbytes + (4 * tiles.batches + 1) * kernel.nbytes + 2 * bias.nbytes
    moved = {"ours": once, "plain": programs["plain"].cost_analysis()["bytes accessed"]}
    flop = {"ours": 4 * sizes.product, "plain": 3 * sizes.product}
    points = {name: (flop[name] / moved[name], flop[name] / times[name]) for name in programs}
    draw(points, ceiling, bandwidth, arguments.out)
    figures = {
        "ceiling_gflop_per_s": ceiling / 1e9,
        "bandwidth_gb_per_s": bandwidth / 1e9,
        "flop_per_byte": {name: point[0] for name, point in points.items()},
        "gflop_per_s": {name: point[1] / 1e9 for name, point in points.items()},
        "floor_ms": 1e3 * flop["ours"] / ceiling,
        "ms": {name: 1e3 * times[name] for name in programs},
    }
    measure.report(sizes, figures, arguments.json)


def draw(
    points: dict[str, tuple[float, float]], ceiling: float, bandwidth: float, out: Path
) -> None:
    """Draws the roof and the two forms."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    intensity = np.geomspace(1, 1e4, 200)
    roof = np.minimum(ceiling, bandwidth * intensity) / 1e9
    axes.loglog(intensity, roof, color="black")
    axes.text(1.0, 3 * bandwidth / 1e9, f"memory, {bandwidth / 1e9:.1f} GB/s")
    axes.text(60, 1.1 * ceiling / 1e9, f"matrix product, {ceiling / 1e9:.0f} GFLOP/s")
    for (name, (x, y)), colour in zip(points.items(), ("#0072b2", "#d55e00"), strict=True):
        axes.plot(x, y / 1e9, "o", color=colour)
        share = 100 * y / min(ceiling, bandwidth * x)
        axes.annotate(
            f"{name}: {y / 1e9:.0f} GFLOP/s, {share:.0f} % of its roof",
            (x, y / 1e9),
            (8, -12),
            textcoords="offset points",
            ha="center" if name == "ours" else "left",
        )
    axes.set(xlabel="FLOP a byte of memory", ylabel="GFLOP/s", ylim=(5, 3e-9 * ceiling))
    axes.grid(alpha=0.3, which="both")
    figure.savefig(out, dpi=120)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
