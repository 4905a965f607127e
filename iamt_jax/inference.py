"""A trained network, out of its workdir."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from iamt_jax.prediction import Predictor
from iamt_jax.training.checkpoints import best_weights
from iamt_jax.training.state import build
from iamt_jax.workdir import Run


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
    run, best = best_weights(Path(workdir))
    definition, _, _ = build(run.config, len(run.attributes))
    return Trained(Predictor(definition, best.params, best.statistics), run, best.step)
