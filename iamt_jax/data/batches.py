"""Batches of decoded images: endless and shuffled for training, one padded pass for evaluation."""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from iamt_jax.config import TrainConfig
from iamt_jax.data.dataset import Records

_AHEAD = 2
"""Batches that are made while the caller uses the current one."""


class Batch(NamedTuple):
    """Images and labels of a training step, before augmentation."""

    images: UInt8[np.ndarray, "batch height width 3"]
    labels: Float[np.ndarray, "batch attribute"]
    """1, 0 or `MISSING`."""


class PaddedBatch(NamedTuple):
    """A batch of an evaluation; `real` is False for the copies that pad the last batch."""

    images: UInt8[np.ndarray, "batch height width 3"]
    indices: np.ndarray
    """Row of each image in the records."""
    real: Bool[np.ndarray, " batch"]


def training_batches(
    records: Records,
    size: int,
    train: TrainConfig,
    *,
    start: int = 0,
    process: int = 0,
    processes: int = 1,
) -> Iterator[Batch]:
    """Yields this process's block of each shuffled batch, endlessly; ahead of the caller.

    The order depends on `train.seed` alone and is reshuffled every epoch. The global batch of a
    step is cut into one block a process, so that it holds the same images for any number of
    processes and all blocks have the same length. The step is the whole state of the iterator: a
    resumed run passes it as `start`, and may change the number of processes.
    """
    block = train.batch_size // processes

    def batch(step: int) -> Batch:
        rows = shuffled(len(records), train.seed, step * train.batch_size + process * block, block)
        return Batch(records.pictures(rows, size), records.labels[rows].astype(np.float32))

    with ThreadPoolExecutor(1) as ahead:
        pending = deque(ahead.submit(batch, start + i) for i in range(_AHEAD))
        for step in itertools.count(start + _AHEAD):
            pending.append(ahead.submit(batch, step))
            yield pending.popleft().result()


def shuffled(images: int, seed: int, start: int, count: int) -> Int[np.ndarray, " count"]:
    """Returns the places `start` to `start + count` of an endless sequence that holds every image
    once an epoch, in an order that depends on the seed and the epoch."""
    places = np.arange(start, start + count)
    first, last = start // images, (start + count - 1) // images
    orders = [_order(images, seed, epoch) for epoch in range(first, last + 1)]
    return np.concatenate(orders)[places - first * images]


@functools.lru_cache(maxsize=2)
def _order(images: int, seed: int, epoch: int) -> Int[np.ndarray, " image"]:
    """Order of an epoch, drawn once for all its batches."""
    return np.random.default_rng((seed, epoch)).permutation(images)


def evaluation_batches(records: Records, size: int, batch_size: int) -> Iterator[PaddedBatch]:
    """Yields every image once, in the order of the records, in batches of one size.

    The last batch is padded with copies, which `PaddedBatch.real` marks, so that a compiled
    function sees one shape. The next batch is decoded while the caller uses the current one.
    """

    def batch(start: int) -> PaddedBatch:
        indices = np.arange(start, start + batch_size)
        real = indices < len(records)
        indices = np.minimum(indices, len(records) - 1)
        pictures = records.pictures(indices[real], size)
        copies = np.repeat(pictures[-1:], (~real).sum(), axis=0)
        return PaddedBatch(np.concatenate([pictures, copies]), indices, real)

    with ThreadPoolExecutor(1) as ahead:
        starts = range(0, len(records), batch_size)
        pending = [ahead.submit(batch, start) for start in starts[:1]]
        for start in starts:
            if start + batch_size < len(records):
                pending.append(ahead.submit(batch, start + batch_size))
            yield pending.pop(0).result()
