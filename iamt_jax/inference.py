"""A trained network, out of its workdir."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from iamt_jax.errors import InputError
from iamt_jax.prediction import Predictor
from iamt_jax.training.checkpoints import best_weights
from iamt_jax.training.state import build
from iamt_jax.workdir import Run, read_run


class Trained(NamedTuple):
    """A trained network and what is known of it."""

    predictor: Predictor
    run: Run
    step: int
    """Training step of the checkpoint."""


def load(workdir: Path | str) -> Trained:
    """Loads the best checkpoint of a workdir.

    Raises:
      InputError: the folder holds no run, or no checkpoint, or one of another network.
    """
    workdir = Path(workdir)
    run = read_run(workdir)
    definition, params, _ = build(run.config, len(run.attributes))
    best = best_weights(workdir)
    if jax.tree.map(jnp.shape, params) != jax.tree.map(jnp.shape, best.params):
        raise InputError(
            f"{workdir}: the checkpoint of step {best.step} holds another network than run.json "
            "describes; restore the matching files, or train again in another folder"
        )
    return Trained(Predictor(definition, best.params, best.statistics), run, best.step)
