"""Noise level of an image: a blind estimate of sigma, and the calibrated levels."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

OPPONENT = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]] / np.sqrt([[3], [2], [6]]), np.float32)
"""Rows: luminance and two colour axes; orthonormal, so that noise keeps its sigma in each."""

LAPLACE = np.array([1, -2, 1], np.float32) / np.sqrt(6, dtype=np.float32)
"""One axis of Immerkaer's separable mask, the difference of two Laplacians; its norm is 1."""

NORMAL_MAD = 0.6744898
"""Median of |x| for a standard normal x."""

HALVINGS = 16
"""Steps of the median's bisection; the result is exact to range / 2 ** 16."""


def estimate_sigma(images: Float[Array, "batch height width 3"]) -> Float[Array, " batch"]:
    r"""Estimates the standard deviation of white noise in each image.

    Immerkaer's second difference along both axes (1996) removes most of the image and keeps the
    noise; the median absolute deviation is robust to the remaining edges (Donoho and Johnstone
    1994):

    .. math:: \hat\sigma = \mathrm{median} |N * (c \cdot x)| \,/\, 0.6745

    taken over the two colour axes c, in which photographs have far less detail than in
    luminance: the estimate of a clean photograph of 64 pixels is 0.001 instead of 0.012
    (docs/log.md), so that clean images can be distinguished from slightly noisy ones. Noise that
    is equal in all three colours is not measured.

    Clipping to [0, 1] lowers the estimate: `Levels.of_estimate` corrects that.

    Args:
      images: in [0, 1] pixel units; noise may leave that range.

    Returns:
      Sigma of each image, [0, 1] pixel units, float32.
    """
    chroma = jnp.dot(images.astype(jnp.float32), OPPONENT[1:].T, precision="highest")
    left = _second_difference(_second_difference(chroma, 1), 2)
    return median(jnp.abs(left).reshape(left.shape[0], -1)) / NORMAL_MAD


def _second_difference(x: Array, axis: int) -> Array:
    size = x.shape[axis] - 2
    parts = (lax.slice_in_dim(x, i, i + size, axis=axis) for i in range(3))
    return sum(weight * part for weight, part in zip(LAPLACE.tolist(), parts, strict=True))


def median(values: Float[Array, "batch value"]) -> Float[Array, " batch"]:
    """Median of each row of values >= 0, by bisection; on CPU far cheaper than a sort."""

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        above = jnp.mean(values > middle[:, None], axis=1) > 0.5
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    bounds = jnp.zeros(values.shape[0], values.dtype), jnp.max(values, axis=1)
    low, high = lax.fori_loop(0, HALVINGS, halve, bounds)
    return (low + high) / 2


def is_clipped(images: Float[Array, "batch height width 3"]) -> Array:
    """True for each image within [0, 1], as images with clipped noise are; (batch,) bool."""
    return jnp.all((images >= 0) & (images <= 1), axis=(1, 2, 3))


class Levels(NamedTuple):
    """Calibrated noise levels, and the estimates of `estimate_sigma` that belong to them.

    The noise level of an image is a fractional index into them, from 0 (clean) to level - 1.
    """

    sigma: Float[Array, " level"]
    """Ascending from 0, [0, 1] pixel units."""
    estimate: Float[Array, "2 level"]
    """Average estimate at each level, ascending: row 0 for noise that is not clipped, row 1 for
    noise clipped to [0, 1], where it is lower."""
    floor: Float[Array, ""]
    """Largest estimate that counts as a clean image."""

    def of_estimate(
        self, estimate: Float[Array, " batch"], clipped: Bool[Array, " batch"]
    ) -> Float[Array, " batch"]:
        """Index of images by their estimates; exactly 0 for a clean image."""
        index = jnp.arange(self.sigma.size, dtype=jnp.float32)
        plain, lower = (jnp.interp(estimate, row, index) for row in self.estimate)
        return jnp.where(estimate <= self.floor, 0.0, jnp.where(clipped, lower, plain))

    def of_sigma(self, sigma: Float[Array, " batch"]) -> Float[Array, " batch"]:
        """Index of images whose sigma is known."""
        return jnp.interp(sigma, self.sigma, jnp.arange(self.sigma.size, dtype=jnp.float32))

    def sigma_at(self, index: Float[Array, " batch"]) -> Float[Array, " batch"]:
        """Sigma at an index."""
        return jnp.interp(index, jnp.arange(self.sigma.size, dtype=jnp.float32), self.sigma)

    def weights(
        self, index: Float[Array, " batch"], clipped: Bool[Array, " batch"]
    ) -> Float[Array, "batch 2*level"]:
        """Weights of all levels for linear interpolation, those of unclipped noise first; each row
        sums to 1."""
        levels = self.sigma.size
        hat = jnp.maximum(0, 1 - jnp.abs(index[:, None] - jnp.arange(levels)))
        side = jax.nn.one_hot(clipped.astype(jnp.int32), 2)
        return (side[:, :, None] * hat[:, None]).reshape(-1, 2 * levels)
