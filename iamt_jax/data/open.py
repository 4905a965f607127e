"""The data set that a config means."""

from __future__ import annotations

import dataclasses

from iamt_jax.config import DataConfig, OtherData
from iamt_jax.data.celeba import download, open_dataset
from iamt_jax.data.dataset import Dataset
from iamt_jax.data.folder import open_own
from iamt_jax.errors import InputError
from iamt_jax.synthetic import ensure_dataset

RENDERED = "synthetic faces"
"""Layout of the rendered data set: CelebA's official one, but not photographs."""


def open_source(config: DataConfig) -> Dataset:
    """Opens it; synthetic faces are rendered first, CelebA by name is downloaded first.

    Raises:
      InputError: no root where one is needed, or data that cannot be read.
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
    """The data set that a user means who looks at a run: the one trained on, or another.

    Another folder is of the kind trained on, whatever its csv is called; a csv means a folder.
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
