"""BatchNorm's statistics estimated again on the noisy batch itself."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from iamt_jax.model.extractor import ConvNorm
from iamt_jax.model.network import IAMT, Tree


def reestimated_logits(
    definition: nnx.GraphDef,
    params: Tree,
    statistics: Tree,
    images: Float[Array, "batch height width 3"],
    prior: float = 0.0,
) -> Float[Array, "batch attribute"]:
    r"""Logits with each BatchNorm normalised by the statistics of this batch.

    With a prior of N images, the running mean and variance count as much as N images do, the
    batch's own as its B images:

    .. math::
      \mu = \frac{N \mu_{run} + B \mu_{batch}}{N + B}, \qquad
      \sigma^2 = \frac{N \sigma^2_{run} + B \sigma^2_{batch}}{N + B}

    0 is prediction-time batch normalisation (Nado et al., 2020), above 0 is Schneider et al.
    (NeurIPS 2020). The masks keep T(M) = 1 + M. An image's logits depend on its batch-mates, so
    fill no batch up with copies.

    Args:
      definition: of a `IAMT`, from `nnx.split(network, nnx.Param, nnx.BatchStat)`.
      params: its parameters.
      statistics: its running statistics.
      images: in [0, 1], float32; noise may leave it.
      prior: N, 0 or more, finite; another value compiles nothing.

    Returns:
      Logits, float32.

    Raises:
      ValueError: the network has no running statistics (`norm="group"`), or `prior` is negative.
    """
    if not jax.tree.leaves(statistics):
        raise ValueError(
            "the network has no batch statistics to estimate again: it was trained with "
            "model.norm = group, which needs none"
        )
    if not prior >= 0:
        raise ValueError(f"prior must be 0 or more images, not {prior}")
    return _logits(definition, params, statistics, images, prior)


@functools.partial(jax.jit, static_argnames="definition")
def _logits(definition, params, statistics, images, prior):
    return with_batch_statistics(nnx.merge(definition, params, statistics), prior).predict(images)


def with_batch_statistics(network: IAMT, prior: Float[Array, ""] | float = 0.0) -> IAMT:
    """Changes a network so that `predict` normalises by its batch, as `reestimated_logits` does.

    Needs no mapped axis: over images sharded under one jit, the batch is all of them. Gradients
    flow through the statistics. A network without BatchNorm is left as it is.

    Args:
      network: changed in place, and its statistics by each call: merge one for a single use.
      prior: as in `reestimated_logits`.

    Returns:
      The same network.
    """
    for _, module in nnx.iter_modules(network):
        if isinstance(module, ConvNorm) and isinstance(module.norm, nnx.BatchNorm):
            module.norm = functools.partial(_normalise, module.norm, prior)
    return network


def _normalise(norm: nnx.BatchNorm, prior, x: Float[Array, "batch height width channel"]) -> Array:
    """The layer's output with the statistics of x, mixed with the running ones."""
    wide = x.astype(jnp.float32)
    weight = prior / (prior + len(x))
    for running, batch in (
        (norm.mean, wide.mean(axis=(0, 1, 2))),
        (norm.var, wide.var(axis=(0, 1, 2))),
    ):
        running[...] = weight * running[...] + (1 - weight) * batch
    return norm(x, use_running_average=True)
