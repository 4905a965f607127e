"""The file of a calibrated transformation, calibration.npz in the workdir of its network."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from iamt_jax.errors import InputError, cannot_write
from iamt_jax.files import replace_bytes
from iamt_jax.robust import CALIBRATION_FILE, calibrate_again, require_calibration
from iamt_jax.robust.denoiser import PatchPrior
from iamt_jax.robust.noise_level import Levels
from iamt_jax.robust.treatment import Transformation

CALIBRATION_VERSION = 2

LEVEL_ARRAYS = ("levels/sigma", "levels/reading", "levels/floor")
"""Names in the file of the arrays of `Levels`."""

MEMBERS = ("denoiser", "curve")
"""Parts that a transformation may have."""


def members(transformation: Transformation) -> list[str]:
    """Names of the parts that a transformation has, in the order of `MEMBERS`."""
    parts = transformation.prior, transformation.beta
    return [name for name, part in zip(MEMBERS, parts, strict=True) if part is not None]


def write_calibration(workdir: Path, transformation: Transformation, identity: str) -> Path:
    """Writes a calibration into a workdir atomically; returns the path.

    Args:
      workdir: folder of the run.
      transformation: result of `iamt_jax.robust.calibration.fit_transformation`.
      identity: identity of the network that it was fitted to, `Classifier.identity`.

    Raises:
      InputError: the folder cannot be written.
    """
    arrays = {"version": CALIBRATION_VERSION, "identity": identity}
    arrays |= dict(zip(LEVEL_ARRAYS, transformation.levels, strict=True))
    if transformation.prior is not None:
        for name, part in zip(PatchPrior._fields, transformation.prior, strict=True):
            arrays[f"prior/{name}"] = np.asarray(part, np.float16 if name == "basis" else None)
    if transformation.beta is not None:
        arrays["beta"] = transformation.beta
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    path = workdir / CALIBRATION_FILE
    try:
        replace_bytes(path, buffer.getvalue())
    except OSError as error:
        raise cannot_write(str(path), error, "make room, or give rights to the folder") from None
    return path


def read_calibration(workdir: Path, identity: str) -> Transformation:
    """Reads the calibration of a workdir.

    Args:
      workdir: folder of the run.
      identity: identity of the network, `Classifier.identity`; a calibration of another is refused.

    Raises:
      InputError: there is none, it is damaged, it was fitted to another network, or it holds
        corrections of layer statistics, which only earlier versions could apply.
    """
    path, again = workdir / CALIBRATION_FILE, calibrate_again(workdir)
    require_calibration(workdir)
    try:
        arrays = _arrays(path)
        levels = Levels(*(_numbers(arrays[name]) for name in LEVEL_ARRAYS))
        prior = None
        if "prior/mean" in arrays:
            prior = PatchPrior(*(_numbers(arrays[f"prior/{name}"]) for name in PatchPrior._fields))
        beta = _numbers(arrays["beta"]) if "beta" in arrays else None
        made = str(arrays["identity"])
    except Exception as error:  # NumPy, zipfile, zlib and tokenize raise a dozen types.
        raise InputError(f"{path}: not a calibration of this version ({error}); {again}") from None
    if made != identity:
        raise InputError(f"{path}: made for another network than the best checkpoint; {again}")
    if any(name.startswith("factor/") for name in arrays):
        raise InputError(
            f"{path}: an earlier version calibrated layer statistics, which this version does not "
            f"apply; {again}"
        )
    return Transformation(levels, prior, beta)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is not an npz file")
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    version = arrays["version"]
    if version.shape or version != CALIBRATION_VERSION:
        raise ValueError(f"version {version}, expected {CALIBRATION_VERSION}")
    return arrays


def _numbers(array: np.ndarray) -> np.ndarray:
    """Finite values as float32; the file may hold float16."""
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise ValueError("one of its arrays has values that are not finite")
    return array.astype(np.float32)
