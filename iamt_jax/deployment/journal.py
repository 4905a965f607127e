"""What has been predicted so far, in a file that a killed run leaves and the next one reads."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from iamt_jax.errors import InputError


class Row(NamedTuple):
    """What is known of one image."""

    probabilities: Float[np.ndarray, " attribute"] | None
    """None where the image cannot be decoded."""
    error: str = ""
    """Why it cannot."""


class Journal:
    """Rows by image, appended as they come.

    Each row also has the image's size and time, so that an image that has changed since is looked
    at again.
    """

    def __init__(self, out: Path, settings: Mapping):
        """Opens the journal of `out`, or begins one.

        Args:
          out: the file that is to be written in the end; the journal lies beside it.
          settings: what the rows depend on: the model and the curve, in JSON's types.

        Raises:
          InputError: one is there that was written under other settings.
        """
        self.path = out.with_name(f"{out.name}.partial")
        self._settings = json.dumps(settings, sort_keys=True)
        self._rows: dict[str, Row] = {}
        for line in self._lines():
            key, values, error = json.loads(line)
            numbers = None if values is None else np.array(values, np.float32)
            self._rows[key] = Row(numbers, error)

    def _lines(self) -> Iterator[str]:
        """The whole lines of rows; a killed run may have left half of one, which is cut off."""
        if not self.path.exists():
            self.path.write_text(self._settings + "\n", encoding="utf-8")
            return
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        first, *rows = whole.decode("utf-8", "replace").splitlines() or [""]
        if first != self._settings:
            raise InputError(
                f"{self.path}: was begun with another model or other flags; finish that with its "
                "own command, delete the file, or give another --out"
            )
        if len(whole) < len(content):
            with open(self.path, "r+b") as file:
                file.truncate(len(whole))
        yield from rows

    def __contains__(self, image: Path) -> bool:
        return _key(image) in self._rows

    def __getitem__(self, image: Path) -> Row:
        return self._rows[_key(image)]

    def add(self, rows: Mapping[Path, Row]) -> None:
        """Appends rows; they are in the file when this returns.

        Raises:
          OSError: the file cannot be written.
        """
        lines = []
        for image, row in rows.items():
            values = None if row.probabilities is None else row.probabilities.tolist()
            lines.append(json.dumps([_key(image), values, row.error]) + "\n")
            self._rows[_key(image)] = row
        with open(self.path, "a", encoding="utf-8") as file:
            file.writelines(lines)

    def close(self) -> None:
        """Removes the file: what was to be written has been."""
        self.path.unlink(missing_ok=True)


def _key(image: Path) -> str:
    """An image's place, size and time; of one that is gone, its place."""
    with contextlib.suppress(OSError):
        found = image.stat()
        return f"{image}|{found.st_size}|{found.st_mtime_ns}"
    return str(image)
