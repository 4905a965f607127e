"""The losses: one function for each term (Eq. 1 to 5), and their weighted sum (Eq. 6)."""

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
    r"""L_b of the heads (Eq. 1, 2) and L_m of the multi-label classifier (Eq. 3, 4).

    Binary cross-entropies, summed over attributes and averaged over the batch:

    .. math::
      L = \frac{1}{B} \sum_b \sum_k \mathrm{softplus}(z_{bk}) - y_{bk} z_{bk}

    Args:
      logits: z, float32.
      labels: y in [0, 1], or MISSING, which contributes nothing to the loss.
    """
    each = jax.nn.softplus(logits) - labels * logits
    return jnp.sum(jnp.where(labels == MISSING, 0, each)) / logits.shape[0]


def reconstruction_error(
    reconstruction: Float[Array, "batch height width 3"],
    images: Float[Array, "batch height width 3"],
    reduction: str,
) -> Float[Array, ""]:
    """L_r, the squared error of the reconstruction (Eq. 5), in squared [0, 1] pixel units.

    Args:
      reconstruction: output of f_r.
      images: the images to reconstruct.
      reduction: "mean" or "sum" over pixels and colours; over the batch it is always the mean.
    """
    each = jnp.square(reconstruction.astype(jnp.float32) - images)
    return jnp.mean(each) if reduction == "mean" else jnp.sum(each) / images.shape[0]


def mask_penalty(
    mask_l1: Float[Array, "batch attribute"], elements: int, reduction: str
) -> Float[Array, ""]:
    """|M|_1 of Eq. 6.

    Args:
      mask_l1: sum of each mask over positions and channels.
      elements: positions x channels, the elements of one mask.
      reduction: "mean" or "sum" over attributes, positions and channels; over the batch it is
        always the mean.
    """
    total = jnp.mean(jnp.sum(mask_l1, axis=1))
    return total if reduction == "sum" else total / (elements * mask_l1.shape[1])


def losses(
    outputs: Outputs,
    images: Float[Array, "batch height width 3"],
    labels: Float[Array, "batch attribute"],
    config: LossConfig,
) -> Terms:
    r"""Total loss L of a batch and its terms (Eq. 6).

    .. math:: L = \lambda_b L_b + \lambda_m L_m + \lambda_r L_r + \lambda_1 |M|_1

    The term of a part that is switched off in the network is 0.

    Args:
      outputs: of `IAMT.__call__`.
      images: float32 in [0, 1] units.
      labels: in [0, 1], or MISSING.
      config: the weights, and the reductions of L_r and |M|_1.
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
