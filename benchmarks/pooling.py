"""Attention pooling against the plain form in JAX and in PyTorch, forward and backward.

    python benchmarks/pooling.py [--dtype bfloat16] [--forward-only] [--curve] [--json PATH]
    python benchmarks/pooling.py --scaling

The plain form computes all masks at once and keeps them for the backward pass. Ours computes them
again there: four matrix products instead of three.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

import jax
import jax.numpy as jnp
import measure
import numpy as np
import tyro

from iamt_jax.model.tone_curve import tone_curve
from iamt_jax.ops.attention_pool import attention_pool
from iamt_jax.xla_setup import prepare

TOLERANCE = 1e-4
"""Largest difference of two ways, as a share of the largest number of an array."""


@dataclass(frozen=True)
class Arguments:
    """Options of the benchmark."""

    batch: int = 32
    """Images."""
    size: int = 16
    """Height and width of the features."""
    channels: int = 128
    """Channels of the features."""
    attributes: int = 40
    """Heads, K."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the features."""
    forward_only: bool = False
    """Without derivatives."""
    curve: bool = False
    """With run-time n and beta, one for each image, attribute and channel."""
    scaling: bool = False
    """Print a table over attributes, batch and size instead of the comparison."""
    repeats: int = 10
    """Rounds."""
    json: Path | None = None
    """File to which the figures are written."""

    @property
    def product(self) -> int:
        """FLOP of the matrix products of all masks, once."""
        return 2 * self.attributes * self.batch * self.size**2 * self.channels**2


def plain_pool(features, kernel, bias, n=None, beta=None):
    """Computes `attention_pool` by its definition, with all masks at once."""
    shape = (features.shape[0], *bias.shape)
    n, beta = (None if x is None else jnp.broadcast_to(x, shape) for x in (n, beta))

    def one_head(kernel, bias, n, beta):
        masks = jax.nn.sigmoid(
            jnp.dot(features, kernel.astype(features.dtype), preferred_element_type=jnp.float32)
            + bias
        )
        curve = masks
        if n is not None or beta is not None:
            power = 1.0 if n is None else n[:, None, None]
            curve = tone_curve(masks, power, 0.0 if beta is None else beta[:, None, None])
        return jnp.mean((1 + curve) * features, axis=(1, 2)), jnp.sum(masks, axis=(1, 2, 3))

    return jax.vmap(one_head, in_axes=(0, 0, 1, 1), out_axes=1)(kernel, bias, n, beta)


def problem(arguments: Arguments) -> list[np.ndarray]:
    """Features, kernel, bias and, for a curve, n and beta; float32."""
    rng = np.random.default_rng(0)
    batch, size, channels, attributes = (
        getattr(arguments, name) for name in ("batch", "size", "channels", "attributes")
    )
    inputs = [
        rng.normal(size=(batch, size, size, channels)),
        rng.normal(size=(attributes, channels, channels)) / channels**0.5,
        rng.normal(size=(attributes, channels)),
    ]
    if arguments.curve:
        shape = batch, attributes, channels
        inputs += [rng.uniform(0.5, 4, shape), rng.uniform(0, 1, shape)]
    return [x.astype(np.float32) for x in inputs]


def program(pool: Callable, arguments: Arguments, inputs: list[np.ndarray]) -> jax.stages.Compiled:
    """Compiles the pooling: its results, or the derivatives of the sum of their squares."""

    def objective(*inputs):
        return sum(jnp.sum(jnp.square(x)) for x in pool(*inputs))

    run = pool if arguments.forward_only else jax.grad(objective, range(len(inputs)))
    return jax.jit(run).lower(*inputs).compile()


def check(arguments: Arguments, peer: ModuleType | None) -> None:
    """Raises AssertionError where the forms to be timed differ, in float32."""
    inputs = problem(arguments)
    with jax.default_matmul_precision("highest"):
        ours, plain = (program(pool, arguments, inputs) for pool in (attention_pool, plain_pool))
        rivals = {"plain": plain(*inputs)}
    if peer:
        with peer.exactly():
            results = peer.pooling(inputs, "float32", arguments.forward_only)()
        rivals["torch"] = [x.cpu() for x in results]
    for name, results in rivals.items():
        for actual, expected in zip(ours(*inputs), results, strict=True):
            expected = np.asarray(expected).reshape(actual.shape)
            difference = np.abs(actual - expected).max() / np.abs(expected).max()
            if not difference < TOLERANCE:
                raise AssertionError(f"{name}: differs by {difference:.1e} of its largest number")


def compare(arguments: Arguments) -> dict:
    """Times all forms in turn."""
    peer = measure.find_peer()
    check(arguments, peer)
    features, *others = problem(arguments)
    inputs = jax.device_put([jnp.asarray(features, arguments.dtype), *others])
    programs = {
        "ours": program(attention_pool, arguments, inputs),
        "plain": program(plain_pool, arguments, inputs),
    }
    ways = {name: lambda run=run: run(*inputs) for name, run in programs.items()}
    if peer:
        ways["torch"] = peer.pooling(problem(arguments), arguments.dtype, arguments.forward_only)
    times, ceiling = measure.compete(ways, arguments.dtype, arguments.repeats)
    useful = arguments.product * (1 if arguments.forward_only else 3)
    repeated = 0 if arguments.forward_only else arguments.product
    return {
        **measure.comparison(times, ceiling, arguments.batch, useful, repeated),
        **measure.memory(*map(measure.temporary, programs.values())),
    }


def scaling(arguments: Arguments) -> dict:
    """Measures time and temporary memory over attributes, batch and size, one at a time, and prints
    a table. The plain form is only compiled: the largest may not fit into memory."""
    steps = [{}] + [{"attributes": k} for k in (10, 160)]
    steps += [{"batch": batch} for batch in (8, 128)] + [{"size": size} for size in (8, 32)]
    rows = []
    print("| attributes | batch | features | ms | ns a mask element | MB | plain MB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for step in steps:
        this = dataclasses.replace(arguments, **step)
        inputs = problem(this)
        inputs[0] = jnp.asarray(inputs[0], this.dtype)
        ours, plain = (program(pool, this, inputs) for pool in (attention_pool, plain_pool))
        inputs = jax.device_put(inputs)
        times = measure.take_turns({"ours": lambda: ours(*inputs)}, this.repeats)  # noqa: B023
        row = {
            "attributes": this.attributes,
            "batch": this.batch,
            "features": f"{this.size}x{this.size}",
            "ms": 1e3 * times["ours"],
            "ns_a_mask_element": 1e9 * times["ours"] * 2 * this.channels / this.product,
            "temp_memory_mb": measure.temporary(ours) / 1e6,
            "plain_temp_memory_mb": measure.temporary(plain) / 1e6,
        }
        shown = [f"{x:.3g}" if isinstance(x, float) else str(x) for x in row.values()]
        print(f"| {' | '.join(shown)} |")
        rows.append(row)
    return {"scaling": rows}


def main(arguments: Arguments) -> None:
    """Prints and writes the figures."""
    prepare()
    figures = scaling(arguments) if arguments.scaling else compare(arguments)
    measure.report(arguments, figures, arguments.json)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
