"""What a run needs before its first step: settings that fit the data, weights to start from."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp

from iamt_jax.config import Config
from iamt_jax.data.dataset import Records
from iamt_jax.errors import InputError
from iamt_jax.runs.checkpoints import Weights, best_weights
from iamt_jax.training.state import State, create, local


def check_fit(config: Config, records: Records, validation: Records) -> None:
    """Refuses what cannot be trained, in one line."""
    devices, batch = jax.device_count(), config.train.batch_size
    if batch % devices:
        raise InputError(
            f"--train.batch-size {batch}: must be divisible by the {devices} devices; "
            f"try {batch // devices * devices or devices}"
        )
    if len(records) < batch:
        fits = len(records) // devices * devices
        smaller = f"try {fits}" if fits else f"give at least {devices}, one a device"
        raise InputError(
            f"--train.batch-size {batch}: more than the {len(records)} training images; {smaller}"
        )
    if records.attributes != validation.attributes:
        raise InputError("training and validation splits have different attributes")


def initial_weights(config: Config, attributes: int) -> Weights | None:
    """The weights that `train.init_from` names: another run's best checkpoint; None without it.

    Raises:
      InputError: there is no such run, or its network has another shape.
    """
    if config.train.init_from is None:
        return None
    other = Path(config.train.init_from)
    try:
        _, best = best_weights(other)
    except InputError as error:
        words = str(error).removeprefix("--workdir ")
        raise InputError(f"--train.init-from {words}") from None
    _, like = jax.eval_shape(lambda: create(config, attributes))
    theirs, ours = (best.params, best.statistics), (like.params, like.statistics)
    if jax.tree.map(jnp.shape, ours) != jax.tree.map(jnp.shape, theirs):
        raise InputError(
            f"--train.init-from {other}: holds a network of another shape; train with its "
            "model settings and as many attributes"
        )
    return best


def start_from(state: State, weights: Weights) -> State:
    """The state with other weights, wherever its own lie."""
    theirs, ours = (weights.params, weights.statistics), (state.params, state.statistics)
    state.params, state.statistics = jax.tree.map(
        lambda x, like: jax.device_put(local(x), like.sharding), theirs, ours
    )
    if state.average is not None:
        state.average = jax.tree.map(jnp.copy, state.params)
    return state
