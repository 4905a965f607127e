"""The update rule: Muon for kernels, AdamW for the rest; warm-up, cosine decay, clipping."""

from __future__ import annotations

import math

import jax
import optax
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from iamt_jax.config import TrainConfig
from iamt_jax.model.network import Tree

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
