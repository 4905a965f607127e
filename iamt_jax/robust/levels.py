"""Side information: which level of noise an image has, on a grid of calibrated ones."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


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
