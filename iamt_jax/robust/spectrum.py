"""Fourier transforms of images as matrix products, which run alike on every device and export."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Spectrum(NamedTuple):
    """Half of the two-dimensional spectrum of real images, with the order of `numpy.fft.rfft2`."""

    real: Float[Array, "batch row half channel"]
    imag: Float[Array, "batch row half channel"]

    def times(self, real: Array, imag: Array) -> Spectrum:
        """The product with a complex gain for each frequency."""
        return Spectrum(
            self.real * real - self.imag * imag,
            self.real * imag + self.imag * real,
        )


def spectrum(images: Float[Array, "batch height width channel"]) -> Spectrum:
    """The spectrum of images, scaled so that white noise keeps its variance in every frequency."""
    _, height, width, _ = images.shape
    cosine, sine = _waves(width, width // 2 + 1)
    rows = [_product("bywc,wk->bykc", images, wave) for wave in (cosine, -sine)]
    cosine, sine = _waves(height, height)
    real, imag = rows
    down = functools.partial(_product, "bykc,yr->brkc")
    return Spectrum(
        down(real, cosine) + down(imag, sine),
        down(imag, cosine) - down(real, sine),
    )


def inverse(found: Spectrum, width: int) -> Float[Array, "batch height width channel"]:
    """Images of a spectrum; `inverse(spectrum(x), x.shape[2])` is x."""
    height = found.real.shape[1]
    cosine, sine = _waves(height, height)
    up = functools.partial(_product, "brkc,yr->bykc")
    real = up(found.real, cosine) - up(found.imag, sine)
    imag = up(found.imag, cosine) + up(found.real, sine)
    cosine, sine = _waves(width, width // 2 + 1)
    # Frequencies that the half leaves out are conjugates of those that it has.
    twice = np.full(cosine.shape[1], 2, np.float32)
    twice[0] = 1
    if width % 2 == 0:
        twice[-1] = 1
    across = functools.partial(_product, "bykc,wk->bywc")
    return across(real, cosine * twice) - across(imag, sine * twice)


_product = functools.partial(jnp.einsum, precision="highest")


@functools.cache
def _waves(size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines, (size, count), of norm 1."""
    angles = 2 * np.pi * np.outer(np.arange(size), np.arange(count)) / size
    return tuple((wave(angles) / np.sqrt(size)).astype(np.float32) for wave in (np.cos, np.sin))
