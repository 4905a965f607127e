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
    # With the summed axis last, a CPU takes a third of the time of the same sum in another order.
    rows = _product(images.transpose(0, 3, 1, 2), np.concatenate([cosine, -sine], 1))
    real, imag = _both(jnp.swapaxes(rows, 2, 3), *_waves(height, height))
    return Spectrum(_turned(real.cosine + imag.sine), _turned(imag.cosine - real.sine))


def inverse(found: Spectrum, width: int) -> Float[Array, "batch height width channel"]:
    """Images of a spectrum; `inverse(spectrum(x), x.shape[2])` is x."""
    height = found.real.shape[1]
    halves = jnp.concatenate([_turned(found.real), _turned(found.imag)], 2)
    real, imag = _both(halves, *_waves(height, height))
    columns = jnp.concatenate([real.cosine - imag.sine, imag.cosine + real.sine], 2)
    cosine, sine = _waves(width, width // 2 + 1)
    # Frequencies that the half leaves out are conjugates of those that it has.
    twice = np.full(cosine.shape[1], 2, np.float32)
    twice[0] = 1
    if width % 2 == 0:
        twice[-1] = 1
    waves = np.concatenate([cosine * twice, -sine * twice], 1)
    return _product(jnp.swapaxes(columns, 2, 3), waves.T).transpose(0, 2, 3, 1)


class _Products(NamedTuple):
    cosine: Array
    sine: Array


def _both(halves: Array, cosine: np.ndarray, sine: np.ndarray) -> tuple[_Products, _Products]:
    """Products of real and imaginary parts, which are stacked along axis 2, with cosines and sines
    along axis 3."""
    found = _product(halves, np.concatenate([cosine, sine], 1))
    return tuple(_Products(*jnp.split(part, 2, 3)) for part in jnp.split(found, 2, 2))


def _turned(part: Array) -> Array:
    """(batch, row, half, channel) as (batch, channel, half, row), or the other way round."""
    return part.transpose(0, 3, 2, 1)


_product = functools.partial(jnp.dot, precision="highest")


@functools.cache
def _waves(size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines, (size, count), of norm 1."""
    angles = 2 * np.pi * np.outer(np.arange(size), np.arange(count)) / size
    return tuple((wave(angles) / np.sqrt(size)).astype(np.float32) for wave in (np.cos, np.sin))
