"""`python -m iamt_jax calibrate`: makes a trained network robust, from unlabelled images."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from iamt_jax import xla_setup
from iamt_jax.commands.flags import check_range, parse
from iamt_jax.config import FEWEST_IMAGES, OtherData
from iamt_jax.errors import InputError

if TYPE_CHECKING:
    from iamt_jax.robust.transform import Transformation


@dataclass(frozen=True)
class CalibrateArguments:
    """Makes a trained network robust to noise, from its unlabelled training images; no weight
    changes. evaluate.py --auto then uses what it writes, WORKDIR/calibration.npz."""

    workdir: Path = tyro.MISSING
    """Folder that training wrote."""
    images: int = 5000
    """Training images to learn from, at most; 64 are the fewest, thousands are better."""
    data: OtherData = OtherData()


def run(arguments: Sequence[str]) -> int:
    """Calibrates by flags; returns the exit status.

    Raises:
      InputError: bad flags, no run, no data, or a folder that cannot be written.
    """
    chosen = parse(CalibrateArguments, arguments, "-m iamt_jax calibrate")
    check_range("images", chosen.images, FEWEST_IMAGES, math.inf)
    xla_setup.prepare()
    xla_setup.start()

    from iamt_jax.robust.calibration_file import members, write_calibration

    identity, transformation = _calibrated(chosen)
    path = write_calibration(chosen.workdir, transformation, identity)
    print(
        f"calibrated {', '.join(members(transformation))}; wrote {path}\n"
        f"now: python evaluate.py --workdir {shlex.quote(str(chosen.workdir))} --auto"
    )
    return 0


def _calibrated(chosen: CalibrateArguments) -> tuple[str, Transformation]:
    """The network's identity, and its transformation."""
    import numpy as np

    from iamt_jax.data.batches import evaluation_batches
    from iamt_jax.data.damaged import without_damaged
    from iamt_jax.data.open import meant, open_source
    from iamt_jax.inference.classifier import load
    from iamt_jax.robust.calibration import BATCH_SIZE, fit_transformation

    trained = load(chosen.workdir)
    config = meant(trained.run.config.data, chosen.data)
    dataset = open_source(config)
    records = dataset.split("train").first(chosen.images)
    records, _ = without_damaged(records, config.size, config.damaged_limit)
    if len(records) < FEWEST_IMAGES:
        raise InputError(
            f"{dataset.root}: has {len(records)} training images, expected at least "
            f"{FEWEST_IMAGES} to calibrate on: give --data.root with more"
        )
    batches = evaluation_batches(records, config.size, BATCH_SIZE)
    pictures = np.concatenate([batch.images[batch.real] for batch in batches])
    network = trained.predictor.network()
    return trained.identity, fit_transformation(network, pictures, records.names)
