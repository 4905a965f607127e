"""Opens data in any of CelebA's layouts, without TensorFlow.

dataset = open_dataset("~/data/celeba")
records = dataset.split("train")
pixels = decode(records.read(0), size=64, name=records.names[0])
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int8

from iamt_jax.data.dataset import PARTITIONS, Dataset, EncodedImages, Records, Subset
from iamt_jax.data.file_names import match_names
from iamt_jax.data.image_files import open_folder, open_zip
from iamt_jax.data.label_files import LabelList, read_labels, read_partitions
from iamt_jax.data.parquet import find_parquet, open_parquet
from iamt_jax.data.tfds import NAME, download_and_prepare, find_prepared, open_prepared
from iamt_jax.errors import InputError
from iamt_jax.files import expanded


class _Layout(NamedTuple):
    """Paths of the lists and the images below the root."""

    name: str
    labels: str
    partitions: str
    images: str
    """The folder that holds img_align_celeba.zip, or img_align_celeba/."""


_LAYOUTS = (
    _Layout("official", "Anno/list_attr_celeba.txt", "Eval/list_eval_partition.txt", "Img"),
    _Layout("torchvision", "list_attr_celeba.txt", "list_eval_partition.txt", ""),
    _Layout("Kaggle", "list_attr_celeba.csv", "list_eval_partition.csv", ""),
)

_IMAGES = "img_align_celeba"
"""Name of the folder of images, and of their archive without its suffix."""

_PACKED = (".7z", ".001", ".rar", ".tar", ".tgz", ".gz")
"""Suffixes of archives that cannot be read."""

_PREPARED = "tensorflow-datasets (array_record)"
"""Name of the layout of tensorflow-datasets."""

_PARQUET = "Hugging Face (parquet)"
"""Name of the layout of Hugging Face datasets; `_LAYOUTS` names the others."""

_CELEBA = re.compile(r"celeb[-_ ]?a([-_ ]?dataset)?", re.IGNORECASE)
"""Usual names of a folder with CelebA: celeba, CelebA, celeb_a, celeba-dataset."""


@dataclasses.dataclass(frozen=True)
class ListedPartitions:
    """Partitions that a list of labels and a list of partitions describe."""

    labels: LabelList
    partition: Int8[np.ndarray, " image"]
    """Index into `PARTITIONS`."""
    images: EncodedImages

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of the labels."""
        return self.labels.attributes

    @property
    def sizes(self) -> dict[str, int]:
        """Partition -> images."""
        counts = np.bincount(self.partition, minlength=len(PARTITIONS)).tolist()
        return dict(zip(PARTITIONS, counts, strict=True))

    def records(self, partitions: Sequence[str]) -> Records:
        """Returns partitions, each in the order of list_attr_celeba."""
        numbers = map(PARTITIONS.index, partitions)
        rows = np.concatenate([np.flatnonzero(self.partition == number) for number in numbers])
        names = tuple(self.labels.names[row] for row in rows)
        values = self.labels.values[rows]
        return Records(self.attributes, names, values, Subset(self.images, rows))


def open_dataset(root: str | os.PathLike[str]) -> Dataset:
    """Recognises the layout of the data in `root`, or in a folder called CelebA in it; checks it.

    The layouts are the official one (zipped or not), torchvision's, Kaggle's,
    tensorflow-datasets' array_record, and Hugging Face datasets' parquet.

    Raises:
      InputError: no layout is recognised, or its lists or images are incomplete.
    """
    root = Path(expanded(root))
    if not root.is_dir():
        found = "is not a folder" if root.exists() else "does not exist"
        raise InputError(f"{root}: {found}; expected a folder with CelebA: give another root")
    dataset = _open(root)
    if dataset is None:
        own = ", or `data.name` folder for images and a csv of your own"
        raise InputError(
            f"{root}: holds no data that we know; looked, there and in a folder called CelebA, "
            f"for {', '.join(layout.labels for layout in _LAYOUTS)}, for tensorflow-datasets' "
            "dataset_info.json and for Hugging Face's *.parquet: give the folder that holds one of "
            "these"
            f"{own if any(root.glob('*.csv')) else ''}"
        )
    return dataset


