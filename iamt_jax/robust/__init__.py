"""Robustness to noise after training: noise estimate, denoiser and per-channel tone curves."""

import shlex
from pathlib import Path

from iamt_jax.errors import InputError

CALIBRATION_FILE = "calibration.npz"
"""Name of the file in a workdir that holds its calibration."""


def require_calibration(workdir: Path) -> None:
    """Raises `InputError` if a workdir has no calibration, without reading it or starting JAX."""
    path = workdir / CALIBRATION_FILE
    if not path.is_file():
        raise InputError(f"{path}: does not exist, and `auto` needs it; {calibrate_again(workdir)}")


def calibrate_again(workdir: Path) -> str:
    """Advice for a workdir without a usable calibration."""
    return f"run python -m iamt_jax calibrate --workdir {shlex.quote(str(workdir))}"
