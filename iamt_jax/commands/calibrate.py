"""`python -m iamt_jax calibrate`: makes a trained network robust, from unlabelled images."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from iamt_jax import xla_setup
from iamt_jax.commands.flags import check_range, parse
from iamt_jax.config import FEWEST_IMAGES, OtherData


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

    from iamt_jax.robust.calibration import calibrate_workdir
    from iamt_jax.robust.calibration_file import members

    path, transformation = calibrate_workdir(chosen.workdir, chosen.images, chosen.data)
    print(
        f"calibrated {', '.join(members(transformation))}; wrote {path}\n"
        f"now: python evaluate.py --workdir {shlex.quote(str(chosen.workdir))} --auto"
    )
    return 0
