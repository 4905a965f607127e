"""Batches of decoded images: endless and shuffled for training, one padded pass for evaluation.

`training_batches` and `evaluation_batches` both read through `Decoded`, so that both see the same
pixels. Training runs in Grain, whose order depends on the seed and the step alone; evaluation
keeps the order of the records, so that results can be matched with image names.
"""

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
from iamt_jax.data.dataset import Records
from iamt_jax.data.decode import DECODE_THREADS, decode
from iamt_jax.errors import InputError
from iamt_jax.signals import ENDING

_SHARED_MEMORY = Path("/dev/shm")
"""Folder of the shared memory in which Grain's workers pass on batches, on Linux."""

_BATCHES_HELD = 5
"""Batches that each worker keeps in shared memory (measured); one more is in use."""

_CAUSES = {
    "SIGKILL": ", as the system does where memory runs out",
    "SIGBUS": f", as happens where {_SHARED_MEMORY} is full",
}
"""Signal that ended a worker -> its usual cause."""


class Batch(NamedTuple):
    """Images and labels of a training step."""

    images: UInt8[np.ndarray, "batch height width 3"]
    labels: Float[np.ndarray, "batch attribute"]
    """1, 0, a value between them after mixup, or `MISSING`."""


class PaddedBatch(NamedTuple):
    """A batch of an evaluation; `real` is False for the copies that pad the last batch."""

    images: UInt8[np.ndarray, "batch height width 3"]
    indices: np.ndarray
    """Row of each image in the records."""
    real: Bool[np.ndarray, " batch"]


class Decoded:
    """Random access to decoded examples (image, label) of one size, cached if all fit.

    Safe to share between threads: an image that two threads decode at once is stored twice, with
    the same bytes.
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
        """Returns image `index`, decoded, cropped and resized."""
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
    """Returns an endless iterator over this process's shard of shuffled, augmented batches.

    The order depends on `train.seed` alone and is reshuffled every epoch. The global batch of a
    step is cut into one block a process, so that it holds the same images for any number of
    processes and all shards have the same length. The step is the whole state of the iterator: a
    resumed run passes it as `start`, and may change the number of workers and processes.
    """
    # Each worker process would fill a cache of its own.
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
    """Returns how many workers fit into shared memory; warns if that is fewer than `workers`."""
    batch_bytes = batch * (size * size * 3 + 4 * len(records.attributes))
    if not workers or not _SHARED_MEMORY.is_dir():
        return workers
    free = shutil.disk_usage(_SHARED_MEMORY).free
    fitting = max(0, min(workers, (free // batch_bytes - 1) // _BATCHES_HELD))
    if fitting < workers:
        need = (workers * _BATCHES_HELD + 1) * batch_bytes
        instead = f"by {fitting} of them" if fitting else "in threads"
        print(
            f"warning: `data.workers` {workers}: need {need / 1e6:,.0f} MB of shared memory, and "
            f"{_SHARED_MEMORY} has {free / 1e6:,.0f} MB free; decoding {instead}, with the same "
            "result (in a container, docker run --shm-size gives more)",
            file=sys.stderr,
        )
    return fitting


def _start_tracker() -> None:
    """Starts Python's resource tracker, which frees shared memory that killed processes left.

    It is started with signals blocked, as in the workers, and without the warning that it would
    print about what it frees.
    """
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
    """Makes a worker ignore signals and end together with the main process.

    A signal to the whole session or job reaches the workers too; the main process must be able to
    save before it ends them.
    """
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)

    def end_with_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _explain_lost_workers(batches: Iterator[Batch], workers: int) -> Iterator[Batch]:
    """Yields the batches; raises `InputError`, not Grain's RuntimeError, if a worker was killed."""
    try:
        yield from batches
    except RuntimeError as error:
        found = re.search(r"terminated unexpectedly with exit code (-?\d+)", str(error))
        if found is None:
            raise
        code = int(found[1])
        by = signal.Signals(-code).name if code < 0 else f"status {code}"
        raise InputError(
            f"`data.workers` {workers}: one of them ended by {by}{_CAUSES.get(by, '')}; give "
            "fewer, or 0, with `resume.allow` data.workers, to continue this run"
        ) from None


def _as_batch(batch: tuple[np.ndarray, np.ndarray]) -> Batch:
    return Batch(*batch)


def evaluation_batches(records: Records, size: int, batch_size: int) -> Iterator[PaddedBatch]:
    """Yields every image once, in the order of the records, in batches of one size.

    The last batch is padded with copies, which `PaddedBatch.real` marks, so that a compiled
    function sees one shape. The next batch is decoded while the caller uses the current one.
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
