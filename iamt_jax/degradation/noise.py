"""Random keys, one an image, and noise that is drawn from them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

_Images = Float[Array, "batch height width 3"]
_Keys = Key[Array, " batch"]


def noise_keys(names: Sequence[str], sigma: float, seed: int) -> Key[Array, " batch"]:
    """Returns one key an image, from its name, sigma and the seed; the same on every machine."""
    return _hashed((f"{name}/{sigma:.6g}" for name in names), seed)


def degradation_keys(
    names: Sequence[str], family: str, severity: int, seed: int
) -> Key[Array, " batch"]:
    """Returns one key an image, from its name and the other arguments; as `noise_keys`."""
    return _hashed((f"{name}/{family}/{severity}" for name in names), seed)


def _hashed(texts: Iterable[str], seed: int) -> Key[Array, " batch"]:
    hashes = np.array([zlib.crc32(text.encode()) for text in texts], np.uint32)
    return jax.vmap(lambda h: jax.random.fold_in(jax.random.key(seed), h))(jnp.asarray(hashes))


def gaussian_noise(
    images: Float[Array, "batch height width 3"],
    sigma: Float[Array, " batch"] | float,
    keys: Key[Array, " batch"],
) -> Float[Array, "batch height width 3"]:
    """Adds Gaussian noise of standard deviation `sigma` to images; usable under `jax.jit`.

    The draw depends only on the image's key (`noise_keys`), not on the batch or the devices. The
    result may leave [0, 1].
    """
    sigma = jnp.broadcast_to(jnp.asarray(sigma, images.dtype), images.shape[:1])
    return images + sigma[:, None, None, None] * _draw(jax.random.normal, images, keys)


def speckle_noise(images: _Images, sigma: float, keys: _Keys) -> _Images:
    """Adds Gaussian noise in proportion to the pixel: x + x e, e ~ N(0, sigma^2)."""
    return images + images * (sigma * _draw(jax.random.normal, images, keys))


def shot_noise(images: _Images, photons: int, keys: _Keys) -> _Images:
    """Simulates photon counting: min(N, photons) / photons, N ~ Poisson(photons x).

    N is drawn by inversion: for a uniform draw u it is the number of k with P(N <= k) <= u.
    Values saturate at white, so that `photons` terms are enough. More than about 80 are too many
    for e^-photons to fit float32.
    """
    uniform = _draw(jax.random.uniform, images, keys)
    rate = photons * images
    term = below = jnp.exp(-rate)
    count = jnp.zeros_like(images)
    # Unrolled, so that XLA fuses all terms into one pass over the pixels.
    for k in range(1, photons + 1):
        count += uniform >= below
        term *= rate * (1 / k)
        below += term
    return count / photons


def impulse_noise(images: _Images, amount: float, keys: _Keys) -> _Images:
    """Adds salt and pepper: a value becomes 0 or 1, each with probability amount / 2.

    Channels are drawn independently, as in `skimage.util.random_noise(mode="s&p")`.
    """
    uniform = _draw(jax.random.uniform, images, keys)
    return jnp.where(uniform < amount, uniform < amount / 2, images).astype(images.dtype)


def draw(
    sampler: Callable, shape: tuple[int, ...], keys: _Keys, dtype: DTypeLike = jnp.float32
) -> Array:
    """Draws an array of this shape for each key by `sampler(key, shape, dtype=dtype)`."""
    # Drawn flat, because XLA's CPU compiler is slower on a draw of several dimensions.
    drawn = jax.vmap(lambda key: sampler(key, (math.prod(shape),), dtype=dtype))(keys)
    return drawn.reshape(-1, *shape)


def _draw(sampler: Callable, images: _Images, keys: _Keys) -> _Images:
    """Draws one number for each value of each image."""
    return draw(sampler, images.shape[1:], keys, images.dtype)
