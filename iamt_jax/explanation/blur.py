"""Gaussian blur of images and maps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def blurred(images: Float[Array, "*batch y x"], spread: float) -> Float[Array, "*batch y x"]:
    """Blurs by one matrix product an axis; rows of the matrices sum to 1, so that a constant stays
    constant.

    Args:
      images: colours in front if there are any.
      spread: standard deviation as a share of the shorter side.
    """
    deviation = spread * min(images.shape[-2:])

    def blur(length: int) -> Array:
        place = jnp.arange(length, dtype=jnp.float32)
        exponent = -jnp.square((place[:, None] - place) / deviation) / 2
        return jax.nn.softmax(exponent, axis=1).astype(images.dtype)

    down, across = map(blur, images.shape[-2:])
    return jnp.einsum("...yx,vy,ux->...vu", images, down, across)


def coarse(images: Float[Array, "*batch y x 3"]) -> Float[Array, "*batch y x 3"]:
    """The image with everything finer than a tenth of its shorter side blurred away: what stands
    in where a pixel is hidden."""
    return jnp.moveaxis(blurred(jnp.moveaxis(images, -1, -3), 0.1), -3, -1)
