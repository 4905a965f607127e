"""What a step carries: plain pytrees. NNX only defines the network."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from iamt_jax.config import Config
from iamt_jax.model.network import IAMT, Tree
from iamt_jax.training.optimiser import optimiser


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    """Everything that a checkpoint of training must hold."""

    step: jax.Array
    """Steps taken, int32."""
    params: Tree
    statistics: Tree
    """Running statistics of the normalisation layers; empty without BatchNorm."""
    optimiser: Tree
    average: Tree
    """Moving average of `params`, what is evaluated; None without `train.ema`."""

    @property
    def evaluated(self) -> Tree:
        """The weights that validation and inference use."""
        return self.params if self.average is None else self.average


def build(config: Config, attributes: int) -> tuple[nnx.GraphDef, Tree, Tree]:
    """Initialises the network from `train.seed`: its definition, parameters and statistics."""
    network = IAMT(config.model, attributes, rngs=nnx.Rngs(config.train.seed))
    definition, params, statistics = nnx.split(network, nnx.Param, nnx.BatchStat)
    return definition, nnx.to_pure_dict(params), nnx.to_pure_dict(statistics)


def create(config: Config, attributes: int) -> tuple[nnx.GraphDef, State]:
    """The network's definition and the state before the first step."""
    definition, params, statistics = build(config, attributes)
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
