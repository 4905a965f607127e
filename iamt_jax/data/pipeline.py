"""From records to batches: Grain for training, a padded pass for evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import grain
import numpy as np
from jaxtyping import Bool, Float, UInt8

from iamt_jax.config import DataConfig, TrainConfig
from iamt_jax.data.augmentation import Augment
from iamt_jax.data.celeba import Records, decode

THREADS = 4
"""Threads that decode ahead; decoding releases Python's lock."""


class Batch(NamedTuple):
    """Images and labels of a training step."""

    images: UInt8[np.ndarray, "batch height width 3"]
    labels: Float[np.ndarray, "batch attribute"]
    """1, 0, what lies between after mixup, or `MISSING`."""


class Padded(NamedTuple):
    """A batch of evaluation, filled up to its size; `real` says which rows count."""

    images: UInt8[np.ndarray, "batch height width 3"]
    indices: np.ndarray
    real: Bool[np.ndarray, " batch"]


class Decoded:
    """Random access to decoded examples (image, label) of one size, remembered if they fit.

    Safe to share between threads: a picture that two of them decode at once is decoded twice
    and stored twice, with the same bytes.
    """

    def __init__(self, records: Records, size: int, cache_gib: float = 0.0):
        self.records, self.size = records, size
        shape = (len(records), size, size, 3)
        self._pictures = None
        if np.prod(shape, dtype=np.int64) <= cache_gib * 2**30:
            self._pictures = np.empty(shape, np.uint8)
            self._known = np.zeros(len(records), bool)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index) -> tuple[np.ndarray, np.ndarray]:
        return self.picture(int(index)), self.records.labels[index]

    def picture(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """The image, decoded, cropped and resized."""
        if self._pictures is not None and self._known[index]:
            return self._pictures[index]
        image = decode(self.records.read(index), self.size, self.records.images.place(index))
        if self._pictures is not None:
            self._pictures[index] = image
            self._known[index] = True
        return image


def training_batches(
    records: Records,
    data: DataConfig,
    train: TrainConfig,
    *,
    start: int = 0,
    process: int = 0,
    processes: int = 1,
) -> Iterator[Batch]:
    """An endless iterator of this process's share of shuffled, augmented global batches, from
    step `start` on.

    The order of the whole is decided by the seed alone, reshuffled each epoch. A step's batch is
    cut into one block a process, so that it is the same, image by image, whatever their number,
    and no share is ever shorter. The step is all that there is to know of the place in the
    order: neither workers nor processes leave a trace in it.
    """
    # Each worker process would keep, and fill, a cache of its own.
    source = Decoded(records, data.size, 0.0 if data.workers else data.cache_gib)
    examples = grain.MapDataset.source(source).seed(train.seed).shuffle().repeat()
    blocks = examples.random_map(Augment(data, source)).batch(train.batch_size // processes)
    share = blocks[start * processes + process :: processes]
    iterator = share.map(_named).to_iter_dataset(
        grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=8)
    )
    if data.workers:
        iterator = iterator.mp_prefetch(grain.MultiprocessingOptions(num_workers=data.workers))
    return iter(iterator)


def _named(batch: tuple[np.ndarray, np.ndarray]) -> Batch:
    return Batch(*batch)


def evaluation_batches(records: Records, size: int, batch_size: int) -> Iterator[Padded]:
    """Every image once and in order; the last batch is filled up with copies that do not count.

    One batch is decoded ahead while the last one is being used.
    """
    source = Decoded(records, size)

    def batch(start: int, pool: ThreadPoolExecutor) -> Padded:
        indices = np.arange(start, start + batch_size)
        real = indices < len(records)
        indices = np.minimum(indices, len(records) - 1)
        pictures = np.empty((batch_size, size, size, 3), np.uint8)
        for row, picture in enumerate(pool.map(source.picture, indices[real].tolist())):
            pictures[row] = picture
        pictures[~real] = pictures[real.sum() - 1]
        return Padded(pictures, indices, real)

    with ThreadPoolExecutor(THREADS) as pool, ThreadPoolExecutor(1) as ahead:
        starts = range(0, len(records), batch_size)
        pending = [ahead.submit(batch, start, pool) for start in starts[:1]]
        for start in starts:
            if start + batch_size < len(records):
                pending.append(ahead.submit(batch, start + batch_size, pool))
            yield pending.pop(0).result()
