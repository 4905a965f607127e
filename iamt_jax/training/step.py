"""The training step: one per-device function, and two ways to run it on many devices."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from iamt_jax.config import Config
from iamt_jax.data.batches import Batch
from iamt_jax.degradation import gaussian_noise
from iamt_jax.model.extractor import DATA_AXIS
from iamt_jax.model.losses import losses
from iamt_jax.training.optimiser import optimiser
from iamt_jax.training.state import State

Metrics = dict[str, Float[Array, ""]]


def train_step(definition: nnx.GraphDef, config: Config) -> Callable:
    """Returns the per-device step (state, batch) -> (state, metrics), over axis `data`.

    Each image draws dropout and noise from (seed, step, its place in the global batch), so that
    the number of devices changes nothing. Gradients are averaged after differentiation, the
    only order that is right under pmap and under shard_map without replication checks.
    """
    update = optimiser(config.train)

    def objective(params, statistics, images, labels, keys):
        network = nnx.merge(definition, params, statistics)
        outputs = network(images, keys)
        terms = losses(outputs, images, labels, config.loss, config.train.label_smoothing)
        mean_mask = jnp.mean(outputs.mask_l1) / outputs.features[0].size
        _, _, statistics = nnx.split(network, nnx.Param, nnx.BatchStat)
        return terms.total, (terms, mean_mask, nnx.to_pure_dict(statistics))

    def step(state: State, batch: Batch) -> tuple[State, Metrics]:
        keys = image_keys(config.train.seed, state.step, batch.labels.shape[0])
        images = batch.images.astype(jnp.float32) / 255
        if config.data.noise_max:
            largest = config.data.noise_max
            levels, draws = (jax.vmap(jax.random.fold_in, (0, None))(keys, use) for use in (1, 2))
            sigma = jax.vmap(lambda key: jax.random.uniform(key, maxval=largest))(levels)
            images = gaussian_noise(images, sigma, draws)
        (_, (terms, mean_mask, statistics)), gradients = jax.value_and_grad(
            objective, has_aux=True
        )(state.params, state.statistics, images, batch.labels, keys)
        gradients, metrics = jax.lax.pmean(
            (gradients, {**terms._asdict(), "mean_mask": mean_mask}), DATA_AXIS
        )
        updates, optimiser_state = update.update(gradients, state.optimiser, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics["gradient_norm"] = optax.tree.norm(gradients)
        average = state.average
        if average is not None:
            # Young averages follow faster, or the random start would weigh on a short run.
            decay = jnp.minimum(config.train.ema, (1 + state.step) / (10 + state.step))
            average = optax.incremental_update(params, average, 1 - decay)
        return State(state.step + 1, params, statistics, optimiser_state, average), metrics

    return step


def image_keys(seed: int, step: Array, batch: int) -> Array:
    """One key an image of this device's share, by its place in the global batch."""
    place = jax.lax.axis_index(DATA_AXIS) * batch + jnp.arange(batch)
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(place)


def pmapped(step: Callable) -> Callable:
    """The step on all devices by `jax.pmap`: batches carry a leading device axis, the state is
    replicated, unstacked and donated."""
    return jax.pmap(
        step, axis_name=DATA_AXIS, in_axes=(None, 0), out_axes=(None, None), donate_argnums=0
    )


def sharded(step: Callable, mesh: Mesh) -> Callable:
    """The same step by `jit(shard_map)`: batches are global arrays, split over the mesh."""
    split, whole = PartitionSpec(DATA_AXIS), PartitionSpec()
    # check_vma would count gradients once a device (they are averaged by hand, above).
    mapped = jax.shard_map(
        step, mesh=mesh, in_specs=(whole, split), out_specs=(whole, whole), check_vma=False
    )
    return jax.jit(mapped, donate_argnums=0)
