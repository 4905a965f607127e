"""Gaussian blur of square images and maps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def blurred(images: Float[Array, "*batch y x"], spread: float) -> Float[Array, "*batch y x"]:
    """Two products with one matrix, rows of which sum to 1, so that a constant stays constant.

    Args:
      images: square, colours in front if there are any.
      spread: standard deviation as a share of the side.
    """
    side = images.shape[-1]
    place = jnp.arange(side, dtype=jnp.float32)
    blur = jax.nn.softmax(-jnp.square((place[:, None] - place) / (spread * side)) / 2, axis=1)
    return jnp.einsum("...yx,vy,ux->...vu", images, blur, blur)


def coarse(images: Float[Array, "*batch y x 3"]) -> Float[Array, "*batch y x 3"]:
    """Images of which only the coarsest is left: what stands where a pixel is hidden."""
    return jnp.moveaxis(blurred(jnp.moveaxis(images, -1, -3), 0.1), -3, -1)
