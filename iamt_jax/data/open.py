"""Opens the data set that a config describes, and leaves out images that cannot be decoded."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from iamt_jax.config import DataConfig, OtherData
from iamt_jax.data.celeba import download, open_dataset
from iamt_jax.data.dataset import Dataset, Records
from iamt_jax.data.decode import DECODE_THREADS
from iamt_jax.data.folder import open_own
from iamt_jax.errors import InputError
from iamt_jax.progress import progress_bar
from iamt_jax.synthetic import ensure_dataset

RENDERED = "synthetic faces"
"""Name of the layout of synthetic faces, which are stored in CelebA's official layout."""

_Share = Callable[[int], np.ndarray]
"""Number of records -> rows that this process checks."""

_Gather = Callable[[np.ndarray, int], np.ndarray]
"""Results of this process, number of records -> results of all processes, in order."""


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
                "`data.root`: missing; give the folder that holds your images and their csv "
                "(docs/your_own_data.md)"
            )
        return open_own(config.root, config.labels)
    if config.root is not None:
        return open_dataset(config.root)
    if config.name == "celeba":
        raise InputError(
            "`data.root`: missing; give the folder of a data set in CelebA's layout, or "
            "`data.name` celeb_a to download CelebA, or `preset` faces for synthetic faces"
        )
    s = config.synthetic
    counts = {"train": s.train, "validation": s.validation, "test": s.test}
    dataset = open_dataset(ensure_dataset(counts, s.seed, s.size))
    return dataclasses.replace(dataset, layout=RENDERED)


def resolve_data(trained_on: DataConfig, other: OtherData) -> DataConfig:
    """Returns the config of the data to use with a trained run: its own, or the data given.

    A new root keeps the kind of data that the run was trained on; a csv of labels implies a user's
    own folder (`name="folder"`).
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


def without_damaged(
    records: Records,
    size: int,
    limit: int,
    share: _Share = np.arange,
    gather: _Gather = lambda mine, count: mine,
) -> tuple[Records, tuple[str, ...]]:
    """Returns the records whose images can be decoded, and the names of the others.

    With a limit of 0 no image is checked; the run ends at the first damaged image it reads. With
    a higher limit every image is decoded once, at the start, so that the images left out depend
    only on the data, not on the order or the step at which a run resumed. Where several processes
    form a run, each checks its `share`, and `gather` collects the results.

    Raises:
      InputError: more images are damaged than the limit allows.
    """
    if not limit:
        return records, ()
    rows = share(len(records))

    def fails(row: int) -> str:
        try:
            records.pictures(np.array([row]), size)
        except InputError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        found = pool.map(fails, rows.tolist())
        bar = progress_bar(found, total=len(rows), unit="image", desc="checking")
        reasons = dict(zip(rows.tolist(), bar, strict=True))
    damaged = gather(np.array([bool(reasons[row]) for row in rows.tolist()]), len(records))
    left_out = np.flatnonzero(damaged)
    for row in left_out[: limit + 1]:
        if reason := reasons.get(int(row)):
            print(f"warning: {reason}", file=sys.stderr)
    names = tuple(records.names[row] for row in left_out)
    if len(names) > limit:
        raise InputError(
            f"`data.damaged_limit` {limit}: {len(names)} of {len(records):,} images cannot be "
            f"decoded, first {names[0]}; restore them, take them off the lists, or raise the limit"
        )
    if names:
        print(f"warning: left out {len(names)} damaged of {len(records):,} images", file=sys.stderr)
        records = records.take(np.flatnonzero(~damaged))
    return records, names
