"""Light: brightness and contrast."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

Images = Float[Array, "batch height width 3"]


def brightness(images: Images, rise: float) -> Images:
    """Raises HSV's value, max(r, g, b), by `rise`, at most to 1; hue and saturation stay.

    With these two fixed, a colour is proportional to its value; black turns grey.
    """
    value = images.max(axis=-1, keepdims=True)
    raised = jnp.minimum(value + rise, 1)
    return jnp.where(value > 0, images * (raised / jnp.where(value > 0, value, 1)), raised)


def contrast(images: Images, factor: float) -> Images:
    """Scales the distance to the image's mean colour: m + factor (x - m)."""
    mean = images.mean(axis=(1, 2), keepdims=True)
    return mean + factor * (images - mean)
