"""Opens the data set that a config describes."""

from __future__ import annotations

import dataclasses

from iamt_jax.config import DataConfig, OtherData
from iamt_jax.data.celeba import download, open_dataset
from iamt_jax.data.dataset import Dataset
from iamt_jax.data.folder import open_own
from iamt_jax.errors import InputError
from iamt_jax.synthetic import ensure_dataset

RENDERED = "synthetic faces"
"""Name of the layout of synthetic faces, which are stored in CelebA's official layout."""


def open_source(config: DataConfig) -> Dataset:
    """Opens the data set of a config; first renders synthetic faces or downloads CelebA if needed.

    Raises:
      InputError: the root is missing, or the data cannot be read.
    """
    if config.name == "celeb_a":
        return download(config.name, config.root)
    if config.name == "folder":
        if config.root is None:
            raise InputError(
                "--data.root: missing; give the folder that holds your images and their csv "
                "(docs/your_own_data.md)"
            )
        return open_own(config.root, config.labels)
    if config.root is not None:
        return open_dataset(config.root)
    if config.name == "celeba":
        raise InputError(
            "--data.root: missing; give the folder of a data set in CelebA's layout, or "
            "--data.name celeb_a to download CelebA, or --preset faces for synthetic faces"
        )
    s = config.synthetic
    counts = {"train": s.train, "validation": s.validation, "test": s.test}
    dataset = open_dataset(ensure_dataset(counts, s.seed, s.size))
    return dataclasses.replace(dataset, layout=RENDERED)


def resolve_data(trained_on: DataConfig, other: OtherData) -> DataConfig:
    """Returns the config of the data to use with a trained run: its own, or the data given.

    Args:
      trained_on: the data config of the run.
      other: data given by the user. A new root keeps the kind of data that the run was trained
        on; a csv of labels implies a user's own folder (`name="folder"`).
    """
    if other.root is not None or other.labels is not None:
        own = other.labels is not None or trained_on.name == "folder"
        trained_on = dataclasses.replace(
            trained_on,
            name="folder" if own else "celeba",
            root=trained_on.root if other.root is None else other.root,
            labels=other.labels,
        )
    return dataclasses.replace(trained_on, damaged_limit=other.damaged_limit)
