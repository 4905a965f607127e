"""An exported network, NAME.iamt: a zip archive of compiled programs and metadata.

metadata.json describes inputs and outputs. The programs are in the format of `jax.export` and need
only jax, numpy and flatbuffers to run (docs/deploy.md).
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import shlex
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export
from jaxtyping import Float

from iamt_jax import xla_setup
from iamt_jax.errors import InputError
from iamt_jax.files import expanded, json_text
from iamt_jax.inference.inputs import (
    ImagesLike,
    batched,
    curve_or_auto,
    fit_images,
    grid_values,
)
from iamt_jax.inference.probabilities import ProbabilityMethods

EXPORTED_SUFFIX = ".iamt"
METADATA = "metadata.json"
_FORMAT, _VERSION = "iamt", 1
CURVE, AUTOMATIC = "curve", "automatic"
"""Names of the programs: for given n and beta, and for the calibrated transformation, which is
optional."""

_SUFFIX = ".jaxexport"
"""Suffix of a program in the archive."""


def pack(metadata: Mapping, programs: Mapping[str, bytes]) -> bytes:
    """Builds the content of the file from serialised programs, by `CURVE` and `AUTOMATIC`.

    Format, version and checksums are added to the metadata.
    """
    members = {f"{name}{_SUFFIX}": program for name, program in programs.items()}
    digests = {name: hashlib.sha256(member).hexdigest() for name, member in members.items()}
    metadata = {"format": _FORMAT, "version": _VERSION, **metadata, "sha256": digests}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, member in {METADATA: json_text(metadata, indent=2).encode(), **members}.items():
            # ZipInfo has a fixed time, so that the same programs give the same bytes.
            file.writestr(zipfile.ZipInfo(name), member, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def read_exported(path: Path) -> ExportedClassifier:
    """Opens an exported network.

    Raises:
      InputError: it cannot be read, is not an exported network, is damaged, or is of another
        version.
    """
    path = Path(expanded(path))
    try:
        return ExportedClassifier(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); restore it, or export the network again"
        ) from None


_OF_WORKDIR = frozenset(
    ["explain", "logits", "masks", "network", "predictor", "run", "transformation", "workdir"]
)
"""Names of `Classifier` that need the network itself."""


class ExportedClassifier(ProbabilityMethods):
    """An exported network, ready for images; `iamt_jax.load` returns it for a file NAME.iamt.

    It has the methods of `Classifier` that need only probabilities; the others raise `InputError`.
    n and beta are single numbers.
    """

    def __init__(self, content: bytes, name: str):
        """Opens the result of `pack`; see `read_exported`, whose errors contain `name`."""
        self._source = name
        self.program = functools.cache(self._program)
        """`CURVE` or `AUTOMATIC` -> the program, deserialised and compiled once."""
        self.identity = hashlib.sha256(content).hexdigest()[:16]
        """Digest of the file; equal for equal files."""
        try:
            self.metadata, self._programs = _unpack(content)
            self.attributes = tuple(map(str, self.metadata["attributes"]))
            self.size = int(self.metadata["input"]["size"])
            self.own_beta = float(self.metadata["beta"].get("default", 0))
            self.thresholds = tuple(map(float, self.metadata["thresholds"]))
            self.step = int(self.metadata["network"]["step"])
        except Exception as error:  # zipfile, zlib and json raise many types.
            reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise InputError(
                f"{name}: not an exported network of this version ({' '.join(reason.split())}); "
                "write it anew with python -m iamt_jax export --workdir W --out "
                f"{shlex.quote(str(Path(name).with_suffix(EXPORTED_SUFFIX)))}"
            ) from None

    def __getattr__(self, name: str) -> Any:
        if name in _OF_WORKDIR:
            raise InputError(
                f"{self._source}: is an exported file, which gives only probabilities and has no "
                f"{name}; load the workdir that it was exported from"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def is_calibrated(self) -> bool:
        """True if it was exported with a calibration, which `auto` needs."""
        return AUTOMATIC in self._programs

    def require_automatic(self) -> None:
        """Raises `InputError` if the network was exported without a calibration."""
        if not self.is_calibrated:
            raise InputError(
                f"{self._source}: was exported without a calibration, which auto needs; run python "
                "-m iamt_jax calibrate --workdir W, then export again"
            )

    @xla_setup.default_numbers()
    def __call__(
        self,
        images: ImagesLike,
        n: float | None = None,
        beta: float | None = None,
        auto: bool = False,
    ) -> Float[np.ndarray, "image attribute"]:
        """Probabilities of each attribute, float32; one row for a single image.

        Args:
          images: as for `Classifier`.
          n: tone curve's power, a number from 0 to 1e6; None is 1.
          beta: tone curve's offset, a number from 0 to 1; None is the network's own.
          auto: use the calibrated transformation instead of n and beta.

        Raises:
          InputError: an invalid image, a curve out of range, `auto` together with a curve or
            without a calibration, or a program that this version of jax cannot read.
        """
        curve = curve_or_auto(n, beta, auto, self.own_beta)
        if curve is None:
            self.require_automatic()

        def answer(pictures: np.ndarray, _) -> jax.Array:
            scale = 255 if pictures.dtype == np.uint8 else 1
            pictures = pictures.astype(np.float32) / np.float32(scale)
            if curve is None:
                return self.program(AUTOMATIC)(pictures)[0]
            return self.program(CURVE)(pictures, *curve)

        return batched(answer, fit_images(images, self.size))

    def sweep(
        self,
        images: ImagesLike,
        n_values: Sequence[float],
        beta_values: Sequence[float],
    ) -> Float[np.ndarray, "n beta image attribute"]:
        """Probabilities under every tone curve of a grid, as `Classifier.sweep`, but with one pass
        for each pair.

        Args:
          images: as for `Classifier`.
          n_values: powers, each a number from 0 to 1e6.
          beta_values: offsets, each a number from 0 to 1.

        Raises:
          InputError: as a call.
        """
        n_values, beta_values = grid_values(n_values, beta_values)
        fitted = fit_images(images, self.size)
        pictures = fitted.pictures[0] if fitted.single else fitted.pictures
        return np.stack([[self(pictures, n, beta) for beta in beta_values] for n in n_values])

    def _program(self, name: str) -> jax.stages.Wrapped:
        try:
            program = export.deserialize(bytearray(self._programs[name]))
            if program.nr_devices != 1:  # jax before 0.8.2 reads 0 from files of later versions.
                raise ValueError(f"it finds a program for {program.nr_devices} devices")
            run = jax.jit(program.call)
            run.lower(*map(_one_image, program.in_avals))  # Checks the content without compiling.
        except Exception as error:  # flatbuffers and jax raise many types.
            written = self.metadata["made_with"]["versions"]["jax"]
            raise InputError(
                f"{self._source}: was written with jax {written}, and jax {jax.__version__} cannot "
                f"read it ({' '.join(str(error).split())}); install jax {written}, or export again "
                "with this one"
            ) from None
        return run


def _one_image(argument: jax.core.ShapedArray) -> jax.ShapeDtypeStruct:
    """Shape of a program's argument for a batch of one image; n and beta are scalars."""
    return jax.ShapeDtypeStruct((1, *argument.shape[1:])[: argument.ndim], argument.dtype)


def _unpack(content: bytes) -> tuple[dict, dict[str, bytes]]:
    """Reads metadata and programs.

    Raises:
      Exception: of any type, if the content is invalid.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        metadata = json.loads(file.read(METADATA))
        found = metadata["format"], metadata["version"]
        if found != (_FORMAT, _VERSION):
            raise ValueError(f"it is {found[0]} {found[1]}, expected {_FORMAT} {_VERSION}")
        programs = {}
        for name, digest in metadata["sha256"].items():
            member = file.read(name)
            if hashlib.sha256(member).hexdigest() != digest:
                raise ValueError(f"the checksum of {name} is wrong")
            programs[name.removesuffix(_SUFFIX)] = member
    if CURVE not in programs:
        raise ValueError(f"it has no program {CURVE}")
    return metadata, programs
