"""The loss terms of the paper, one function each (Eq. 1, 3, 5) and their sum (Eq. 6)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from iamt_jax.config import MISSING, LossConfig
from iamt_jax.model.network import Outputs


class Terms(NamedTuple):
    """The unweighted terms of Eq. 6 and their weighted sum, scalars."""

    total: Float[Array, ""]
    binary: Float[Array, ""]
    multilabel: Float[Array, ""]
    reconstruction: Float[Array, ""]
    mask_l1: Float[Array, ""]


def cross_entropy(
    logits: Float[Array, "batch attribute"],
    labels: Float[Array, "batch attribute"],
) -> Float[Array, ""]:
    r"""Sum over attributes, mean over the batch, of binary cross-entropies (Eq. 1 and 3).

    .. math::
      L = \frac{1}{B} \sum_b \sum_k \mathrm{softplus}(z_{bk}) - y_{bk} z_{bk}

    Labels lie in [0, 1], or are MISSING, which adds nothing.
    """
    each = jax.nn.softplus(logits) - labels * logits
    return jnp.sum(jnp.where(labels == MISSING, 0, each)) / logits.shape[0]


def reconstruction_error(
    reconstruction: Float[Array, "batch height width 3"],
    images: Float[Array, "batch height width 3"],
    reduction: str,
) -> Float[Array, ""]:
    """Squared error of the reconstruction (Eq. 5), in squared [0, 1] pixel units: a mean or a
    sum over pixels and colours, and a mean over the batch."""
    each = jnp.square(reconstruction.astype(jnp.float32) - images)
    return jnp.mean(each) if reduction == "mean" else jnp.sum(each) / images.shape[0]


def mask_penalty(
    mask_l1: Float[Array, "batch attribute"], elements: int, reduction: str
) -> Float[Array, ""]:
    """|M|_1 of Eq. 6, a mean over the batch of a sum over attributes, positions and channels, or
    of their mean; `elements` is positions x channels."""
    total = jnp.mean(jnp.sum(mask_l1, axis=1))
    return total if reduction == "sum" else total / (elements * mask_l1.shape[1])


def losses(
    outputs: Outputs,
    images: Float[Array, "batch height width 3"],
    labels: Float[Array, "batch attribute"],
    config: LossConfig,
) -> Terms:
    r"""The whole loss of a batch.

    .. math:: L = \lambda_b L_b + \lambda_m L_m + \lambda_r L_r + \lambda_1 |M|_1
      \qquad \text{(Eq. 6)}

    A term whose part of the network is switched off is 0.
    """
    zero = jnp.zeros(())
    binary = cross_entropy(outputs.logits, labels)
    multilabel = zero
    if outputs.multilabel is not None:
        multilabel = cross_entropy(outputs.multilabel, labels)
    reconstruction = zero
    if outputs.reconstruction is not None:
        reconstruction = reconstruction_error(
            outputs.reconstruction, images, config.reconstruction_reduction
        )
    elements = outputs.features[0].size
    mask_l1 = mask_penalty(outputs.mask_l1, elements, config.mask_l1_reduction)
    total = (
        config.binary * binary
        + config.multilabel * multilabel
        + config.reconstruction * reconstruction
        + config.mask_l1 * mask_l1
    )
    return Terms(total, binary, multilabel, reconstruction, mask_l1)
