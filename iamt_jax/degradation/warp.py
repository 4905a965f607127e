"""Zoom blur and elastic deformation: pixels taken from other places, by bilinear interpolation."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, Key

from iamt_jax.degradation.blur import gaussian_blur
from iamt_jax.degradation.noise import draw

_Images = Float[Array, "batch height width channel"]


def zoom_blur(images: _Images, limit: float, step: float) -> _Images:
    """Averages each image and its enlargements by the factors 1, 1 + step, ... below `limit`."""
    factors = np.arange(1, limit, step)
    return (images + sum(enlarged(images, x) for x in factors)) / (len(factors) + 1)


def enlarged(images: _Images, factor: float) -> _Images:
    """Enlarges the centre of images `factor` times, so that it fills them.

    Equals ImageNet-C's `clipped_zoom`, which enlarges a whole number of pixels by SciPy's `zoom`.
    """
    for axis in (1, 2):
        size = images.shape[axis]
        part = math.ceil(size / factor)
        whole = round(part * factor)
        places = np.arange(size) + (whole - size) // 2
        places = (size - part) // 2 + places * ((part - 1) / (whole - 1))
        low = np.floor(places).astype(int)
        weight = np.expand_dims(np.float32(places - low), [i for i in range(4) if i != axis])
        low, high = (jnp.take(images, i.clip(0, size - 1), axis) for i in (low, low + 1))
        images = (1 - weight) * low + weight * high
    return images


def elastic_transform(
    images: _Images, alpha: float, sigma: float, shift: float, keys: Key[Array, " batch"]
) -> _Images:
    """Applies a random affine map, then moves each pixel by a smooth random field.

    The affine map moves each of three corners of a square in the centre by up to `shift` along x
    and along y. The field is uniform noise in [-1, 1], blurred with `sigma`, times `alpha`. All
    three are shares of the shorter side.
    """
    height, width = images.shape[1:3]
    side = min(height, width)
    keys = jax.vmap(jax.random.split)(keys)
    uniform = functools.partial(jax.random.uniform, minval=-1, maxval=1)
    corners = np.array([[1, 1], [1, -1], [-1, -1]]) * (side // 3) + (width // 2, height // 2)
    moved = corners + shift * side * draw(uniform, (3, 2), keys[:, 0])
    field = draw(uniform, (height, width, 2), keys[:, 1])
    field = alpha * side * gaussian_blur(field, sigma * side, truncate=3, mode="reflect")
    # The inverse map, from (x, y, 1) of a pixel to its source.
    places = jnp.append(moved, jnp.ones((len(images), 3, 1)), axis=-1)
    affine = jnp.linalg.solve(places, jnp.broadcast_to(corners, moved.shape).astype(jnp.float32))
    y, x = np.mgrid[:height, :width].astype(np.float32)[..., None]
    source = x * affine[:, None, None, 0] + y * affine[:, None, None, 1] + affine[:, None, None, 2]
    images = _taken(images, source[..., 1], source[..., 0], "mirror")
    return _taken(images, y[..., 0] + field[..., 1], x[..., 0] + field[..., 0], "reflect")


def _taken(images: _Images, rows: Array, columns: Array, mode: str) -> _Images:
    """Takes each pixel of an image from a place, one of its own for each image."""
    plane = functools.partial(map_coordinates, order=1, mode=mode)
    channels = jax.vmap(lambda x, *places: plane(x, places), (-1, None, None), -1)
    return jax.vmap(channels)(images, rows, columns)
