"""TENT: fully test-time adaptation by entropy minimisation, for sigmoid outputs."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float

from iamt_jax.evaluation.baselines.reestimate import with_batch_statistics
from iamt_jax.model.network import Tree

LEARNING_RATE = 1e-3
"""Of Adam; the paper's for CIFAR-10-C."""


class Adapted(NamedTuple):
    """What goes from one batch of a condition to the next."""

    params: Tree
    optimiser: Tree


def begin(params: Tree) -> Adapted:
    """The state before a condition's first batch: the trained parameters, and Adam at rest."""
    return Adapted(params, _optimiser(params, LEARNING_RATE).init(params))


@functools.partial(jax.jit, static_argnames="definition")
def adapt(
    definition: nnx.GraphDef,
    statistics: Tree,
    state: Adapted,
    images: Float[Array, "batch height width 3"],
    learning_rate: Float[Array, ""] | float = LEARNING_RATE,
) -> tuple[Float[Array, "batch attribute"], Adapted]:
    r"""Predicts one batch and takes one step of Adam on scale and bias of each normalisation.

    The step goes down the entropy of the heads' answers, all classes of the paper's softmax
    becoming two a head,

    .. math:: \frac{1}{B} \sum_b \sum_k H(\mathrm{sigmoid}(z_{bk})),

    BatchNorm normalising by the batch's own statistics; GroupNorm as always. The masks keep
    T(M) = 1 + M. The logits are those of the same forward pass, before the step, as in the
    paper's code: a first batch's equal `reestimated_logits`.

    Wang et al., Tent: Fully Test-Time Adaptation by Entropy Minimization, ICLR 2021.

    Args:
      definition: of a `IAMT`, from `nnx.split(network, nnx.Param, nnx.BatchStat)`.
      statistics: its running statistics; only their shapes count.
      state: `begin(params)` for the first batch of a condition, then the last batch's.
      images: in [0, 1], float32; noise may leave it. Every image counts: no copies.
      learning_rate: another value compiles nothing.

    Returns:
      Logits, float32, and the state for the next batch.
    """

    def objective(params):
        network = with_batch_statistics(nnx.merge(definition, params, statistics))
        logits = network.predict(images)
        return jnp.mean(jnp.sum(binary_entropy(logits), axis=1)), logits

    gradients, logits = jax.grad(objective, has_aux=True)(state.params)
    optimiser = _optimiser(state.params, learning_rate)
    updates, moments = optimiser.update(gradients, state.optimiser)
    return logits, Adapted(optax.apply_updates(state.params, updates), moments)


def binary_entropy(logits: Float[Array, "..."]) -> Float[Array, "..."]:
    """Entropy of a Bernoulli variable with p = sigmoid(logits), nats; 0 to log 2."""
    return jax.nn.softplus(logits) - logits * jax.nn.sigmoid(logits)


def _optimiser(params: Tree, learning_rate) -> optax.GradientTransformation:
    """Adam on the parameters of layers called `norm`, nothing on the others."""

    def part(path, _):
        return "affine" if jax.tree_util.DictKey("norm") in path else "fixed"

    return optax.partition(
        {"affine": optax.adam(learning_rate), "fixed": optax.set_to_zero()},
        jax.tree_util.tree_map_with_path(part, params),
    )
