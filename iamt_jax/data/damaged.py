"""Leaves out images that cannot be decoded, up to the limit that the user sets."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm.auto import tqdm

from iamt_jax.data.batches import DECODE_THREADS
from iamt_jax.data.dataset import Records
from iamt_jax.data.decode import decode
from iamt_jax.errors import InputError

Share = Callable[[int], np.ndarray]
"""Number of records -> rows that this process checks."""

Gather = Callable[[np.ndarray, int], np.ndarray]
"""Results of this process, number of records -> results of all processes, in order."""


def without_damaged(
    records: Records,
    size: int,
    limit: int,
    share: Share = np.arange,
    gather: Gather = lambda mine, count: mine,
) -> tuple[Records, tuple[str, ...]]:
    """Returns the records whose images can be decoded, and the names of the others.

    With a limit of 0 no image is checked; the run ends at the first damaged image it reads. With
    a higher limit every image is decoded once, at the start, so that the images left out depend
    only on the data, not on the order, the workers or the step at which a run resumed.

    Args:
      records: a split.
      size: height and width of the network's input, pixels.
      limit: number of images that may be left out.
      share: chooses the records that this process checks; by default all.
      gather: collects the results of all processes; by default there is one process.

    Raises:
      InputError: more images are damaged than the limit allows.
    """
    if not limit:
        return records, ()
    rows = share(len(records))

    def fails(row: int) -> str:
        try:
            decode(records.read(row), size, records.images.location(row))
        except InputError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        found = pool.map(fails, rows.tolist())
        bar = tqdm(found, total=len(rows), unit="image", desc="checking", dynamic_ncols=True)
        reasons = dict(zip(rows.tolist(), bar, strict=True))
    damaged = gather(np.array([bool(reasons[row]) for row in rows.tolist()]), len(records))
    places = np.flatnonzero(damaged)
    for row in places[: limit + 1]:
        if reason := reasons.get(int(row)):
            print(f"warning: {reason}", file=sys.stderr)
    names = tuple(records.names[row] for row in places)
    if len(names) > limit:
        raise InputError(
            f"--data.damaged-limit {limit}: {len(names)} of {len(records):,} images cannot be "
            f"decoded, first {names[0]}; restore them, take them off the lists, or raise the limit"
        )
    if names:
        print(f"warning: left out {len(names)} damaged of {len(records):,} images", file=sys.stderr)
        records = records.take(np.flatnonzero(~damaged))
    return records, names
