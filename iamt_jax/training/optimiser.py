"""The update rule: Muon for kernels, AdamW for the rest; warm-up, cosine decay, clipping."""

from __future__ import annotations

import jax
import optax
from optax.contrib import MuonDimensionNumbers, muon

from iamt_jax.config import TrainConfig
from iamt_jax.model.network import Tree

MUON_RMS = 0.2
"""Root mean square of Muon's updates before the learning rate: about AdamW's, so that both go by
one learning rate (Liu et al. 2025, arXiv 2502.16982)."""

MUON_MOMENTUM = 0.9

CONVOLUTION = MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)
MASKS = MuonDimensionNumbers(reduction_axis=1, output_axis=2)
"""Stacked mask kernels (attribute, channel, channel): one matrix a head."""


def schedule(config: TrainConfig) -> optax.Schedule:
    """Learning rate by step: linear from 0 to the peak, then a cosine to 0."""
    warmup = min(config.warmup, config.steps // 2)
    return optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, config.steps)


def decayed(params: Tree) -> Tree:
    """Which parameters decay: kernels, not biases or normalisation scales."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def orthogonalised(params: Tree) -> Tree:
    """How Muon sees each kernel as a matrix; None where AdamW updates.

    Classifiers, which write logits, stay with AdamW, as is usual for last layers.
    """

    def dimensions(path: tuple, leaf: jax.Array) -> MuonDimensionNumbers | None:
        names = [entry.key for entry in path]
        if names[-1] != "kernel":
            return None
        if leaf.ndim == 4:
            return CONVOLUTION
        return MASKS if "mask" in names else None

    return jax.tree_util.tree_map_with_path(dimensions, params)


def optimiser(config: TrainConfig) -> optax.GradientTransformation:
    """The update rule of a run."""
    rate = schedule(config)
    if config.optimiser == "adamw":
        update = optax.adamw(rate, weight_decay=config.weight_decay, mask=decayed)
    else:
        update = muon(
            rate,
            beta=MUON_MOMENTUM,
            consistent_rms=MUON_RMS,
            weight_decay=config.weight_decay,
            weight_decay_mask=decayed,
            adam_weight_decay=config.weight_decay,
            adam_learning_rate=rate,
            muon_weight_dimension_numbers=orthogonalised,
        )
    return optax.chain(optax.clip_by_global_norm(config.clip), update)
