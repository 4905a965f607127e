"""How noisy is this image? A blind estimate, one number an image."""

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
"""One side of Immerkaer's mask, the difference of two Laplacians; of norm 1."""

NORMAL_MAD = 0.6744898
"""Median of |x| for a standard normal x."""

HALVINGS = 16
"""Steps of the median's bisection; the result is exact to range / 2 ** 16."""


def estimate_sigma(images: Float[Array, "batch height width 3"]) -> Float[Array, " batch"]:
    r"""Standard deviation of white noise in each image, [0, 1] pixel units, float32.

    Immerkaer's second difference along both axes (1996) leaves noise and little else; the median
    absolute deviation of what is left ignores edges (Donoho and Johnstone 1994):

    .. math:: \hat\sigma = \mathrm{median} |N * (c \cdot x)| \,/\, 0.6745

    taken over the two colour axes c, in which photographs have far less detail than in
    luminance: a clean photograph of 64 pixels reads 0.001 instead of 0.012 (docs/log.md), so
    that clean images can be told from slightly noisy ones. Noise that is equal in all three
    colours is not seen.

    Clipping to [0, 1] hides noise: `transformation.levels.Levels.of_reading` undoes that.
    """
    chroma = images.astype(jnp.float32) @ OPPONENT[1:].T
    left = _second_difference(_second_difference(chroma, 1), 2)
    return median(jnp.abs(left).reshape(left.shape[0], -1)) / NORMAL_MAD


def _second_difference(x: Array, axis: int) -> Array:
    size = x.shape[axis] - 2
    parts = (lax.slice_in_dim(x, i, i + size, axis=axis) for i in range(3))
    return sum(weight * part for weight, part in zip(LAPLACE.tolist(), parts, strict=True))


def median(values: Float[Array, "batch value"]) -> Float[Array, " batch"]:
    """Median of each row of values >= 0, by bisection: on CPU far cheaper than a sort."""

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        above = jnp.mean(values > middle[:, None], axis=1) > 0.5
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    bounds = jnp.zeros(values.shape[0], values.dtype), jnp.max(values, axis=1)
    low, high = lax.fori_loop(0, HALVINGS, halve, bounds)
    return (low + high) / 2


def is_clipped(images: Float[Array, "batch height width 3"]) -> Array:
    """Whether each image stays within [0, 1], as clipped noise does; (batch,) bool."""
    return jnp.all((images >= 0) & (images <= 1), axis=(1, 2, 3))


class Levels(NamedTuple):
    """Noise levels that were calibrated, for open noise (row 0) and clipped noise (row 1)."""

    sigma: Float[Array, " level"]
    """Ascending from 0, [0, 1] pixel units; the same for both rows."""
    reading: Float[Array, "2 level"]
    """What the blind estimate reads there on average, ascending; clipping hides noise."""
    floor: Float[Array, ""]
    """Largest reading that counts as a clean image."""

    def of_reading(
        self, reading: Float[Array, " batch"], clipped: Bool[Array, " batch"]
    ) -> Float[Array, " batch"]:
        """Place on the grid, 0 to level - 1, of images with these blind readings; exactly 0 for
        a clean one."""
        place = jnp.arange(self.sigma.size, dtype=jnp.float32)

        def look_up(row: Array) -> Array:
            return jnp.interp(reading, row, place)

        place = jnp.where(clipped, look_up(self.reading[1]), look_up(self.reading[0]))
        return jnp.where(reading <= self.floor, 0.0, place)

    def of_sigma(self, sigma: Float[Array, " batch"]) -> Float[Array, " batch"]:
        """Place on the grid of images whose sigma is known."""
        return jnp.interp(sigma, self.sigma, jnp.arange(self.sigma.size, dtype=jnp.float32))

    def sigma_at(self, place: Float[Array, " batch"]) -> Float[Array, " batch"]:
        """Sigma at a place on the grid."""
        return jnp.interp(place, jnp.arange(self.sigma.size, dtype=jnp.float32), self.sigma)

    def weights(
        self, place: Float[Array, " batch"], clipped: Bool[Array, " batch"]
    ) -> Float[Array, "batch 2*level"]:
        """Linear interpolation as weights of all levels, open ones first; each row sums to 1."""
        levels = self.sigma.size
        hat = jnp.maximum(0, 1 - jnp.abs(place[:, None] - jnp.arange(levels)))
        side = jax.nn.one_hot(clipped.astype(jnp.int32), 2)
        return (side[:, :, None] * hat[:, None]).reshape(-1, 2 * levels)
