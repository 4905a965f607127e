"""The images that calibration learns from, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8

BATCH_SIZE = 128
"""Images processed at once."""

Pictures = UInt8[np.ndarray, "image height width 3"]


def float_batches(pictures: Pictures) -> Iterator[Float[np.ndarray, "batch height width 3"]]:
    """Images in [0, 1], `BATCH_SIZE` at a time."""
    for start in range(0, len(pictures), BATCH_SIZE):
        yield pictures[start : start + BATCH_SIZE].astype(np.float32) / 255


def joined(run: Callable, batches: Iterable[Array]):
    """Applies a function to each batch, and joins its results along the images."""
    return jax.tree.map(lambda *x: np.concatenate(x), *[run(images) for images in batches])
