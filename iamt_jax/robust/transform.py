"""The whole transformation: one deterministic function of one image and of what is known of it.

It estimates the noise, takes most of it out of the image, moves the layers' statistics back, and
bends the masks; a clean image passes unchanged. Nothing in it needs a label or a gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from iamt_jax.robust.denoiser import PatchPrior, denoise
from iamt_jax.robust.noise_level import Levels, estimate_sigma, is_clipped
from iamt_jax.robust.statistics import Correction


class Transformation(NamedTuple):
    """What calibration finds out, as arrays; a member that is left out is None, or empty."""

    levels: Levels
    prior: PatchPrior | None
    correction: Correction
    """Of the statistics, by layer: (2 * level, channel), open levels first."""
    beta: Float[Array, "2*level attribute channel"] | None
    """The tone curve's, with n = 1."""


class Transformed(NamedTuple):
    """What goes into the network for a batch."""

    images: Float[Array, "batch height width 3"]
    correction: Correction
    beta: Float[Array, "batch attribute channel"] | None
    sigma: Float[Array, " batch"]
    """Noise that each image was transformed for; 0 leaves the image alone."""


def transform(
    images: Float[Array, "batch height width 3"],
    transformation: Transformation,
    sigma: Float[Array, " batch"],
) -> Transformed:
    """Chooses and applies the transformation, image by image.

    Args:
      images: [0, 1] pixel units; open noise may leave that range.
      transformation: of `iamt_jax.robust.calibration`.
      sigma: of each image's noise where it is known, NaN where it is to be estimated.
    """
    levels = transformation.levels
    clipped = is_clipped(images)
    estimated = levels.of_reading(estimate_sigma(images), clipped)
    place = jnp.where(jnp.isnan(sigma), estimated, levels.of_sigma(jnp.nan_to_num(sigma)))
    sigma, weights = levels.sigma_at(place), levels.weights(place, clipped)
    if transformation.prior is not None:
        images = denoise(images, sigma, transformation.prior)

    def mixed(table: Array) -> Array:
        return jnp.tensordot(weights, table, 1)

    beta = None if transformation.beta is None else mixed(transformation.beta)
    return Transformed(images, jax.tree.map(mixed, transformation.correction), beta, sigma)
