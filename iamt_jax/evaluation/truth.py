"""Does a map tell the truth? Energy and pointing against a region, deletion and insertion.

Maps are (pair, y, x), a pair being an image and an attribute; greater is more evidence for what
the network says. A map has no scale: only its shape counts.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

STEPS = 16
"""Shares of the image that are taken out, or put in: 1/16, 2/16, ... all."""

Maps = Float[Array, "pair y x"]
Scores = Float[Array, " pair"]


def energy_inside(maps: Maps, regions: Bool[Array, "pair y x"]) -> Scores:
    """Share of the map's positive part that lies in the region (Wang et al. 2020); 0 for a map
    that is nowhere positive."""
    positive = jnp.maximum(maps, 0)
    total = jnp.sum(positive, axis=(1, 2))
    return jnp.sum(positive * regions, axis=(1, 2)) / jnp.where(total > 0, total, 1)


def pointing(maps: Maps, regions: Bool[Array, "pair y x"]) -> Scores:
    """The pointing game (Zhang et al. 2018): 1 where the map's greatest value lies in the
    region; of several greatest the share that does."""
    peak = maps == jnp.max(maps, axis=(1, 2), keepdims=True)
    return jnp.sum(peak & regions, axis=(1, 2)) / jnp.sum(peak, axis=(1, 2))


def deletion(said: Callable, images: Array, maps: Maps, hidden: Array) -> Scores:
    """Area under the probability of what was said over the share of pixels that is hidden, most
    important first, by the trapezoid rule (RISE, Petsiuk et al. 2018). Lower is better.

    Args:
      said: images (pair, y, x, 3) -> probability (pair) of what the network said of the whole.
      images: (pair, y, x, 3).
      maps: ranks the pixels.
      hidden: what stands in a hidden pixel's place, as the images; blurred images, say.
    """
    return _curve(said, images, hidden, maps)


def insertion(said: Callable, images: Array, maps: Maps, hidden: Array) -> Scores:
    """The same while pixels are shown, most important first. Higher is better."""
    return _curve(said, hidden, images, maps)


def _curve(said: Callable, before: Array, after: Array, maps: Maps) -> Scores:
    """Area under `said` on the way from one image to the other, which has length 1."""
    place = ranks(maps)[..., None]
    pixels = maps.shape[1] * maps.shape[2]
    steps = [said(jnp.where(place * STEPS < i * pixels, after, before)) for i in range(STEPS + 1)]
    return jnp.trapezoid(jnp.stack(steps), dx=1 / STEPS, axis=0)


def ranks(maps: Maps) -> Int[Array, "pair y x"]:
    """Each pixel's place, 0 for the greatest."""
    flat = maps.reshape(len(maps), -1)
    order = jnp.argsort(-flat, axis=1, stable=True)
    return jnp.argsort(order, axis=1).reshape(maps.shape)


def spearman(first: Maps, second: Maps) -> Scores:
    """Rank correlation of two maps, signs included."""

    def centred(maps: Maps) -> Array:
        place = ranks(maps).reshape(len(maps), -1).astype(jnp.float32)
        return place - jnp.mean(place, axis=1, keepdims=True)

    a, b = centred(first), centred(second)
    return jnp.sum(a * b, axis=1) / jnp.sqrt(jnp.sum(a * a, axis=1) * jnp.sum(b * b, axis=1))
