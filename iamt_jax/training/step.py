"""The training step: its optimiser, one per-device function, and two ways to run it on devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from iamt_jax.config import Config, DataConfig, TrainConfig
from iamt_jax.data.augment import augment, mixup
from iamt_jax.data.batches import Batch
from iamt_jax.degradation.noise import gaussian_noise
from iamt_jax.model.extractor import DATA_AXIS
from iamt_jax.model.losses import losses
from iamt_jax.model.network import Tree, build
from iamt_jax.runs.checkpoints import State
from iamt_jax.training.muon import Stacked, on_stacks, scale_by_muon, stacked

MUON_RMS = 0.2
"""Root mean square of Muon's updates before the learning rate. It is about that of AdamW, so that
one learning rate serves both (Liu et al. 2025, arXiv 2502.16982)."""

MUON_MOMENTUM = 0.9


def schedule(config: TrainConfig) -> optax.Schedule:
    """Learning rate by updates done: linear warm-up to the peak, then a cosine to 0.

    It starts at 1 / (warmup + 1) of the peak, so that the first update has an effect.
    """
    warmup = min(config.warmup, config.steps // 2)
    first = config.learning_rate / (warmup + 1)
    return optax.warmup_cosine_decay_schedule(first, config.learning_rate, warmup, config.steps)


def decayed(params: Tree) -> Tree:
    """Parameters that decay: kernels, not biases or normalisation scales."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def optimiser(config: TrainConfig) -> optax.GradientTransformation:
    """Optimiser of a run: Muon and AdamW, or AdamW alone. The step clips the gradients."""
    update = optax.scale_by_adam()
    if config.optimiser == "muon":
        rules = {"muon": scale_by_muon(MUON_MOMENTUM, MUON_RMS), "adam": update}
        update = on_stacks(optax.partition(rules, Stacked("muon", "adam")))
    return optax.chain(
        update,
        optax.add_decayed_weights(config.weight_decay, mask=decayed),
        optax.scale_by_learning_rate(schedule(config)),
    )


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


def local(x: jax.Array) -> np.ndarray:
    """Host copy of a replicated array."""
    return np.asarray(x.addressable_shards[0].data)


StepMetrics = dict[str, Float[Array, ""]]
"""Terms of the loss, mean mask and gradient norm, averaged over the devices."""


def train_step(definition: nnx.GraphDef, config: Config) -> Callable:
    """Returns the per-device step (state, batch) -> (state, metrics), over axis `data`.

    Dropout and noise of an image are keyed by (seed, step, index in the global batch), so that the
    number of devices does not change them. Gradients are averaged after differentiation, which is
    the only order that is correct under pmap and under shard_map without replication checks.
    """
    update = optimiser(config.train)

    def objective(params, statistics, images, labels, keys):
        network = nnx.merge(definition, params, statistics)
        outputs = network(images, keys)
        # Eq. 6: the total is the weighted sum of L_b, L_m, L_r and |M|_1.
        terms = losses(outputs, images, labels, config.loss)
        mean_mask = jnp.mean(outputs.mask_l1) / outputs.features[0].size
        _, _, statistics = nnx.split(network, nnx.Param, nnx.BatchStat)
        return terms.total, (terms, mean_mask, nnx.to_pure_dict(statistics))

    def step(state: State, batch: Batch) -> tuple[State, StepMetrics]:
        keys = image_keys(config.train.seed, state.step, batch.labels.shape[0])
        images, labels = prepared(batch, config.data, keys)

        differentiate = jax.value_and_grad(objective, has_aux=True)
        (_, (terms, mean_mask, statistics)), gradients = differentiate(
            state.params, state.statistics, images, labels, keys
        )
        gradients, metrics = jax.lax.pmean(
            (gradients, {**terms._asdict(), "mean_mask": mean_mask}), DATA_AXIS
        )
        # The norm of a few stacks takes fewer launches than that of all kernels.
        metrics["gradient_norm"] = norm = optax.tree.norm(stacked(gradients))
        factor = jnp.minimum(1, config.train.clip / norm)
        gradients = jax.tree.map(lambda x: factor * x, gradients)

        updates, optimiser_state = update.update(gradients, state.optimiser, state.params)
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if average is not None:
            # The decay grows with the step, so that a short run forgets the initialisation.
            decay = jnp.minimum(config.train.ema, (1 + state.step) / (10 + state.step))
            average = optax.incremental_update(params, average, 1 - decay)
        return State(state.step + 1, params, statistics, optimiser_state, average), metrics

    return step


def prepared(batch: Batch, config: DataConfig, keys: Array) -> tuple[Array, Array]:
    """Augmented images of a batch, float32 in [0, 1] units, and their labels."""
    images, labels = batch.images.astype(jnp.float32) / 255, batch.labels
    keys = jax.vmap(lambda key: jax.random.fold_in(key, 6))(keys)
    images = augment(images, keys, config)
    if config.mixup:
        images, labels = mixup(images, labels, keys, config.mixup, DATA_AXIS)
    if config.noise_max:
        images = _training_noise(images, config.noise_max, keys)
    return images, labels


def image_keys(seed: int, step: Array, batch: int) -> Array:
    """Keys of the images of this device, by their index in the global batch."""
    index = jax.lax.axis_index(DATA_AXIS) * batch + jnp.arange(batch)
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(index)


def _training_noise(images: Array, largest: float, keys: Array) -> Array:
    """Adds Gaussian noise with a sigma drawn for each image from [0, largest]."""
    levels, draws = (jax.vmap(jax.random.fold_in, (0, None))(keys, use) for use in (6, 7))
    sigma = jax.vmap(lambda key: jax.random.uniform(key, maxval=largest))(levels)
    return gaussian_noise(images, sigma, draws)


def pmapped(step: Callable, devices: Sequence[jax.Device] | None = None) -> Callable:
    """Runs the step on the devices, by default all, by `jax.pmap`: batches have a leading device
    axis; the state is replicated, without a device axis, and donated."""
    return jax.pmap(
        step,
        axis_name=DATA_AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        donate_argnums=0,
        devices=devices,
    )


def sharded(step: Callable, mesh: Mesh) -> Callable:
    """Runs the step on a mesh by `jit(shard_map)`: batches are global arrays, split over it."""
    split, whole = PartitionSpec(DATA_AXIS), PartitionSpec()
    # With check_vma, gradients would be summed over devices; the step averages them itself.
    mapped = jax.shard_map(
        step, mesh=mesh, in_specs=(whole, split), out_specs=(whole, whole), check_vma=False
    )
    return jax.jit(mapped, donate_argnums=0)
