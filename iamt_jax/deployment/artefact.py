"""The file of an exported network, NAME.iamt: a zip of programs, and of what must be known of them.

metadata.json says what goes in and comes out; the programs are in `jax.export`'s format, and run
with jax, numpy and flatbuffers alone (docs/deploy.md).
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from iamt_jax.config import LARGEST_N
from iamt_jax.errors import InputError
from iamt_jax.files import replace_bytes
from iamt_jax.inputs import Pictures, batched, curve, fit

METADATA = "metadata.json"
FORMAT, VERSION = "iamt", 1
CURVE, AUTOMATIC = "curve", "automatic"
"""The programs: by n and beta, and by the calibrated transformation, which may be absent."""


def write_artefact(path: Path, metadata: Mapping, programs: Mapping[str, bytes]) -> None:
    """Writes the file, whole or not at all.

    Args:
      path: of the file.
      metadata: what to know of the network; format, version and digests are added.
      programs: name (`CURVE`, `AUTOMATIC`) -> serialised program.

    Raises:
      OSError: the folder cannot be written.
    """
    members = {f"{name}.jaxexport": program for name, program in programs.items()}
    digests = {name: hashlib.sha256(member).hexdigest() for name, member in members.items()}
    metadata = {"format": FORMAT, "version": VERSION, **metadata, "sha256": digests}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, member in {METADATA: json.dumps(metadata, indent=2).encode(), **members}.items():
            # A fixed time: the same network gives the same bytes.
            file.writestr(zipfile.ZipInfo(name), member, zipfile.ZIP_DEFLATED)
    replace_bytes(path, buffer.getvalue())


class Artefact:
    """An exported network, ready for images."""

    def __init__(self, path: Path):
        """Opens the file.

        Raises:
          InputError: it is none of ours, damaged, or of another version.
        """
        self.path = path
        try:
            with zipfile.ZipFile(path) as file:
                self.metadata = json.loads(file.read(METADATA))
                if (self.metadata["format"], self.metadata["version"]) != (FORMAT, VERSION):
                    raise ValueError("it is of another version")
                self._programs = {
                    name.removesuffix(".jaxexport"): _whole(file.read(name), digest)
                    for name, digest in self.metadata["sha256"].items()
                }
            self.attributes = tuple(map(str, self.metadata["attributes"]))
            self.size = int(self.metadata["input"]["size"])
            self.thresholds = tuple(map(float, self.metadata["thresholds"]))
        except Exception as error:  # zipfile, zlib, json and a foreign file raise a dozen types.
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"{path}: not an exported network of this version ({reason}); write it anew with "
                f"python -m iamt_jax export --workdir W --out {path}"
            ) from None

    @property
    def identity(self) -> str:
        """Which file this is."""
        text = json.dumps(self.metadata, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __call__(
        self, images: Pictures, n: float = 1.0, beta: float = 0.0, auto: bool = False
    ) -> Float[np.ndarray, "image attribute"]:
        """Probabilities of each attribute, float32; a single image gives a single row.

        Args:
          images: as `Classifier` takes them.
          n: tone curve's power, from 0 to 1e6.
          beta: tone curve's offset, from 0 to 1.
          auto: by the calibrated transformation, in the place of n and beta.

        Raises:
          InputError: an image of another kind, a curve out of range, or `auto` without it.
        """
        n, beta = curve("n", n, LARGEST_N, ()), curve("beta", beta, 1, ())
        if auto and AUTOMATIC not in self._programs:
            raise InputError(
                f"{self.path}: was exported without a calibration, which auto needs; run python "
                "-m iamt_jax calibrate, then export again"
            )

        def answer(pictures: np.ndarray, _) -> jax.Array:
            scale = 255 if pictures.dtype == np.uint8 else 1
            pictures = pictures.astype(np.float32) / np.float32(scale)
            if auto:
                return self._compiled(AUTOMATIC)(pictures)[0]
            return self._compiled(CURVE)(pictures, n, beta)

        return batched(answer, fit(images, self.size))

    @functools.cache  # noqa: B019 (an artefact lives as long as its process)
    def _compiled(self, name: str) -> Callable[..., Any]:
        from jax import export

        return jax.jit(export.deserialize(bytearray(self._programs[name])).call)


def _whole(member: bytes, digest: str) -> bytes:
    if hashlib.sha256(member).hexdigest() != digest:
        raise ValueError("a checksum is wrong")
    return member
