"""AdamW with warm-up, cosine decay and clipping."""

from __future__ import annotations

import jax
import optax

from iamt_jax.config import TrainConfig


def schedule(config: TrainConfig) -> optax.Schedule:
    """Learning rate by step: linear from 0 to the peak, then a cosine to 0."""
    warmup = min(config.warmup, config.steps // 2)
    return optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, config.steps)


def decayed(params) -> object:
    """Which parameters decay: kernels, not biases or normalisation scales."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: any(getattr(entry, "key", None) == "kernel" for entry in path), params
    )


def optimiser(config: TrainConfig) -> optax.GradientTransformation:
    """The update rule of a run."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(schedule(config), weight_decay=config.weight_decay, mask=decayed),
    )
