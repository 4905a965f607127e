"""One random key an image, the same on every machine and in every batch."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key


def noise_keys(names: Sequence[str], sigma: float, seed: int) -> Key[Array, " batch"]:
    """One key an image, from its name, sigma and the seed; the same on every machine."""
    return _hashed((f"{name}/{sigma:.6g}" for name in names), seed)


def degradation_keys(
    names: Sequence[str], family: str, severity: int, seed: int
) -> Key[Array, " batch"]:
    """One key an image, from its name, family, severity and the seed; the same on every machine."""
    return _hashed((f"{name}/{family}/{severity}" for name in names), seed)


def _hashed(texts: Iterable[str], seed: int) -> Key[Array, " batch"]:
    hashes = np.array([zlib.crc32(text.encode()) for text in texts], np.uint32)
    return jax.vmap(lambda h: jax.random.fold_in(jax.random.key(seed), h))(jnp.asarray(hashes))
