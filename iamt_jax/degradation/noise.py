"""Random noise: every draw of an image comes from its own key. Results may leave [0, 1]."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

Images = Float[Array, "batch height width 3"]
Keys = Key[Array, " batch"]


def gaussian_noise(
    images: Float[Array, "batch height width 3"],
    sigma: Float[Array, " batch"] | float,
    keys: Key[Array, " batch"],
) -> Float[Array, "batch height width 3"]:
    """Adds Gaussian noise of standard deviation sigma, [0, 1] pixel units, one key an image.

    The draw depends on nothing but the key: not on the batch, nor on the devices. The result
    may leave [0, 1].
    """
    sigma = jnp.broadcast_to(jnp.asarray(sigma, images.dtype), images.shape[:1])
    return images + sigma[:, None, None, None] * _draw(jax.random.normal, images, keys)


def speckle_noise(images: Images, sigma: float, keys: Keys) -> Images:
    """Gaussian noise in proportion to the pixel: x + x e, e ~ N(0, sigma^2)."""
    return images + images * (sigma * _draw(jax.random.normal, images, keys))


def shot_noise(images: Images, photons: int, keys: Keys) -> Images:
    """Photon counting: min(N, photons) / photons, N ~ Poisson(photons x).

    `photons` (at most about 80, for e^-photons in float32) is what a white pixel counts on
    average. N is the inverse of its distribution at one uniform draw: the number of k with
    P(N <= k) <= u. Saturation at white ends the search after `photons` terms.
    """
    uniform = _draw(jax.random.uniform, images, keys)
    rate = photons * images
    term = below = jnp.exp(-rate)
    count = jnp.zeros_like(images)
    # Unrolled, all of it is one pass over the pixels.
    for k in range(1, photons + 1):
        count += uniform >= below
        term *= rate * (1 / k)
        below += term
    return count / photons


def impulse_noise(images: Images, amount: float, keys: Keys) -> Images:
    """Salt and pepper: a value becomes 0 or 1, either with chance amount / 2.

    Every channel for itself, as `skimage.util.random_noise(mode="s&p")` has it.
    """
    uniform = _draw(jax.random.uniform, images, keys)
    return jnp.where(uniform < amount, uniform < amount / 2, images).astype(images.dtype)


def _draw(sampler: Callable, images: Images, keys: Keys) -> Images:
    """A value for each of the images' values, from each image's own key."""
    # Drawn flat: XLA's CPU compiler takes longer for a draw of several dimensions.
    size, shape = images[0].size, images.shape
    return jax.vmap(lambda key: sampler(key, (size,), images.dtype))(keys).reshape(shape)
