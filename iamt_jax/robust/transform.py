"""The calibrated transformation of one image: estimate its noise, denoise it, choose its betas.

A clean image passes unchanged. Labels and gradients are never needed.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from iamt_jax.robust.denoiser import PatchPrior, wiener_denoise
from iamt_jax.robust.noise_level import Levels, estimate_sigma, is_clipped


class Transformation(NamedTuple):
    """The arrays that calibration fits; a member that was not calibrated is None."""

    levels: Levels
    prior: PatchPrior | None
    """Prior of the denoiser."""
    beta: Float[Array, "2*level attribute channel"] | None
    """Offsets of the tone curve, with n = 1; levels of open noise first, then of clipped noise."""


class Transformed(NamedTuple):
    """The network's inputs for a batch."""

    images: Float[Array, "batch height width 3"]
    """Denoised."""
    beta: Float[Array, "batch attribute channel"] | None
    """Offsets of the tone curve, with n = 1; None is no tone curve."""
    sigma: Float[Array, " batch"]
    """Noise level that each image was transformed for; 0 leaves the image unchanged."""


def transform(
    images: Float[Array, "batch height width 3"],
    transformation: Transformation,
    sigma: Float[Array, " batch"],
) -> Transformed:
    """Transforms each image by its own noise level.

    Args:
      images: in [0, 1] pixel units; open noise may leave that range.
      transformation: from `iamt_jax.robust.calibration`.
      sigma: standard deviation of each image's noise where it is known, NaN where it is to be
        estimated.
    """
    levels = transformation.levels
    clipped = is_clipped(images)
    estimated = levels.of_reading(estimate_sigma(images), clipped)
    index = jnp.where(jnp.isnan(sigma), estimated, levels.of_sigma(jnp.nan_to_num(sigma)))
    sigma, weights = levels.sigma_at(index), levels.weights(index, clipped)
    beta = transformation.beta
    if transformation.prior is not None:
        images = wiener_denoise(images, sigma, transformation.prior)
    if beta is not None:
        beta = jnp.tensordot(weights, beta, 1)
    return Transformed(images, beta, sigma)
