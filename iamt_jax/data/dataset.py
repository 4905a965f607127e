"""Labelled, encoded images with random access, as every reader of this package returns them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Int8

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


class EncodedImages(Protocol):
    """Encoded images by index.

    Implementations hold paths and offsets but no open file, so that they are cheap to pickle
    and safe to share between threads and processes.
    """

    def read(self, index: int) -> bytes:
        """Returns the stored bytes of image `index`; raises `InputError` if it cannot be read."""

    def location(self, index: int) -> str:
        """Returns the path of image `index`, for messages."""


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

    def first(self, count: int) -> Records:
        """Returns the first `count` records, or all if there are fewer."""
        return dataclasses.replace(self, names=self.names[:count], labels=self.labels[:count])

    def take(self, rows: np.ndarray) -> Records:
        """Returns the records at `rows`, in that order."""
        names = tuple(self.names[row] for row in rows)
        return Records(self.attributes, names, self.labels[rows], Subset(self.images, rows))


@dataclasses.dataclass(frozen=True)
class Subset:
    """Selected images of a larger collection."""

    images: EncodedImages
    rows: np.ndarray

    def read(self, index: int) -> bytes:
        """See `EncodedImages`."""
        return self.images.read(self.rows[index])

    def location(self, index: int) -> str:
        """See `EncodedImages`."""
        return self.images.location(self.rows[index])


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
