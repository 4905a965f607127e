"""Weak scaling on virtual devices, and an estimate for many chips.

    python benchmarks/scaling.py [--preset small] [--images 16] [--json PATH]

Virtual devices share the processor's cores, so that n of them with n times the images take n times
as long at best; the ratio to that is the cost of parallelism. The estimate takes a chip's speed
from the flags, counts the step's operations, its all-reduces and the bytes of gradients, and
assumes that nothing overlaps.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DEVICES = (1, 2, 4, 8)
os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(max(DEVICES)))
os.environ.setdefault("NPROC", "32")  # See iamt_jax.xla_setup.

import jax  # noqa: E402
import measure  # noqa: E402
import numpy as np  # noqa: E402
import tyro  # noqa: E402
from jax.sharding import Mesh, NamedSharding, PartitionSpec  # noqa: E402

from iamt_jax.config import PRESETS  # noqa: E402
from iamt_jax.model.extractor import DATA_AXIS  # noqa: E402
from iamt_jax.runs.checkpoints import State  # noqa: E402
from iamt_jax.training.dry_run import SHARE, products  # noqa: E402
from iamt_jax.training.loop import stepper  # noqa: E402
from iamt_jax.training.step import create, sharded, train_step  # noqa: E402
from iamt_jax.xla_setup import prepare  # noqa: E402

CHIPS = (8, 16, 64, 256, 1024)

HOP = 1e-6
"""Seconds from one chip to the next."""


@dataclass(frozen=True)
class Arguments:
    """Options of the benchmark and figures of the chip that the estimate assumes."""

    preset: Literal[tuple(PRESETS)] = "small"
    """Preset whose step is timed; the estimate is for `celeba`."""
    images: int = 16
    """Images per virtual device."""
    repeats: int = 5
    """Rounds."""
    images_a_chip: int = 32
    """Images per chip, in the estimate."""
    peak: float = 197e12
    """Operations per second of a chip, bfloat16; the default is a TPU v5e's."""
    share: float = SHARE
    """Share of that peak that the step reaches; an estimate, not measured."""
    link: float = 100e9
    """Bytes per second that a chip sends and receives; half of a v5e's 1,600 Gbit/s each way."""
    json: Path | None = None
    """File to which the figures are written."""


def training(arguments: Arguments, devices: int) -> Callable[[], jax.Array]:
    """Returns a function that takes one step on that many devices and waits for it: jax 0.10.2
    deadlocks on virtual devices that are not waited for."""
    config = measure.configured(arguments.preset, arguments.images * devices, None)
    mesh = Mesh(np.array(jax.devices()[:devices]), (DATA_AXIS,))
    batch = measure.random_batch(config)
    definition, state = create(config, batch.labels.shape[1])
    state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
    step, to_devices = stepper(definition, config, mesh)
    way = measure.steps(step, state, to_devices(batch))
    return lambda: jax.block_until_ready(way()["total"])


def measured(arguments: Arguments) -> list[dict]:
    """Times on 1 to 8 virtual devices, interleaved."""
    ways = {str(n): training(arguments, n) for n in DEVICES}
    seconds = measure.take_turns(ways, arguments.repeats)
    return [
        {
            "devices": n,
            "seconds": seconds[str(n)],
            "of linear": seconds[str(n)] / (n * seconds["1"]),
        }
        for n in DEVICES
    ]


def estimated(arguments: Arguments) -> list[dict]:
    """Step times on many chips, by arithmetic."""
    config = measure.configured("celeba", arguments.images_a_chip, None)
    batch = measure.random_batch(config)
    definition, state = create(config, batch.labels.shape[1])
    mesh = Mesh(np.array(jax.devices()[:1]), (DATA_AXIS,))
    operations = products(sharded(train_step(definition, config), mesh), state, batch)
    computing = operations / (arguments.peak * arguments.share)
    gradients, reductions = reduced_bytes(state), all_reduces()
    rows = []
    for chips in CHIPS:
        # A ring sends each byte twice, except its own part; a square torus is two rings long.
        sending = 2 * gradients * (chips - 1) / chips / arguments.link
        waiting = reductions * 4 * (math.sqrt(chips) - 1) * HOP
        step = computing + sending + waiting
        rows.append(
            {
                "chips": chips,
                "batch": chips * arguments.images_a_chip,
                "all-reduces": reductions,
                "megabytes": gradients / 1e6,
                "computing ms": 1e3 * computing,
                "reducing ms": 1e3 * (sending + waiting),
                "efficiency": computing / step,
                "images a second": chips * arguments.images_a_chip / step,
            }
        )
    return rows


def all_reduces() -> int:
    """All-reduces of a step: BatchNorm's, forward and backward, and that of the gradients, which
    XLA joins. They wait for each other."""
    config = measure.configured("celeba", 2, None)
    batch = measure.random_batch(config)
    definition, state = create(config, batch.labels.shape[1])
    mesh = Mesh(np.array(jax.devices()[:2]), (DATA_AXIS,))
    compiled = sharded(train_step(definition, config), mesh).lower(state, batch).compile()
    return len(re.findall(r" all-reduce(?:-start)?\(", compiled.as_text()))


def reduced_bytes(state: State) -> int:
    """Bytes that a step averages over the devices: gradients and running statistics, float32."""
    return 4 * sum(x.size for x in jax.tree.leaves((state.params, state.statistics)))


def table(rows: list[dict]) -> str:
    """Rows as a Markdown table."""
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [
        [f"{x:,.3g}" if isinstance(x, float) else f"{x:,}" for x in row.values()] for row in rows
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: Arguments) -> None:
    """Prints both tables, and writes them."""
    prepare()
    figures = {"measured": measured(arguments), "estimated": estimated(arguments)}
    for name, rows in figures.items():
        print(f"{name}:\n\n{table(rows)}\n")
    measure.report(arguments, figures, arguments.json)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
