"""The training step against the same step with plain pooling, against PyTorch, and its parts.

    python benchmarks/train_step.py [--preset celeba] [--dtype bfloat16] [--json PATH]

It runs on one device with a random batch. The parts are compiled separately, each forward and
backward, and need not add up to the whole step, which XLA schedules as one program.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import jax
import jax.numpy as jnp
import measure
import optax
import pooling
import tyro
from flax import nnx

from iamt_jax.config import PRESETS, Config
from iamt_jax.data.batches import Batch
from iamt_jax.model import heads
from iamt_jax.runs.checkpoints import State
from iamt_jax.training.dry_run import products
from iamt_jax.training.step import create, optimiser, pmapped, train_step
from iamt_jax.xla_setup import prepare


@dataclass(frozen=True)
class Arguments:
    """Options of the benchmark."""

    preset: Literal[tuple(PRESETS)] = "small"
    """Preset of the step."""
    batch_size: int = 32
    """Images per step."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Compute type; None is the preset's."""
    optimiser: Literal["muon", "adamw"] | None = None
    """Update rule, ours and PyTorch's; None is the preset's."""
    repeats: int = 10
    """Rounds."""
    json: Path | None = None
    """File to which the figures are written."""


def plainly() -> AbstractContextManager:
    """Context in which networks are traced with the plain pooling."""
    return mock.patch.object(heads, "attention_pool", pooling.plain_pool)


def parts(definition: nnx.GraphDef, config: Config, state: State, batch: Batch) -> dict[str, tuple]:
    """Name -> (function, inputs) of each part of a step, forward and backward."""
    update, params, statistics = optimiser(config.train), state.params, state.statistics
    images = batch.images.astype("float32") / 255
    network = nnx.merge(definition, params, statistics)
    features = jax.jit(lambda images: network.extractor(images))(images)

    def part(name: str, run: Callable, x: jax.Array, to_inputs: bool = True) -> tuple:
        def objective(own, x):
            network = nnx.merge(definition, {**params, name: own}, statistics)
            return sum(jnp.sum(jnp.square(y)) for y in run(network, x))

        return jax.value_and_grad(objective, (0, 1) if to_inputs else 0), params[name], x

    def update_all(state):
        # The weights stand in for gradients, which have the same shapes.
        updates, moments = update.update(state.params, state.optimiser, state.params)
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if average is not None:
            average = optax.incremental_update(params, average, 0.1)
        return params, moments, average

    found = {
        "extractor": part("extractor", lambda net, x: [net.extractor(x, True)], images, False),
        "heads": part("heads", lambda net, x: net.heads(x), features),
        "optimiser": (update_all, state),
    }
    if "reconstructor" in params:
        paint = lambda net, x: [net.reconstructor(x)]  # noqa: E731
        found["reconstructor"] = part("reconstructor", paint, features)
    return found


def forward_products(definition: nnx.GraphDef, state: State, batch: Batch) -> tuple[int, int]:
    """FLOP of a forward pass, and of the masks in it, which the backward pass computes again."""

    def forward(params, images):
        network = nnx.merge(definition, params, state.statistics)
        return network(images, jax.random.split(jax.random.key(0), len(images)))

    kernel = state.params["heads"]["stacked"]["mask"]["kernel"]
    images = batch.images.astype("float32") / 255
    run = measure.on_one_device(forward)
    with plainly():  # Without the sums that are written as products.
        *places, _ = jax.eval_shape(run, state.params, images).features.shape
        return products(run, state.params, images), 2 * math.prod(places) * kernel.size


def compare(arguments: Arguments) -> dict[str, Any]:
    """Times our step, the other forms and the parts in turn."""
    config = measure.configured(arguments.preset, arguments.batch_size, arguments.dtype)
    if arguments.optimiser:
        train = dataclasses.replace(config.train, optimiser=arguments.optimiser)
        config = dataclasses.replace(config, train=train)
    batch = measure.random_batch(config)
    definition, state = create(config, batch.labels.shape[1])
    ways = {}
    if measure.find_peer():
        import peer_training

        peer_training.check(config, state.params, state.statistics, batch)
        ways["torch"] = peer_training.training(config, state.params, state.statistics, batch)

    one = jax.tree.map(lambda x: jax.device_put(x[None]), batch)  # pmap's axis: one device
    compiled = {"ours": pmapped(train_step(definition, config)).lower(state, one).compile()}
    with plainly():
        compiled["plain"] = pmapped(train_step(definition, config)).lower(state, one).compile()
    ways |= {name: measure.steps(step, state, one) for name, step in compiled.items()}
    gflop = {}
    for name, (function, *inputs) in parts(definition, config, state, batch).items():
        run, inputs = measure.on_one_device(function), jax.device_put(inputs)
        gflop[name] = products(run, *inputs) / 1e9
        ways[name] = lambda run=run, inputs=inputs: run(*inputs)

    times, ceiling = measure.compete(ways, config.model.dtype, arguments.repeats)
    apart = {name: times.pop(name) for name in gflop}
    forward, masks = forward_products(definition, state, batch)
    rate = {name: gflop[name] * 1e9 / seconds for name, seconds in apart.items()}
    return {
        "optimiser": f"{config.train.optimiser}, in PyTorch too",
        **measure.comparison(times, ceiling, arguments.batch_size, 3 * forward, masks),
        **measure.memory(*map(measure.temporary, compiled.values())),
        "parts_ms": {name: 1e3 * seconds for name, seconds in apart.items()},
        "parts_gflop": gflop,
        "parts_share_of_ceiling": {name: each / ceiling for name, each in rate.items()},
    }


def main(arguments: Arguments) -> None:
    """Prints and writes the figures."""
    prepare()
    measure.report(arguments, compare(arguments), arguments.json)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
