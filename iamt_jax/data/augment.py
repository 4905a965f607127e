"""Augmentation of training images on the device: mirroring, small motions, colour, mixup.

Every draw is keyed by image, so that the number of devices changes nothing.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from iamt_jax.config import MISSING, DataConfig

_Images = Float[Array, "batch side side 3"]


def augment(images: _Images, keys: Key[Array, " batch"], config: DataConfig) -> _Images:
    """Applies one random draw for each image of every augmentation that `config` turns on.

    See `DataConfig.flip`, `shift`, `zoom`, `rotate` and `colour`.

    Args:
      images: float32 in [0, 1] units.
      keys: one for each image.
      config: which augmentations, and how strong.
    """

    def draw(use: int, low: float, high: float, count: int = 1) -> Array:
        """Uniform draws, (batch, count)."""
        own = jax.vmap(lambda key: jax.random.fold_in(key, use))(keys)
        return jax.vmap(lambda key: jax.random.uniform(key, (count,), minval=low, maxval=high))(own)

    if config.flip:
        mirrored = draw(0, 0, 1)[:, :, None, None] < 0.5
        images = jnp.where(mirrored, images[:, :, ::-1], images)
    if config.shift or config.zoom or config.rotate:
        angle = draw(1, -config.rotate, config.rotate)[:, 0]
        zoom = (1 + config.zoom) ** draw(2, -1, 1)[:, 0]
        shift = draw(3, -config.shift, config.shift, 2)
        if config.rotate > 45:
            images, angle = quarter_turned(images, angle)
        images = move(images, jnp.deg2rad(angle), zoom, shift, reach(config, images.shape[1]))
    if config.colour:
        factors = draw(4, 1 - config.colour, 1 + config.colour, 3)
        images = recolour(images, factors)
    return images


def quarter_turned(
    images: _Images, angle: Float[Array, " batch"]
) -> tuple[_Images, Float[Array, " batch"]]:
    """Turns each image by the nearest multiple of 90 degrees; also returns the rest, degrees."""
    quarters = jnp.round(angle / 90)
    turned = [jnp.rot90(images, turns, axes=(1, 2)) for turns in range(4)]
    chosen = [(quarters % 4 == turns)[:, None, None, None] for turns in range(4)]
    return jnp.select(chosen, turned), angle - 90 * quarters


def reach(config: DataConfig, side: int) -> tuple[int, int]:
    """Largest distance, in whole pixels, over which `move` carries a pixel across, and down."""
    half, shift, zoom = side / 2, config.shift * side, 1 + config.zoom
    angle = math.radians(min(config.rotate, 45))
    down = half * (math.sin(angle) * zoom + max(zoom - 1, 1 - math.cos(angle) / zoom)) + shift
    across = (
        half * max(zoom / math.cos(angle) - 1, 1 - 1 / zoom)
        + math.tan(angle) * (half + math.ceil(down))
        + shift * (1 + math.tan(angle))
    )
    return math.ceil(across), math.ceil(down)


def move(
    images: _Images,
    angle: Float[Array, " batch"],
    zoom: Float[Array, " batch"],
    shift: Float[Array, "batch 2"],
    reach: tuple[int, int],
) -> _Images:
    """Rotates about the centre, zooms and shifts each image, mirrored at the border.

    A pixel p of the result, seen from the centre, shows the place R(angle) p / zoom + shift side of
    the image, by linear interpolation along the rows, then along the columns (Catmull and Smith
    1980). Each of the two passes is a weighted sum of shifted copies of the image, as many as
    `reach` says, without a gather, so that all pixels of a row are computed together.

    Args:
      images: square.
      angle: radians, at most a quarter of pi.
      zoom: factor above 0.
      shift: across and down, as a share of the side.
      reach: of `reach`, for the largest motion.
    """
    side, (across, down) = images.shape[1], reach
    angle, zoom, x, y = (v[:, None, None] for v in (angle, zoom, *(shift * side).T))
    tan, cos, sin = jnp.tan(angle), jnp.cos(angle), jnp.sin(angle)
    place = jnp.arange(side) - (side - 1) / 2
    rows = (jnp.arange(-down, side + down) - (side - 1) / 2)[:, None]
    planes = jnp.moveaxis(images, -1, 1)  # Columns last: vectors run along a row.
    border = (0, 0), (0, 0), (down, down), (across, across)
    planes = jnp.pad(planes, border, mode="reflect")
    planes = _resampled(planes, place / (zoom * cos) - tan * (rows - y) + x - place, across, 3)
    planes = _resampled(
        planes, (sin * place + cos * place[:, None]) / zoom + y - place[:, None], down, 2
    )
    return jnp.moveaxis(planes, 1, -1)


def _resampled(
    planes: Float[Array, "batch 3 row column"], distance: Array, reach: int, axis: int
) -> Array:
    """Linear interpolation at a distance from each pixel, along an axis with a border of `reach` on
    both sides."""
    side = planes.shape[axis] - 2 * reach
    total = 0.0
    for step in range(-reach, reach + 1):
        weight = jnp.maximum(1 - jnp.abs(distance - step), 0)[:, None]
        total += weight * jax.lax.slice_in_dim(planes, reach + step, reach + step + side, axis=axis)
    return total


def recolour(images: _Images, factors: Float[Array, "batch 3"]) -> _Images:
    """Scales brightness, saturation and contrast of each image by its three factors."""
    brightness, saturation, contrast = (factor[:, None, None, None] for factor in factors.T)
    images = images * brightness
    grey = jnp.mean(images, axis=3, keepdims=True)
    images = grey + (images - grey) * saturation
    mean = jnp.mean(images, axis=(1, 2, 3), keepdims=True)
    return jnp.clip(mean + (images - mean) * contrast, 0, 1)


def mixup(
    images: _Images,
    labels: Float[Array, "batch attribute"],
    keys: Key[Array, " batch"],
    strength: float,
    axis: str,
) -> tuple[_Images, Float[Array, "batch attribute"]]:
    """Blends each image and its labels with the next of the global batch (Zhang et al. 2018).

    The share of the first is drawn from Beta(strength, strength). A label that is missing in
    either image is missing in the result.

    Args:
      images: of one device, in any units.
      labels: 1, 0 or `MISSING`.
      keys: one for each image.
      strength: above 0.
      axis: the mapped axis over devices, whose images follow each other in the global batch.
    """
    devices = jax.lax.psum(1, axis)
    before = [(i, (i - 1) % devices) for i in range(devices)]

    def following(x: Array) -> Array:
        return jnp.concatenate([x[1:], jax.lax.ppermute(x[:1], axis, before)])

    draw = jax.vmap(lambda key: jax.random.beta(jax.random.fold_in(key, 5), strength, strength))
    share = draw(keys)
    others = following(labels)
    missing = (labels == MISSING) | (others == MISSING)
    blended = share[:, None] * labels + (1 - share[:, None]) * others
    share = share[:, None, None, None]
    images = share * images + (1 - share) * following(images)
    return images, jnp.where(missing, MISSING, blended)
