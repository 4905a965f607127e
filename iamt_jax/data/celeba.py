"""CelebA-shaped data: one reader for every layout, with no TensorFlow.

dataset = open_dataset("~/data/celeba")
records = dataset.split("train")
pixels = decode(records.read(0), size=64, name=records.names[0])
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from iamt_jax.data.dataset import Dataset, Records
from iamt_jax.data.decode import decode
from iamt_jax.data.layouts import LAYOUTS, find_listed, open_listed
from iamt_jax.data.tfds import NAME, find_prepared, open_prepared, prepare
from iamt_jax.errors import InputError
from iamt_jax.files import expanded

__all__ = ["Dataset", "Records", "decode", "download", "open_dataset"]

PREPARED = "tensorflow-datasets (array_record)"
"""Name of that layout; `LAYOUTS` names the others."""

_CELEBA = re.compile(r"celeb[-_ ]?a([-_ ]?dataset)?", re.IGNORECASE)
"""The folders that people call CelebA: celeba, CelebA, celeb_a, celeba-dataset."""


def open_dataset(root: str | os.PathLike[str]) -> Dataset:
    """Recognises CelebA-shaped data in `root`, or in a folder called CelebA in it, and checks it.

    The layouts are the official one (zipped or not), torchvision's, Kaggle's, and
    tensorflow-datasets' array_record.

    Raises:
      InputError: no layout is recognised, or its lists and images are not whole.
    """
    root = Path(expanded(root))
    if not root.is_dir():
        found = "is not a folder" if root.exists() else "does not exist"
        raise InputError(f"{root}: {found}; expected a folder with CelebA: give another root")
    dataset = _open(root)
    if dataset is None:
        own = ", or --data.name folder for images and a csv of your own"
        raise InputError(
            f"{root}: holds no data that we know; looked, there and in a folder called CelebA, "
            f"for {', '.join(layout.labels for layout in LAYOUTS)} and for tensorflow-datasets' "
            "dataset_info.json: give the folder that holds one of these"
            f"{own if any(root.glob('*.csv')) else ''}"
        )
    return dataset


def download(name: str = NAME, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Opens tensorflow-datasets' CelebA, downloading and preparing it first where need be.

    Args:
      name: `celeb_a`, the only data set that we know by a name.
      data_dir: tensorflow-datasets' folder; None means its default, ~/tensorflow_datasets
        or $TFDS_DATA_DIR.

    Raises:
      InputError: another name, or it cannot be prepared; the line says what to do instead.
    """
    if name != NAME:
        raise InputError(f"--data.name {name}: unknown, expected {NAME}; or give --data.root")
    default = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    data_dir = Path(expanded(data_dir or default))
    dataset = _open(data_dir) if data_dir.is_dir() else None
    if dataset is None:
        prepare(data_dir)
        dataset = open_dataset(data_dir)
    return dataset


def _open(root: Path) -> Dataset | None:
    try:
        for folder in _candidates(root):
            if layout := find_listed(folder):
                listed = open_listed(folder, layout)
                return Dataset(str(folder), layout.name, listed.attributes, listed)
            if directory := find_prepared(folder):
                prepared = open_prepared(directory)
                return Dataset(str(directory), PREPARED, prepared.attributes, prepared)
    except OSError as error:
        raise InputError(
            f"{error.filename or root}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    return None


def _candidates(root: Path) -> Iterator[Path]:
    yield root
    for folder in sorted(root.iterdir()):
        if _CELEBA.fullmatch(folder.name) and folder.is_dir():
            yield folder
