"""Labelled, encoded images with random access, as every reader of this package returns them."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Int, Int8, UInt8

from iamt_jax.data.decode import DECODE_THREADS, decode
from iamt_jax.errors import InputError

PARTITIONS = ("train", "validation", "test")
"""CelebA's partitions; their index is the number in list_eval_partition."""

SPLITS = {
    "train": ("train",),
    "validation": ("validation",),
    "test": ("test",),
    "train+validation": ("train", "validation"),
}
"""Split -> the partitions it joins; `train+validation` is what the paper trains on."""


class EncodedImages:
    """Encoded images by index.

    Implementations hold paths and offsets but no open file, so that they are cheap to pickle
    and safe to share between threads and processes.
    """

    def read(self, index: int) -> bytes:
        """Returns the stored bytes of image `index`; raises `InputError` if it cannot be read."""
        raise NotImplementedError

    def location(self, index: int) -> str:
        """Returns the path of image `index`, for messages."""
        raise NotImplementedError

    def stamp(self) -> str:
        """Returns a text that changes if one of the stored images does."""
        raise NotImplementedError

    def pictures(
        self, rows: Int[np.ndarray, " row"], size: int
    ) -> UInt8[np.ndarray, "row size size 3"]:
        """Returns the images at `rows`, decoded by several threads (`decode`).

        Raises:
          InputError: an image cannot be read or decoded.
        """
        found = np.empty((len(rows), size, size, 3), np.uint8)

        def fill(places: np.ndarray) -> None:
            for place in places:
                row = int(rows[place])
                found[place] = decode(self.read(row), size, self.location(row))

        threads = min(DECODE_THREADS, len(rows))
        if threads < 2:
            fill(np.arange(len(rows)))
            return found
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(fill, np.array_split(np.arange(len(rows)), threads)))
        return found


def stamp_of_files(paths: Iterable[str | Path]) -> str:
    """Returns a text that changes if one of the files is replaced: a hash of path, size and time of
    the last change."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            found = os.stat(path)
            digest.update(f"{path} {found.st_size} {found.st_mtime_ns}\n".encode())
        except OSError:  # Absent: whoever reads it says so.
            digest.update(f"{path}\n".encode())
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Records:
    """Images and labels of one split, in the order of the list."""

    attributes: tuple[str, ...]
    """Names of the K label columns, from the header of the data set."""
    names: tuple[str, ...]
    """Names of the images; a name identifies an image in every split."""
    labels: Int8[np.ndarray, "image attribute"]
    """1 present, 0 absent, `MISSING` (-1) not annotated."""
    images: EncodedImages

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes:
        """Returns the encoded image `index`, 0 <= index < len(self).

        Raises:
          InputError: the image is absent or unreadable; the message names its file.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.images.read(index)

    def pictures(
        self, rows: Int[np.ndarray, " row"] | slice, size: int
    ) -> UInt8[np.ndarray, "row size size 3"]:
        """Returns the images at `rows`, decoded, cropped to squares and resized (`decode`).

        Raises:
          InputError: an image cannot be read or decoded; the message names its file.
        """
        return self.images.pictures(np.arange(len(self))[rows], size)

    def first(self, count: int) -> Records:
        """Returns the first `count` records, or all if there are fewer."""
        return dataclasses.replace(self, names=self.names[:count], labels=self.labels[:count])

    def take(self, rows: np.ndarray) -> Records:
        """Returns the records at `rows`, in that order."""
        names = tuple(self.names[row] for row in rows)
        return Records(self.attributes, names, self.labels[rows], Subset(self.images, rows))


@dataclasses.dataclass(frozen=True)
class Subset(EncodedImages):
    """Selected images of a larger collection."""

    images: EncodedImages
    rows: np.ndarray

    def read(self, index: int) -> bytes:
        """See `EncodedImages`."""
        return self.images.read(self.rows[index])

    def location(self, index: int) -> str:
        """See `EncodedImages`."""
        return self.images.location(self.rows[index])

    def stamp(self) -> str:
        """See `EncodedImages`."""
        rows = hashlib.sha256(np.asarray(self.rows, np.int64).tobytes()).hexdigest()
        return f"{self.images.stamp()} {rows}"

    def pictures(
        self, rows: Int[np.ndarray, " row"], size: int
    ) -> UInt8[np.ndarray, "row size size 3"]:
        """See `EncodedImages`."""
        return self.images.pictures(self.rows[rows], size)


class Partitions(Protocol):
    """Train, validation and test of one layout, each read on demand."""

    attributes: tuple[str, ...]
    sizes: dict[str, int]

    def records(self, partitions: Sequence[str]) -> Records:
        """Returns partitions that `sizes` counts, one after another."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set whose layout was recognised and checked; no image has been decoded yet."""

    root: str
    """The folder that holds the layout: the given one, or a folder in it."""
    layout: str
    """Name of the layout, for messages."""
    attributes: tuple[str, ...]
    """Names of the K label columns, from the header."""
    partitions: Partitions
    hint: str = "correct list_eval_partition"
    """Advice for a split without images, the end of an error message."""

    def split(self, name: str) -> Records:
        """Returns the train, validation or test split, or train+validation (the paper's).

        Raises:
          InputError: an unknown split, or one without images.
        """
        sizes = self.partitions.sizes
        holds = ", ".join(f"{part} {size:,}" for part, size in sizes.items())
        if name not in SPLITS:
            raise InputError(
                f"split {name!r}: unknown, expected one of {', '.join(SPLITS)} ({self.root} "
                f"holds {holds})"
            )
        empty = [part for part in SPLITS[name] if not sizes.get(part)]
        if empty:
            raise InputError(
                f"{self.root}: its {empty[0]} split has no images, it holds {holds}: choose "
                f"another split, or {self.hint}"
            )
        return self.partitions.records(SPLITS[name])
