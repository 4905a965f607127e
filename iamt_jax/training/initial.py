"""Initial weights from another run, as far as they fit."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from iamt_jax.config import Config, ModelConfig
from iamt_jax.errors import InputError
from iamt_jax.model.network import Tree
from iamt_jax.runs.checkpoints import NetworkWeights, State, best_weights
from iamt_jax.training.step import local


class Initial(NamedTuple):
    """The best checkpoint of another run."""

    weights: NetworkWeights
    attributes: tuple[str, ...]

    def shared(self, attributes: tuple[str, ...]) -> tuple[list[int], list[int]]:
        """Indices in `attributes`, and in this run's, of the attributes that both have."""
        ours = [k for k, name in enumerate(attributes) if name in self.attributes]
        return ours, [self.attributes.index(attributes[k]) for k in ours]


def initial_weights(config: Config) -> Initial | None:
    """Loads the best checkpoint of the run `train.init_from`; None where it is not set.

    Raises:
      InputError: there is no such run, or its extractor does not fit.
    """
    if config.train.init_from is None:
        return None
    other = Path(config.train.init_from)
    try:
        run, best = best_weights(other)
    except InputError as error:
        words = str(error).removeprefix("`workdir` ")
        raise InputError(f"`train.init_from` {words}") from None
    if not extends(config.model, run.config.model):
        raise InputError(
            f"`train.init_from` {other}: holds an extractor of another shape; train with its "
            "`model.widths`, `model.blocks`, `model.dilations`, `model.coordinates` and "
            "`model.norm`; only a dilation of 0 may become larger, and more dilations follow"
        )
    return Initial(best, run.attributes)


def extends(ours: ModelConfig, theirs: ModelConfig) -> bool:
    """Compares two extractors: true if ours is theirs, but for dilations of 0 that became larger
    and further dilations."""
    same = all(
        getattr(ours, name) == getattr(theirs, name)
        for name in ("widths", "blocks", "coordinates", "norm")
    )
    pairs = zip(theirs.dilations, ours.dilations, strict=False)
    return (
        same
        and len(ours.dilations) >= len(theirs.dilations)
        and all(before in (0, after) for before, after in pairs)
    )


def start_from(state: State, initial: Initial, attributes: tuple[str, ...]) -> State:
    """Replaces the weights of a state, keeping their sharding.

    The extractor is taken as a whole; a 1x1 kernel becomes the centre of a 3x3 kernel, and residual
    blocks that only our extractor has begin with a scale of 0, so that it computes the same. Of the
    heads and the multi-label classifier those of attributes that both runs have, by name, are
    taken, and the reconstructor if it fits. The rest stays as it is.
    """
    rows = initial.shared(attributes)
    theirs = initial.weights.params, initial.weights.statistics
    state.params, state.statistics = (
        _joined(ours, found, rows)
        for ours, found in zip((state.params, state.statistics), theirs, strict=True)
    )
    if state.average is not None:
        state.average = jax.tree.map(jnp.copy, state.params)
    return state


def _widened(theirs: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """A kernel at the centre of a larger one."""
    if theirs.shape == ours.shape:
        return theirs
    centre = ours.shape[0] // 2
    wide = np.zeros_like(ours)
    wide[centre, centre] = theirs[0, 0]
    return wide


def _joined(ours: Tree, theirs: Tree, rows: tuple[list[int], list[int]]) -> Tree:
    """Our tree with the weights of theirs that fit."""
    found = dict(jax.tree_util.tree_leaves_with_path(theirs))

    def one(path: tuple, mine: jax.Array) -> jax.Array:
        names = [key.key for key in path]
        if path not in found:
            ends = names[0] == "extractor" and names[-3:] == ["second", "norm", "scale"]
            return jnp.zeros_like(mine) if ends else mine
        part, new, old = names[0], np.array(local(mine)), local(found[path])
        here, there = rows
        if part == "extractor":
            new = _widened(old, new)
        elif part == "heads":
            new[here] = old[there]
        elif part == "multilabel":
            new[..., here] = old[..., there]
        elif old.shape == new.shape:
            new = old
        return jax.device_put(new, mine.sharding)

    return jax.tree_util.tree_map_with_path(one, ours)
