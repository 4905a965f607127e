"""The training step: one per-device function, and two ways to run it on many devices."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from iamt_jax.config import Config, TrainConfig
from iamt_jax.data.batches import Batch
from iamt_jax.degradation import gaussian_noise
from iamt_jax.model.extractor import DATA_AXIS
from iamt_jax.model.losses import losses
from iamt_jax.model.network import Tree, build
from iamt_jax.runs.checkpoints import State

MUON_RMS = 0.2
"""Root mean square of Muon's updates before the learning rate: about AdamW's, so that both go by
one learning rate (Liu et al. 2025, arXiv 2502.16982)."""

MUON_MOMENTUM = 0.9

CONVOLUTION = MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=(3,))
MASKS = MuonDimensionNumbers(reduction_axis=(1,), output_axis=(2,))
"""Stacked mask kernels (attribute, channel, channel): one matrix a head."""


def schedule(config: TrainConfig) -> optax.Schedule:
    """Learning rate by updates done: linear to the peak after `warmup` updates, then a cosine to 0.

    The first update has a share of 1 / (warmup + 1) of the peak, so that none is without effect.
    """
    warmup = min(config.warmup, config.steps // 2)
    first = config.learning_rate / (warmup + 1)
    return optax.warmup_cosine_decay_schedule(first, config.learning_rate, warmup, config.steps)


def decayed(params: Tree) -> Tree:
    """Parameters that decay: kernels, not biases or normalisation scales."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def matrix_axes(path: tuple, leaf: jax.Array) -> MuonDimensionNumbers | None:
    """How Muon sees a parameter as a matrix; None where AdamW updates it.

    Classifiers, which write logits, stay with AdamW, as is usual for last layers.
    """
    names = [entry.key for entry in path]
    if names[-1] != "kernel":
        return None
    if leaf.ndim == 4:
        return CONVOLUTION
    return MASKS if "mask" in names else None


def all_matrix_axes(params: Tree) -> Tree:
    """`matrix_axes` of every parameter."""
    return jax.tree_util.tree_map_with_path(matrix_axes, params)


def update_rules(params: Tree) -> Tree:
    """Which rule updates each parameter: "muon" or "adam"."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: "muon" if matrix_axes(path, leaf) else "adam", params
    )


def scale_to_rms(rms: float) -> optax.GradientTransformation:
    """Scales orthogonalised updates, whatever their shape, to a root mean square of about `rms`."""

    def scaled(path: tuple, update: jax.Array) -> jax.Array:
        axes = matrix_axes(path, update)
        inputs = math.prod(update.shape[i] for i in axes.reduction_axis)
        outputs = math.prod(update.shape[i] for i in axes.output_axis)
        return rms * math.sqrt(max(inputs, outputs)) * update

    return optax.stateless(lambda updates, _: jax.tree_util.tree_map_with_path(scaled, updates))


def optimiser(config: TrainConfig) -> optax.GradientTransformation:
    """The update rule of a run.

    Put together from optax's parts, since `optax.contrib.muon` gives the decay's mask to its own
    parameters only, and would decay every bias and scale that it leaves to Adam.
    """
    rate = schedule(config)
    update = optax.adamw(rate, weight_decay=config.weight_decay, mask=decayed)
    if config.optimiser == "muon":
        orthogonal = optax.chain(
            scale_by_muon(beta=MUON_MOMENTUM, weight_dimension_numbers=all_matrix_axes),
            scale_to_rms(MUON_RMS),
            optax.add_decayed_weights(config.weight_decay),
            optax.scale_by_learning_rate(rate),
        )
        update = optax.partition({"muon": orthogonal, "adam": update}, update_rules)
    return optax.chain(optax.clip_by_global_norm(config.clip), update)


def create(config: Config, attributes: int) -> tuple[nnx.GraphDef, State]:
    """The network's definition and the state before the first step."""
    definition, params, statistics = build(config.model, attributes, config.train.seed)
    return definition, State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        statistics=statistics,
        optimiser=optimiser(config.train).init(params),
        average=jax.tree.map(jnp.copy, params) if config.train.ema else None,
    )


def parameter_counts(params: Tree) -> dict[str, int]:
    """Number of parameters of each part of the network."""
    return {part: sum(x.size for x in jax.tree.leaves(tree)) for part, tree in params.items()}


def local(x: jax.Array) -> np.ndarray:
    """A replicated array as this process holds it."""
    return np.asarray(x.addressable_shards[0].data)


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
        terms = losses(outputs, images, labels, config.loss)
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
