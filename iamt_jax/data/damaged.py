"""Images that cannot be decoded: counted, named, and left out as far as the user allows."""

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
"""Count -> which of them this process looks at."""

Gather = Callable[[np.ndarray, int], np.ndarray]
"""What this process found, count -> what all found, in order."""


def without_damaged(
    records: Records,
    size: int,
    limit: int,
    share: Share = np.arange,
    gather: Gather = lambda mine, count: mine,
) -> tuple[Records, tuple[str, ...]]:
    """The records whose images can be decoded, and the names of the others.

    Without a limit nothing is looked at: the first damaged image that is met ends the run. With
    one, every image is decoded once, before anything begins, so that what is left out depends on
    the data alone, and not on the order, the workers or the place where a run was continued.

    Args:
      records: a split.
      size: of the network's input, pixels.
      limit: how many images may be left out.
      share: which records this process looks at; all of them.
      gather: what all processes found.

    Raises:
      InputError: more are damaged than the limit allows.
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
