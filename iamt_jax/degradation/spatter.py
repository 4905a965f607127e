"""Drops of water or mud on the lens, in SciPy: they need distances and a histogram."""

from __future__ import annotations

import math

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key
from scipy import ndimage

from iamt_jax.degradation.noise import draw

_Plane = Float[np.ndarray, "height width"]

_WATER = np.array([175, 238, 238]) / 255
_MUD = np.array([63, 42, 20]) / 255

_RELIEF = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
"""Filter that lightens one side of a drop and darkens the other."""


def spatter(
    images: Float[np.ndarray, "batch height width 3"],
    mean: float,
    spread: float,
    sigma: float,
    least: float,
    water: float,
    mud: float,
    keys: Key[Array, " batch"],
) -> Float[np.ndarray, "batch height width 3"]:
    """Adds drops where smoothed Gaussian noise is large; an image without such a place stays.

    Args:
      images: float32 in [0, 1].
      mean: mean of the noise.
      spread: its standard deviation before it is smoothed.
      sigma: standard deviation of the Gaussian blur that smooths it, in pixels.
      least: value from which on there is a drop.
      water: opacity of drops of water; 0 means mud.
      mud: standard deviation of the Gaussian blur that smooths drops of mud, in pixels.
      keys: one an image.
    """
    noise = np.asarray(draw(jax.random.normal, images.shape[1:3], keys), np.float64)
    spattered = []
    for image, one in zip(images, mean + spread * noise, strict=True):
        layer = ndimage.gaussian_filter(one, sigma, mode="nearest")
        layer = np.where(layer < least, 0, layer)
        if water:
            spattered.append(image + water * _drops(layer)[..., None] * _WATER)
        else:
            cover = ndimage.gaussian_filter(np.float64(layer > 0), mud, mode="nearest")
            cover = np.where(cover < 0.8, 0, cover)[..., None]
            spattered.append(image * (1 - cover) + cover * _MUD)
    return np.clip(spattered, 0, 1).astype(np.float32)


def _drops(layer: _Plane) -> _Plane:
    """Brightness of drops of water, from 0 to 1: a relief by the distance to their edges."""
    layer = np.floor(layer * 255)
    edges = _edges(layer, 50, 150)
    distance = np.full(layer.shape, 20)
    if edges.any():
        distance = ndimage.distance_transform_edt(~edges).clip(max=20)
    relief = _equalised(np.floor(_mean(distance)).astype(int))
    relief = ndimage.correlate(relief, _RELIEF, mode="mirror").clip(0, 255)
    drops = layer * np.rint(_mean(relief))
    return drops / max(drops.max(), 1)


def _edges(levels: _Plane, low: float, high: float) -> Bool[np.ndarray, "height width"]:
    """Finds edges by Canny's method: ridges of the gradient above `low`, connected to one above
    `high`. Equals OpenCV's `Canny`."""
    down, right = (ndimage.sobel(levels, axis, mode="nearest") for axis in (0, 1))
    steep, flat = abs(down), abs(right)
    size = steep + flat
    padded = np.pad(size, 1)
    height, width = levels.shape

    def beside(row: int, column: int) -> _Plane:
        return padded[1 + row : 1 + row + height, 1 + column : 1 + column + width]

    # A ridge is higher than its two neighbours in the gradient's direction, of four directions.
    slope = math.tan(math.pi / 8)
    directions = [
        (steep < slope * flat, (0, 1)),
        (steep > (slope + 2) * flat, (1, 0)),
        (down * right < 0, (1, -1)),
        (np.ones_like(size, bool), (1, 1)),
    ]
    conditions = [condition for condition, _ in directions]
    before = np.select(conditions, [beside(-row, -column) for _, (row, column) in directions])
    after = np.select(conditions, [beside(row, column) for _, (row, column) in directions])
    straight = conditions[0] | conditions[1]
    ridges = (size > low) & (size > before) & (size > after - straight)
    groups, _ = ndimage.label(ridges, np.ones((3, 3)))
    return ridges & np.isin(groups, groups[ridges & (size > high)])


def _mean(values: _Plane) -> _Plane:
    # Not by uniform_filter, whose running sum makes the mean of equal numbers another number.
    return ndimage.correlate(np.float64(values), np.ones((3, 3)), mode="mirror") / 9


def _equalised(levels: Int[np.ndarray, "height width"]) -> _Plane:
    """Spreads levels over 0 to 255 by their ranks, as OpenCV's `equalizeHist`."""
    below = np.bincount(levels.ravel()).cumsum()
    first = below[levels.min()]
    if first == levels.size:  # One level alone stays.
        return np.float64(levels)
    return np.rint(255 * (below[levels] - first) / (levels.size - first))
