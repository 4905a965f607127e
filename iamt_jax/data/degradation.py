"""What happens to images between the world and the network: noise, keyed by image."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key


def gaussian_noise(
    images: Float[Array, "batch height width 3"],
    sigma: Float[Array, " batch"] | float,
    keys: Key[Array, " batch"],
) -> Float[Array, "batch height width 3"]:
    """Adds Gaussian noise of standard deviation sigma, [0, 1] pixel units, one key an image.

    The draw depends on nothing but the key: not on the batch, nor on the devices. The result
    may leave [0, 1].
    """
    # Drawn flat: XLA's CPU compiler takes longer for a draw of several dimensions.
    size, shape = images[0].size, images.shape
    draw = jax.vmap(lambda key: jax.random.normal(key, (size,), images.dtype))
    sigma = jnp.broadcast_to(jnp.asarray(sigma, images.dtype), images.shape[:1])
    return images + sigma[:, None, None, None] * draw(keys).reshape(shape)


def noise_keys(names: Sequence[str], sigma: float, seed: int) -> Key[Array, " batch"]:
    """One key an image, from its name, sigma and the seed; the same on every machine."""
    hashes = np.array([zlib.crc32(f"{name}/{sigma:.6g}".encode()) for name in names], np.uint32)
    return jax.vmap(lambda h: jax.random.fold_in(jax.random.key(seed), h))(jnp.asarray(hashes))
