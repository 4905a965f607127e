"""A user's own multi-label data: a folder of images and a csv of their labels.

DIR/labels.csv      image,striped,round
                    a.png,1,0
DIR/images/a.png

dataset = open_own("DIR")
"""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int8

from iamt_jax.data.celeba import ListedPartitions
from iamt_jax.data.dataset import Dataset, EncodedImages, Records
from iamt_jax.data.file_names import is_image, match_names, normalised, shorten
from iamt_jax.data.image_files import folder_images, walk_folders
from iamt_jax.data.label_files import LabelList, read_own_labels
from iamt_jax.errors import InputError
from iamt_jax.files import expanded

_IMAGES = "images"
"""Folder below the root to which names in the csv may be relative; the root is tried first."""

_OUT = re.compile(r"([A-Za-z]:)?[/\\].*|(.*[/\\])?\.\.([/\\].*)?", re.DOTALL)
"""An absolute path on any operating system, or a path with `..` in it."""


def open_own(root: str | os.PathLike[str], labels: str | None = None) -> Dataset:
    """Opens a folder of images and a csv whose columns are attributes; decodes no image.

    The csv is at the path `labels` relative to `root`; by default it is the only one in `root`. Its
    first column is an image's path relative to `root` or `root`/images. A column `split` sets the
    partitions; without it they follow from a hash of each name (`partition_by_hash`).

    Raises:
      InputError: there is no folder, no csv or several, the csv is damaged, or it names images
        that do not exist.
    """
    root = Path(expanded(root))
    if not root.is_dir():
        found = "is not a folder" if root.exists() else "does not exist"
        raise InputError(f"{root}: {found}; expected a folder of images and a csv: give another")
    try:
        path = _csv(root, labels)
        listed = read_own_labels(path)
        images, unlisted = _open_images(root, path, listed.names)
    except OSError as error:
        raise InputError(
            f"{error.filename or root}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    if listed.partition is None:
        partition, how = partition_by_hash(listed.names), "by a hash of names"
        cure = f"add images, or a column split to {path.name}"
    else:
        partition, how = listed.partition, "by its column split"
        cure = f"correct the column split of {path.name}"
    partitions = ListedPartitions(listed, partition, images)
    counts = ", ".join(f"{part} {size:,}" for part, size in partitions.sizes.items())
    layout = f"images and {path.name} {how} ({counts})"
    if unlisted:
        layout += f", {unlisted:,} further images that the list does not name, ignored"
    _warn(path, listed, partitions.records(("train",)))
    return Dataset(str(root), layout, listed.attributes, partitions, cure)


def partition_by_hash(names: tuple[str, ...]) -> Int8[np.ndarray, " image"]:
    """Returns a partition for each name: 80 % train, 10 % validation, 10 % test, on average.

    A partition depends on the name alone, so that adding images moves no other image.
    """
    digests = [hashlib.sha256(name.encode()).digest() for name in names]
    tenths = [int.from_bytes(digest[:8], "big") % 10 for digest in digests]
    return np.array([max(0, tenth - 7) for tenth in tenths], np.int8)


def _csv(root: Path, labels: str | None) -> Path:
    if labels is not None:
        path = root / expanded(labels)
        if not path.is_file():
            raise InputError(
                f"`data.labels` {labels}: {path} is not there; give the csv's path seen from "
                "`data.root`, or its whole path"
            )
        return path
    found = sorted(
        name for name in os.listdir(root) if re.fullmatch(r"[^.].*\.csv", name, re.I | re.S)
    )
    if not found:
        raise InputError(
            f"{root}: holds no csv; expected one with a first line such as image,striped,round "
            "and a line an image (docs/your_own_data.md): add it, or name it by `data.labels`"
        )
    if len(found) > 1:
        raise InputError(
            f"{root}: holds {len(found)} csv files ({found[0]}, {found[1]}, ...), expected one: "
            "name the one with the labels by `data.labels`"
        )
    return root / found[0]


def _open_images(root: Path, path: Path, names: tuple[str, ...]) -> tuple[EncodedImages, int]:
    """Opens the folder that holds every image; also counts the images beside them without a row."""
    if out := [name for name in names if _OUT.fullmatch(name)]:
        raise InputError(
            f"{path}: names {shorten(out[0])}, expected paths below {root}, without ..: correct "
            "the csv"
        )
    if len({normalised(name) for name in names}) < len(names):
        raise InputError(
            f"{path}: names an image in two ways, such as a.png and ./a.png; expected every image "
            "once: remove a row"
        )
    inside = sorted(x for x in root.iterdir() if x.name.lower() == _IMAGES and x.is_dir())
    # All files below are listed only if the names do not lead to the images directly.
    for listed in (_beside, _below):
        found = [(x, match_names(names, listed(x, names))) for x in (root, *inside)]
        folder, match = min(found, key=lambda x: (len(x[1].absent), len(x[1].renamed)))
        if not match.absent:
            break
    if match.absent:
        raise InputError(
            f"{folder}: {len(match.absent):,} of the {len(names):,} images that {path.name} names "
            f"are not in it, the first is {shorten(match.absent[0])}{match.hint()}: correct the "
            "csv, or add the images"
        )
    match.warn(folder)
    present, listed = match.present, set(match.rows)
    folders = {posixpath.dirname(present[row]) for row in listed}
    unlisted = [x for row, x in enumerate(present) if row not in listed and is_image(x)]
    beside = [name for name in unlisted if posixpath.dirname(name) in folders]
    return folder_images(folder, match), len(beside)


def _beside(folder: Path, names: Sequence[str]) -> list[str]:
    """Lists the files of the folders that the names lead to."""
    return [
        posixpath.normpath(posixpath.join(parent, name))
        for parent in sorted({posixpath.dirname(posixpath.normpath(name)) for name in names})
        for name in _files(folder / parent)
    ]


def _below(root: Path, names: Sequence[str]) -> list[str]:
    """Lists all files below a folder, recursively."""
    return [
        Path(folder, file.name).relative_to(root).as_posix()
        for folder, files in walk_folders(root, lambda error: None)
        for file in files
    ]


def _files(folder: Path) -> list[str]:
    """Returns the sorted names of the files of a folder; none if there is no such folder."""
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    except ValueError:  # A null character.
        return []
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP):
            return []
        raise


def _warn(path: Path, listed: LabelList, train: Records) -> None:
    """Warns of labels that are probably not what the user means."""
    if listed.ambiguous:
        print(
            f"warning: {path}: holds both -1 and 0; -1 is read as absent, 0 as not annotated: "
            "where 0 means absent, leave the cell empty in place of -1",
            file=sys.stderr,
        )
    same = ~((train.labels == 0).any(axis=0) & (train.labels == 1).any(axis=0))
    if len(train) and same.any():
        first = train.attributes[int(np.argmax(same))]
        print(
            f"warning: {path}: {same.sum()} of the {len(same)} attributes have one and the same "
            f"label, or none, in all training images, first {shorten(first)}: nothing can be "
            "learnt of them",
            file=sys.stderr,
        )
