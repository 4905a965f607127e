"""The file of a calibrated transformation, calibration.npz in the workdir of its network."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from iamt_jax.errors import InputError, cannot_write
from iamt_jax.files import replace_bytes
from iamt_jax.robust import CALIBRATION_FILE, calibrate_again, require_calibration
from iamt_jax.robust.denoiser import PatchPrior
from iamt_jax.robust.noise_level import Levels
from iamt_jax.robust.recogniser import Recogniser
from iamt_jax.robust.restorer import Basis, Inverse, Restorer
from iamt_jax.robust.states import STATES
from iamt_jax.robust.treatment import Transformation, treat

CALIBRATION_VERSION = 5

LEVEL_ARRAYS = ("levels/sigma", "levels/reading", "levels/floor")
"""Names in the file of the arrays of `Levels`."""

MEMBERS = ("denoiser", "curve", "restorer")
"""Parts that a transformation may have."""

HALF_PRECISION = ("basis", "components", "degraded", "matrix", "gain")
"""Arrays that are large, and stored as float16."""


def members(transformation: Transformation) -> list[str]:
    """Names of the parts that a transformation has, in the order of `MEMBERS`."""
    parts = transformation.prior, transformation.beta, transformation.restorer
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
    arrays |= _stored("prior", transformation.prior)
    arrays |= _stored("recogniser", transformation.recogniser)
    if transformation.restorer is not None:
        basis, inverses, sigma, beta = transformation.restorer
        arrays |= _stored("basis", basis) | _stored("inverse", inverses)
        arrays |= {"restorer/sigma": sigma} | ({} if beta is None else {"restorer/beta": beta})
        arrays["states"] = [state.description for state in STATES]
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
      InputError: there is none, it is damaged or of another version, or it was fitted to another
        network.
    """
    path, again = workdir / CALIBRATION_FILE, calibrate_again(workdir)
    require_calibration(workdir)
    try:
        arrays = _arrays(path)
        levels = Levels(*(_numbers(arrays[name]) for name in LEVEL_ARRAYS))
        prior = _read("prior", PatchPrior, arrays)
        beta = _numbers(arrays["beta"]) if "beta" in arrays else None
        recogniser = _read("recogniser", Recogniser, arrays)
        restorer = None
        if recogniser is not None:
            if arrays["states"].tolist() != [state.description for state in STATES]:
                raise ValueError("it knows other degradations")
            basis, inverses = _read("basis", Basis, arrays), _read("inverse", Inverse, arrays)
            if basis is None or inverses is None:
                raise ValueError("a part of its restorer is absent")
            restorer = Restorer(
                basis,
                inverses,
                _numbers(arrays["restorer/sigma"]),
                _numbers(arrays["restorer/beta"]) if "restorer/beta" in arrays else None,
            )
        made = str(arrays["identity"])
    except Exception as error:  # NumPy, zipfile, zlib and tokenize raise a dozen types.
        raise InputError(f"{path}: not a calibration of this version ({error}); {again}") from None
    if made != identity:
        raise InputError(f"{path}: made for another network than the best checkpoint; {again}")
    return Transformation(levels, prior, beta, recogniser, restorer)


def check_fits(
    transformation: Transformation, workdir: Path, size: int, mask: tuple[int, int]
) -> None:
    """Checks that the arrays of a calibration have the shapes that its network needs.

    Args:
      transformation: result of `read_calibration`.
      workdir: folder of the run.
      size: height and width of the network's images, pixels.
      mask: numbers of attributes and of channels.

    Raises:
      InputError: they have others.
    """
    image = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    try:
        found = jax.eval_shape(treat, image, transformation)
        fits = found.images.shape == image.shape
        fits &= found.beta is None or found.beta.shape == (1, *mask)
    except (IndexError, TypeError, ValueError):  # JAX raises any of them.
        fits = False
    if not fits:
        raise InputError(
            f"{workdir / CALIBRATION_FILE}: its arrays do not fit the network; "
            f"{calibrate_again(workdir)}"
        )


def _stored(part: str, values: NamedTuple | None) -> dict[str, np.ndarray]:
    """Arrays of a part under their names in the file; none for a part that is None."""
    if values is None:
        return {}
    return {
        f"{part}/{name}": np.asarray(x, np.float16 if name in HALF_PRECISION else np.float32)
        for name, x in zip(values._fields, values, strict=True)
    }


def _read(part: str, kind: type, arrays: dict[str, np.ndarray]):
    """A part of the file, or None if the file has none of its arrays."""
    if not any(name.startswith(f"{part}/") for name in arrays):
        return None
    return kind(*(_numbers(arrays[f"{part}/{name}"]) for name in kind._fields))


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
