"""The command `calibrate`: makes a trained network robust, from unlabelled images."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import tyro

from iamt_jax import xla_setup
from iamt_jax.commands.flags import Workdir, check_range, check_workdir, parse
from iamt_jax.config import FEWEST_IMAGES, OtherData
from iamt_jax.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from iamt_jax.inference.classifier import Classifier


@dataclass(frozen=True)
class CalibrateArguments:
    """Makes a trained network robust to noise, blur, compression and poor light, from its training
    images without their labels.

    No weight is changed. Writes WORKDIR/calibration.npz, which evaluate.py --auto uses.
    """

    workdir: Workdir = tyro.MISSING
    """Folder that training wrote."""
    images: int = 5000
    """Largest number of training images to use, at least 64; thousands give better results."""
    data: OtherData = OtherData()


def run_calibrate(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    chosen = parse(CalibrateArguments, arguments, "-m iamt_jax calibrate")
    check_range("images", chosen.images, FEWEST_IMAGES, math.inf)
    check_range("data.damaged-limit", chosen.data.damaged_limit, 0, math.inf)
    check_workdir(chosen.workdir)
    xla_setup.prepare()
    xla_setup.keep_memory()
    xla_setup.start_devices()

    from iamt_jax.inference.classifier import load_workdir
    from iamt_jax.robust.calibration import FEWEST_TO_RESTORE

    path, members = make_calibration(load_workdir(chosen.workdir), chosen.images, chosen.data)
    few = ""
    if "restorer" not in members:
        few = (
            f"no restorer: blur, compression and poor light need at least {FEWEST_TO_RESTORE} "
            f"training images to learn from; noise is treated\n"
        )
    print(
        f"calibrated {', '.join(members)}; wrote {path}\n{few}"
        f"now: python evaluate.py --workdir {shlex.quote(str(chosen.workdir))} --auto"
    )
    return 0


def make_calibration(
    trained: Classifier,
    images: int = CalibrateArguments.images,
    data: OtherData = CalibrateArguments.data,
) -> tuple[Path, list[str]]:
    """Calibrates a network and writes the calibration into its workdir.

    Args:
      trained: the network of a workdir.
      images: largest number of training images to use.
      data: the data to use, by default the run's own.

    Returns:
      The path of the file, and the names of the calibrated parts.

    Raises:
      InputError: the data cannot be read or are too few, the size of the network's images cannot be
        calibrated, or the workdir cannot be written.
    """
    from iamt_jax.data.open import open_source, resolve_data, without_damaged
    from iamt_jax.robust.calibration import SMALLEST_SIZE, fit_transformation
    from iamt_jax.robust.calibration_file import members, write_calibration
    from iamt_jax.robust.denoiser import BLOCK

    config = resolve_data(trained.run.config.data, data)
    if config.size < SMALLEST_SIZE or config.size % BLOCK:
        raise InputError(
            f"{trained.workdir}: its network's images have {config.size} pixels a side, expected "
            f"a multiple of {BLOCK} from {SMALLEST_SIZE} on; train with such a `data.size`"
        )
    dataset = open_source(config)
    records = dataset.split("train")
    if config.name == "folder":  # Its csv may be sorted, and calibration learns from the first.
        records = records.take(np.random.default_rng(0).permutation(len(records)))
    records, _ = without_damaged(records.first(images), config.size, config.damaged_limit)
    if len(records) < FEWEST_IMAGES:
        raise InputError(
            f"{dataset.root}: has {len(records)} training images, expected at least "
            f"{FEWEST_IMAGES} to calibrate on: give `data.root` with more"
        )
    pictures = records.pictures(slice(None), config.size)
    transformation = fit_transformation(trained.predictor.network(), pictures, records.names)
    path = write_calibration(trained.workdir, transformation, trained.identity)
    return path, members(transformation)
