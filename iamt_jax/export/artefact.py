"""The file of an exported network, NAME.iamt: a zip of programs, and of what must be known of them.

metadata.json says what goes in and comes out; the programs are in `jax.export`'s format, and run
with jax, numpy and flatbuffers alone (docs/deploy.md).
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import shlex
import zipfile
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from jax import export
from jaxtyping import Float

from iamt_jax import xla_setup
from iamt_jax.config import LARGEST_N
from iamt_jax.errors import InputError
from iamt_jax.files import expanded, json_text
from iamt_jax.inference.inputs import (
    Pictures,
    batched,
    curve_values,
    fit_images,
    refuse_curve_beside_auto,
)

METADATA = "metadata.json"
FORMAT, VERSION = "iamt", 1
CURVE, AUTOMATIC = "curve", "automatic"
"""The programs: by n and beta, and by the calibrated transformation, which may be absent."""

SUFFIX = ".jaxexport"
"""Of a program's member."""


def pack(metadata: Mapping, programs: Mapping[str, bytes]) -> bytes:
    """The file's content.

    Args:
      metadata: what to know of the network; format, version and digests are added.
      programs: name (`CURVE`, `AUTOMATIC`) -> serialised program.
    """
    members = {f"{name}{SUFFIX}": program for name, program in programs.items()}
    digests = {name: hashlib.sha256(member).hexdigest() for name, member in members.items()}
    metadata = {"format": FORMAT, "version": VERSION, **metadata, "sha256": digests}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, member in {METADATA: json_text(metadata, indent=2).encode(), **members}.items():
            # A fixed time: the same programs give the same bytes.
            file.writestr(zipfile.ZipInfo(name), member, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def read_artefact(path: Path) -> Artefact:
    """Opens an exported network.

    Raises:
      InputError: it cannot be read, is none of ours, damaged, or of another version.
    """
    path = Path(expanded(path))
    try:
        return Artefact(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); restore it") from None


class Artefact:
    """An exported network, ready for images."""

    def __init__(self, content: bytes, name: str):
        """Opens the content of a file.

        Args:
          content: what `pack` made.
          name: how an error calls it.

        Raises:
          InputError: it is none of ours, damaged, or of another version.
        """
        self._name = name
        self.program = functools.cache(self._program)
        """`CURVE` or `AUTOMATIC` -> the program, ready to be called and compiled once."""
        self.identity = hashlib.sha256(content).hexdigest()[:16]
        """Which file this is."""
        try:
            self.metadata, self._programs = _unpack(content)
            self.attributes = tuple(map(str, self.metadata["attributes"]))
            self.size = int(self.metadata["input"]["size"])
            self.thresholds = tuple(map(float, self.metadata["thresholds"]))
        except Exception as error:  # zipfile, zlib, json and a foreign file raise a dozen types.
            reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise InputError(
                f"{name}: not an exported network of this version ({' '.join(reason.split())}); "
                "write it anew with python -m iamt_jax export --workdir W --out "
                f"{shlex.quote(str(Path(name).with_suffix('.iamt')))}"
            ) from None

    def require_automatic(self) -> None:
        """Raises `InputError` where the workdir was not calibrated."""
        if AUTOMATIC not in self._programs:
            raise InputError(
                f"{self._name}: was exported without a calibration, which auto needs; run python "
                "-m iamt_jax calibrate --workdir W, then export again"
            )

    @xla_setup.default_numbers()
    def __call__(
        self, images: Pictures, n: float = 1.0, beta: float = 0.0, auto: bool = False
    ) -> Float[np.ndarray, "image attribute"]:
        """Probabilities of each attribute, float32; a single image gives a single row.

        Args:
          images: as `Classifier` takes them.
          n: tone curve's power, a number from 0 to 1e6.
          beta: tone curve's offset, a number from 0 to 1.
          auto: by the calibrated transformation, in the place of n and beta.

        Raises:
          InputError: an image of another kind, a curve out of range, `auto` beside a curve or
            without a calibration, or a program that this jax cannot read.
        """
        n, beta = curve_values("n", n, LARGEST_N, ()), curve_values("beta", beta, 1, ())
        if auto:
            self.require_automatic()
            refuse_curve_beside_auto(n, beta)

        def answer(pictures: np.ndarray, _) -> jax.Array:
            scale = 255 if pictures.dtype == np.uint8 else 1
            pictures = pictures.astype(np.float32) / np.float32(scale)
            if auto:
                return self.program(AUTOMATIC)(pictures)[0]
            return self.program(CURVE)(pictures, n, beta)

        return batched(answer, fit_images(images, self.size))

    def _program(self, name: str) -> jax.stages.Wrapped:
        try:
            program = export.deserialize(bytearray(self._programs[name]))
            if program.nr_devices != 1:  # jax before 0.8.2 reads 0 out of what later ones wrote.
                raise ValueError(f"it finds a program for {program.nr_devices} devices")
            run = jax.jit(program.call)
            run.lower(*map(_one_image, program.in_avals))  # Reads what is in it, compiles nothing.
        except Exception as error:  # flatbuffers and jax say in many ways what they do not know.
            written = self.metadata["made_with"]["versions"]["jax"]
            raise InputError(
                f"{self._name}: was written with jax {written}, and jax {jax.__version__} cannot "
                f"read it ({' '.join(str(error).split())}); install jax {written}, or export again "
                "with this one"
            ) from None
        return run


def _one_image(argument: jax.core.ShapedArray) -> jax.ShapeDtypeStruct:
    """The argument for a batch of one image; n and beta have no batch."""
    return jax.ShapeDtypeStruct((1, *argument.shape[1:])[: argument.ndim], argument.dtype)


def _unpack(content: bytes) -> tuple[dict, dict[str, bytes]]:
    """Metadata and programs.

    Raises:
      Exception: whatever is wrong with them, of any type.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        metadata = json.loads(file.read(METADATA))
        found = metadata["format"], metadata["version"]
        if found != (FORMAT, VERSION):
            raise ValueError(f"it is {found[0]} {found[1]}, expected {FORMAT} {VERSION}")
        programs = {}
        for name, digest in metadata["sha256"].items():
            member = file.read(name)
            if hashlib.sha256(member).hexdigest() != digest:
                raise ValueError(f"the checksum of {name} is wrong")
            programs[name.removesuffix(SUFFIX)] = member
    if CURVE not in programs:
        raise ValueError(f"it has no program {CURVE}")
    return metadata, programs
