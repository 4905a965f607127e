"""Large pixels, as Pillow's 8-bit BOX filter makes them."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Images = Float[Array, "batch height width 3"]

PRECISION = 22
"""Pillow's weights of 8-bit pixels are multiples of 2^-22."""


def pixelate(images: Images, fraction: float) -> Images:
    """Shrinks to `fraction` of each side and back, both with Pillow's BOX filter, bit by bit.

    Pixels are rounded to 8 bits first, and the result is a multiple of 1/255.
    """
    levels = jnp.round(images * 255).astype(jnp.int32)
    height, width = images.shape[1:3]
    small = (max(1, int(height * fraction)), max(1, int(width * fraction)))
    for rows, columns in (small, (height, width)):
        levels = _resize(_resize(levels, 2, columns), 1, rows)
    return levels.astype(jnp.float32) / 255


def _resize(levels: Int[Array, "..."], axis: int, size: int) -> Int[Array, "..."]:
    weights = _box(levels.shape[axis], size)
    total = jnp.moveaxis(jnp.tensordot(levels, weights, ((axis,), (1,))), -1, axis)
    return (total + (1 << PRECISION - 1)) >> PRECISION


def _box(old: int, new: int) -> Int[np.ndarray, "new old"]:
    """Each new pixel is the mean of the old ones whose centres its box covers."""
    scale = old / new
    wide = max(scale, 1)
    pixel, centre = np.arange(old), (np.arange(new)[:, None] + 0.5) * scale
    # Where a pixel ends half a box away, the rounding of this window decides, as in Pillow.
    first = (centre - wide / 2 + 0.5).astype(int)
    last = (centre + wide / 2 + 0.5).astype(int)
    distance = (pixel - centre + 0.5) / wide
    covered = (distance > -0.5) & (distance <= 0.5) & (first <= pixel) & (pixel < last)
    share = covered / covered.sum(axis=1, keepdims=True)
    return (share * (1 << PRECISION) + 0.5).astype(np.int32)
