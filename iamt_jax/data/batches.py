"""From records to batches: Grain for training, a padded pass for evaluation."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import resource_tracker
from pathlib import Path
from typing import NamedTuple

import grain
import numpy as np
from jaxtyping import Bool, Float, UInt8

from iamt_jax.config import DataConfig, TrainConfig
from iamt_jax.data.augment import Augment
from iamt_jax.data.celeba import Records, decode
from iamt_jax.errors import InputError
from iamt_jax.signals import ENDING

DECODE_THREADS = 4
"""Threads that decode ahead; decoding releases Python's lock."""


_SHARED_MEMORY = Path("/dev/shm")
"""Where Grain's workers leave batches, on Linux."""

_BATCHES_HELD = 5
"""Batches in shared memory for each worker, as measured; and one more that is in use."""

_CAUSES = {
    "SIGKILL": ", as the system does where memory runs out",
    "SIGBUS": f", as happens where {_SHARED_MEMORY} is full",
}
"""What commonly ends a worker."""


class Batch(NamedTuple):
    """Images and labels of a training step."""

    images: UInt8[np.ndarray, "batch height width 3"]
    labels: Float[np.ndarray, "batch attribute"]
    """1, 0, what lies between after mixup, or `MISSING`."""


class PaddedBatch(NamedTuple):
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
        image = decode(self.records.read(index), self.size, self.records.images.location(index))
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
    iterator = share.map(_as_batch).to_iter_dataset(
        grain.ReadOptions(num_threads=DECODE_THREADS, prefetch_buffer_size=8)
    )
    workers = _workers_that_fit(data.workers, data.size, train.batch_size // processes, records)
    if not workers:
        return iter(iterator)
    _start_tracker()
    options = grain.MultiprocessingOptions(num_workers=workers)
    return _explain_lost_workers(iter(iterator.mp_prefetch(options, _begin_worker)), workers)


def _workers_that_fit(workers: int, size: int, batch: int, records: Records) -> int:
    """How many of the workers shared memory has room for, with a warning if not for all."""
    batch_bytes = batch * (size * size * 3 + 4 * len(records.attributes))
    if not workers or not _SHARED_MEMORY.is_dir():
        return workers
    free = shutil.disk_usage(_SHARED_MEMORY).free
    fitting = max(0, min(workers, (free // batch_bytes - 1) // _BATCHES_HELD))
    if fitting < workers:
        need = (workers * _BATCHES_HELD + 1) * batch_bytes
        instead = f"by {fitting} of them" if fitting else "in threads"
        print(
            f"warning: --data.workers {workers}: need {need / 1e6:,.0f} MB of shared memory, and "
            f"{_SHARED_MEMORY} has {free / 1e6:,.0f} MB free; decoding {instead}, with the same "
            "result (in a container, docker run --shm-size gives more)",
            file=sys.stderr,
        )
    return fitting


def _start_tracker() -> None:
    """Starts Python's process that frees shared memory which its users left, as it is wanted here:
    deaf to signals, as workers are, and silent about what it frees where one was killed."""
    before = os.environ.get("PYTHONWARNINGS")
    silent = "ignore::UserWarning:multiprocessing.resource_tracker"
    os.environ["PYTHONWARNINGS"] = f"{before},{silent}" if before else silent
    mask = (
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        if hasattr(signal, "pthread_sigmask")
        else None
    )
    try:
        resource_tracker.ensure_running()
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.environ.pop("PYTHONWARNINGS")
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


def _begin_worker(_index: int, _count: int) -> None:
    """A signal to the whole session or job leaves the workers to the main process, which saves and
    then ends them; they end with it, however it ends."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)

    def end_with(parent) -> None:
        parent.join()
        os._exit(1)

    parent = multiprocessing.parent_process()
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()


def _explain_lost_workers(batches: Iterator[Batch], workers: int) -> Iterator[Batch]:
    """The batches.

    Raises:
      InputError: a worker was ended from outside; Grain has no type for that error.
    """
    try:
        yield from batches
    except RuntimeError as error:
        found = re.search(r"terminated unexpectedly with exit code (-?\d+)", str(error))
        if found is None:
            raise
        code = int(found[1])
        by = signal.Signals(-code).name if code < 0 else f"status {code}"
        raise InputError(
            f"--data.workers {workers}: one of them ended by {by}{_CAUSES.get(by, '')}; give "
            "fewer, or 0, with --resume.allow data.workers, to continue this run"
        ) from None


def _as_batch(batch: tuple[np.ndarray, np.ndarray]) -> Batch:
    return Batch(*batch)


def evaluation_batches(records: Records, size: int, batch_size: int) -> Iterator[PaddedBatch]:
    """Every image once and in order; the last batch is filled up with copies that do not count.

    One batch is decoded ahead while the last one is being used.
    """
    source = Decoded(records, size)

    def batch(start: int, pool: ThreadPoolExecutor) -> PaddedBatch:
        indices = np.arange(start, start + batch_size)
        real = indices < len(records)
        indices = np.minimum(indices, len(records) - 1)
        pictures = np.empty((batch_size, size, size, 3), np.uint8)
        for row, picture in enumerate(pool.map(source.picture, indices[real].tolist())):
            pictures[row] = picture
        pictures[~real] = pictures[real.sum() - 1]
        return PaddedBatch(pictures, indices, real)

    with ThreadPoolExecutor(DECODE_THREADS) as pool, ThreadPoolExecutor(1) as ahead:
        starts = range(0, len(records), batch_size)
        pending = [ahead.submit(batch, start, pool) for start in starts[:1]]
        for start in starts:
            if start + batch_size < len(records):
                pending.append(ahead.submit(batch, start + batch_size, pool))
            yield pending.pop(0).result()