def download(name: str = NAME, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Opens tensorflow-datasets' CelebA; downloads and prepares it first if it is not there.

    Args:
      name: `celeb_a`, the only data set that can be opened by name.
      data_dir: tensorflow-datasets' folder; None means its default, ~/tensorflow_datasets
        or $TFDS_DATA_DIR.

    Raises:
      InputError: another name, or it cannot be prepared; the message says what to do instead.
    """
    if name != NAME:
        raise InputError(f"`data.name` {name}: unknown, expected {NAME}; or give `data.root`")
    default = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    data_dir = Path(expanded(data_dir or default))
    dataset = _open(data_dir) if data_dir.is_dir() else None
    if dataset is None:
        download_and_prepare(data_dir)
        dataset = open_dataset(data_dir)
    return dataset


def _open(root: Path) -> Dataset | None:
    try:
        folders = [*_candidate_roots(root)]
        for folder in folders:
            for layout in _LAYOUTS:
                if (folder / layout.labels).is_file():
                    listed = _open_listed(folder, layout)
                    return Dataset(str(folder), layout.name, listed.attributes, listed)
            directory = find_prepared(folder)
            # Hugging Face datasets also write a dataset_info.json, beside their parquet files.
            if directory and not find_parquet([directory]):
                prepared = open_prepared(directory)
                return Dataset(str(directory), _PREPARED, prepared.attributes, prepared)
        if folder := find_parquet(folders):
            files = open_parquet(folder)
            cure = "add its files, such as validation-00000-of-00001.parquet"
            return Dataset(str(folder), _PARQUET, files.attributes, files, cure)
    except OSError as error:
        raise InputError(
            f"{error.filename or root}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    return None


def _candidate_roots(root: Path) -> Iterator[Path]:
    yield root
    for folder in sorted(root.iterdir()):
        if _CELEBA.fullmatch(folder.name) and folder.is_dir():
            yield folder


def _open_listed(folder: Path, layout: _Layout) -> ListedPartitions:
    """Reads both lists and finds the images.

    list_eval_partition may name more images than list_attr_celeba, as when the full list lies
    beside a subset of the labels; an image with labels but no partition is an error.

    Raises:
      InputError: a list or the images are absent, damaged, or do not match each other.
    """
    labels = read_labels(folder / layout.labels)
    path = folder / layout.partitions
    if not path.is_file():
        raise InputError(
            f"{path}: not found; expected the list that puts every image into train (0), "
            f"validation (1) or test (2): download {path.name} to there"
        )
    partitions = read_partitions(path)
    match = match_names(labels.names, list(partitions))
    if strays := match.absent:
        raise InputError(
            f"{path}: {len(strays):,} of the {len(labels.names):,} images of {layout.labels} have "
            f"no partition, the first is {strays[0]}{match.hint()}: add their rows"
        )
    match.warn(path)
    partition = np.array(list(partitions.values()), np.int8)[list(match.rows)]
    return ListedPartitions(labels, partition, _open_images(folder / layout.images, labels.names))


def _open_images(folder: Path, names: tuple[str, ...]) -> EncodedImages:
    """Opens the first folder or archive that holds every image, at best under the listed names."""
    packed, opened = [], []
    for source in _image_sources(folder):
        if source.suffix.lower() in _PACKED and source.is_file():
            packed.append(source.name)
            continue
        images, match = (open_folder if source.is_dir() else open_zip)(source, names)
        if not match.absent and not match.renamed:
            return images
        opened.append((len(match.absent), len(match.renamed), source, images, match))
    if not opened:
        cure = f"unpack {packed[0]} there" if packed else f"download {_IMAGES}.zip to there"
        raise InputError(
            f"{folder / _IMAGES}.zip: not found, nor a folder {_IMAGES} beside it; expected "
            f"the {len(names):,} listed images: {cure}"
        )
    count, _, source, images, match = min(opened, key=lambda found: found[:2])
    if count:
        raise InputError(
            f"{source}: {count:,} of the {len(names):,} listed images are not in it, the first is "
            f"{match.absent[0]}{match.hint()}: add the images, or take the rows off the lists"
        )
    match.warn(source)
    return images


def _image_sources(folder: Path) -> Iterator[Path]:
    """Yields the folders and archives that may hold the images, of JPEG or PNG, in any case.

    Kaggle nests the folder in one of the same name; torchvision leaves the archive beside the
    unpacked folder.
    """
    if not folder.is_dir():
        return
    named = [path for path in sorted(folder.iterdir()) if path.name.lower().startswith(_IMAGES)]
    for path in sorted(named, key=lambda path: (not path.is_dir(), path.stem.lower() != _IMAGES)):
        if path.is_dir():
            yield from (inner for inner in _image_sources(path) if inner.is_dir())
            yield path
        elif path.suffix.lower() in ("", ".zip", *_PACKED):
            yield path
