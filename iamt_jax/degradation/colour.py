"""Brightness, contrast, saturation and luminance."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

_Images = Float[Array, "batch height width 3"]

_LUMINANCE = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in the luminance (ITU-R BT.601)."""


def grey(images: _Images) -> _Images:
    """Luminance of images, as three equal channels."""
    luminance = sum(share * images[..., i : i + 1] for i, share in enumerate(_LUMINANCE))
    return jnp.broadcast_to(luminance, images.shape)


def brightness(images: _Images, rise: float) -> _Images:
    """Raises HSV's value, max(r, g, b), by `rise`, at most to 1; hue and saturation stay.

    With hue and saturation fixed, a colour is proportional to its value; black turns grey.
    """
    value = images.max(axis=-1, keepdims=True)
    raised = jnp.minimum(value + rise, 1)
    return jnp.where(value > 0, images * (raised / jnp.where(value > 0, value, 1)), raised)


def saturate(images: _Images, factor: float, rise: float) -> _Images:
    """Changes HSV's saturation s, 1 - min / max, to factor s + rise, limited to [0, 1].

    With hue and value v fixed, v - x is proportional to s. Grey has red's hue, as in scikit-image.
    """
    value = images.max(axis=-1, keepdims=True)
    below = value - images
    widest = below.max(axis=-1, keepdims=True)
    saturation = widest / jnp.where(value > 0, value, 1)
    hue = jnp.where(widest > 0, below / jnp.where(widest > 0, widest, 1), jnp.array([0.0, 1, 1]))
    return value * (1 - jnp.clip(factor * saturation + rise, 0, 1) * hue)


def lower_contrast(images: _Images, factor: float) -> _Images:
    """Scales the distance to the mean colour m of each image: m + factor (x - m)."""
    mean = images.mean(axis=(1, 2), keepdims=True)
    return mean + factor * (images - mean)
