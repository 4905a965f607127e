"""All forms of the attention pooling on this machine's device, side by side.

    python benchmarks/forms.py [--batch 256] [--dtype float32] [--json PATH]

The forms are those of the table `FORMS` in ops/attention_pool.py, besides plain JAX and PyTorch.
They are timed in turn, for training (forward and backward, every mask as it is) and for inference
(forward only, with run-time n and beta). A form is first compared with the plain one in float32.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from unittest import mock

import jax
import jax.numpy as jnp
import measure
import numpy as np
import pooling
import tyro

from iamt_jax.ops import attention_pool, kernels
from iamt_jax.ops.tiled import Limits
from iamt_jax.xla_setup import prepare

TILES = (Limits(1, 8192), Limits(1, 65536), Limits(5, 2048), Limits(5, 65536))
"""Tiles in the table, and the large ones of one head."""


@dataclass(frozen=True)
class Arguments:
    """Options of the benchmark."""

    batch: int = 256
    """Images."""
    size: int = 16
    """Height and width of the features."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Type of the features."""
    repeats: int = 10
    """Rounds."""
    json: Path | None = None
    """File to which the figures are written."""


@contextlib.contextmanager
def form(limits: Limits | None) -> Iterator[None]:
    """Context in which programs take tiles of these limits, or kernels."""
    one = attention_pool.Form("", ("",), kernels=limits is None, limits=limits or TILES[0])
    choice = mock.patch.dict(os.environ, {attention_pool.VARIABLE: "auto"})
    with choice, mock.patch.object(attention_pool, "form_of", lambda platform: one):
        yield


def forms() -> dict[str, tuple[Callable, Limits | None]]:
    """Name -> function and its limits; kernels only where this device has them."""
    found = {"plain": (pooling.plain_pool, TILES[0])}
    for limits in TILES:
        name = f"tiles of {limits.heads} heads, {limits.rows:,} rows"
        found[name] = attention_pool.attention_pool, limits
    if {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend()) in kernels.TARGETS:
        found["kernels"] = attention_pool.attention_pool, None
    return found


def programs(arguments: pooling.Arguments) -> dict[str, jax.stages.Compiled]:
    """Compiles all forms."""
    inputs = pooling.problem(arguments)
    inputs[0] = jnp.asarray(inputs[0], arguments.dtype)
    found = {}
    for name, (pool, limits) in forms().items():
        with form(limits):
            found[name] = pooling.program(pool, arguments, inputs)
    return found


def differences(arguments: pooling.Arguments) -> dict[str, float]:
    """Largest difference of each form from the plain one, as a share of the largest number of an
    array; float32 with full precision."""
    inputs = pooling.problem(arguments)
    with jax.default_matmul_precision("highest"):
        results = {name: run(*inputs) for name, run in programs(arguments).items()}
    plain = results.pop("plain")
    return {
        name: max(
            float(np.abs(np.asarray(x) - y).max() / np.abs(y).max())
            for x, y in zip(arrays, map(np.asarray, plain), strict=True)
        )
        for name, arrays in results.items()
    }


def main(arguments: Arguments) -> None:
    """Prints and writes the figures."""
    prepare()
    figures, peer = {}, measure.find_peer()
    for use, backward in {"training": True, "inference": False}.items():
        sizes = pooling.Arguments(
            batch=arguments.batch,
            size=arguments.size,
            dtype=arguments.dtype,
            forward_only=not backward,
            curve=not backward,
        )
        exact = dataclasses.replace(sizes, batch=min(16, sizes.batch), dtype="float32")
        apart = differences(exact)
        compiled = programs(sizes)
        features, *others = pooling.problem(sizes)
        inputs = jax.device_put([jnp.asarray(features, sizes.dtype), *others])
        ways = {name: lambda run=run: run(*inputs) for name, run in compiled.items()}  # noqa: B023
        if peer:
            ways["torch"] = peer.pooling(pooling.problem(sizes), sizes.dtype, sizes.forward_only)
        times, ceiling = measure.compete(ways, sizes.dtype, arguments.repeats)
        useful = sizes.product * (3 if backward else 1)
        print(f"\n| {use} | ms | share of the ceiling | MB | difference |\n|{' --- |' * 5}")
        for name, seconds in times.items():
            memory = measure.temporary(compiled[name]) / 1e6 if name in compiled else None
            row = {
                "ms": 1e3 * seconds,
                "share_of_ceiling_without_recomputation": useful / seconds / ceiling,
                "temp_memory_mb": memory,
                "difference": apart.get(name),
            }
            figures[f"{use}, {name}"] = row
            shown = ["" if x is None else f"{x:.3g}" for x in row.values()]
            print(f"| {name} | {' | '.join(shown)} |")
        figures[f"{use}, ceiling"] = {"tflop_per_s": ceiling / 1e12}
    measure.report(arguments, {"rows": [figures]}, arguments.json)
    for name, row in figures.items():
        difference = row.get("difference") or 0
        if not difference < pooling.TOLERANCE:
            raise AssertionError(f"{name}: differs by {difference:.1e} of its largest number")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
