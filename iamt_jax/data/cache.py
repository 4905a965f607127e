"""Decoded images in a memory-mapped file, so that each image is decoded once."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import numpy as np
from jaxtyping import Bool, Int, UInt8

from iamt_jax.config import DataConfig
from iamt_jax.data.dataset import EncodedImages, Records
from iamt_jax.data.decode import DECODE_THREADS
from iamt_jax.errors import InputError, cannot_write
from iamt_jax.files import cache_folder
from iamt_jax.progress import progress_bar

_VERSION = 1
"""Increased when `decode` gives other pixels, so that images are decoded again."""

_PAGE = 4096
"""Bytes; the pixels begin at a multiple, as memory maps must."""

_CHUNK = 64
"""Images that a thread decodes, or checks, at a time."""


@dataclasses.dataclass(frozen=True)
class CachedImages(EncodedImages):
    """Images whose pixels of one size are in a memory-mapped file; others are decoded."""

    images: EncodedImages
    pixels: UInt8[np.ndarray, "image size size 3"]
    known: Bool[np.ndarray, " image"]
    """False for an image that is damaged."""

    def read(self, index: int) -> bytes:
        """See `EncodedImages`."""
        return self.images.read(index)

    def location(self, index: int) -> str:
        """See `EncodedImages`."""
        return self.images.location(index)

    def stamp(self) -> str:
        """See `EncodedImages`."""
        return self.images.stamp()

    def pictures(
        self, rows: Int[np.ndarray, " row"], size: int
    ) -> UInt8[np.ndarray, "row size size 3"]:
        """See `EncodedImages`; a copy, so that a caller may write into it."""
        if size != self.pixels.shape[1] or not self.known[rows].all():
            return self.images.pictures(rows, size)
        return self.pixels[rows]


def cache_bytes(images: int, size: int) -> int:
    """Size of the cache of a number of images, bytes."""
    return _start(images) + images * size * size * 3


def cached(records: Records, config: DataConfig) -> Records:
    """Returns the records with their pixels in a memory-mapped file, which is filled first.

    The file lies in `config.cache`; its name depends on the images, their selection and
    `config.size`. Beside the pixels it has a checksum for each image. Each call checks them all,
    and decodes the images that are absent or wrong, so that an interrupted call is continued.
    Damaged images are left out if `config.damaged_limit` is above 0, for `without_damaged`.

    Where the file would be larger than `config.cache_gib` or the free space of the disk, the
    records are returned as they are, with a warning.

    Raises:
      InputError: an image is damaged, or the folder cannot be written.
    """
    count, size = len(records), config.size
    if not config.cache_gib or not count:
        return records
    folder = Path(config.cache) if config.cache else cache_folder("decoded")
    path, total = folder / f"{_key(records, size)}.images", cache_bytes(count, size)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = path.is_file() and path.stat().st_size == total
        if not there and (reason := _too_large(total, config.cache_gib, folder)):
            print(
                f"warning: `data.cache_gib` {config.cache_gib:g}: {count:,} decoded images need "
                f"{total / 2**30:.1f} GiB, {reason}; decoding them again in every epoch",
                file=sys.stderr,
            )
            return records
        with filelock.FileLock(path.with_suffix(".lock")):
            if not there:
                _reserve(path, total)
            pixels, known = _filled(path, records.images, count, size, config.damaged_limit > 0)
    except OSError as error:
        advice = "make room, name another folder, or give `data.cache_gib` 0 to do without"
        raise cannot_write(f"`data.cache` {folder}", error, advice) from None
    return dataclasses.replace(records, images=CachedImages(records.images, pixels, known))


def _key(records: Records, size: int) -> str:
    """Name of the file of these images at a size."""
    parts = (str(_VERSION), str(size), records.images.stamp(), *records.names)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _too_large(total: int, limit_gib: float, folder: Path) -> str:
    """Reason why a file cannot be made; empty if it can."""
    free = shutil.disk_usage(folder).free
    if total > limit_gib * 2**30:
        return "more than this limit"
    return f"and {folder} has {free / 2**30:.1f} GiB free" if total > free else ""


def _start(count: int) -> int:
    """Offset of the pixels, which follow the checksums, in the file; bytes."""
    return -(-4 * count // _PAGE) * _PAGE


def _reserve(path: Path, total: int) -> None:
    """Makes the file, of zeros, and reserves its room: writing into a memory map of a full disk
    would end the process."""
    partial = path.with_suffix(f".partial-{os.getpid()}")
    try:
        with open(partial, "wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, total)
            else:
                file.truncate(total)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _filled(
    path: Path, images: EncodedImages, count: int, size: int, skip_damaged: bool
) -> tuple[UInt8[np.ndarray, "image size size 3"], Bool[np.ndarray, " image"]]:
    """Decodes the images that the file lacks; returns its pixels, and which images it has."""
    sums = np.memmap(path, np.uint32, "r+", shape=(count,))
    shape = (count, size, size, 3)
    pixels = np.asarray(np.memmap(path, np.uint8, "r+", _start(count), shape))

    def right(rows: np.ndarray) -> np.ndarray:
        # The checksum 0 stands for an image that is not there.
        return np.array([sums[row] and zlib.crc32(pixels[row]) == sums[row] for row in rows], bool)

    def decode(rows: np.ndarray) -> np.ndarray:
        """Decodes some images; True for those that are not damaged."""
        found = np.ones(len(rows), bool)
        for place, row in enumerate(rows):
            try:
                pixels[row] = images.pictures(rows[place : place + 1], size)[0]
                sums[row] = zlib.crc32(pixels[row])
            except InputError:
                if not skip_damaged:
                    raise
                found[place] = False
        return found

    everything = np.arange(count)
    have = np.concatenate(list(_by_threads(right, everything)))
    if len(missing := everything[~have]):
        about = f"decoding into {path.parent}, {cache_bytes(count, size) / 2**20:,.0f} MiB"
        have[missing] = np.concatenate(list(_by_threads(decode, missing, about)))
    pixels.flags.writeable = False
    return pixels, have


def _by_threads(
    run: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, title: str | None = None
) -> Iterator[np.ndarray]:
    """Results of `run` for chunks of the rows, in order; with a title, under a progress bar."""
    chunks = [rows[i : i + _CHUNK] for i in range(0, len(rows), _CHUNK)]
    bar = progress_bar(total=len(rows), desc=title, unit="image", disable=title is None)
    with ThreadPoolExecutor(DECODE_THREADS) as pool, bar:
        for chunk, result in zip(chunks, pool.map(run, chunks), strict=True):
            bar.update(len(chunk))
            yield result
