"""Probabilities of many images: the csv or parquet table, and the journal of a resumable run."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from iamt_jax.attributes import column_names
from iamt_jax.errors import InputError
from iamt_jax.files import json_text, replace_bytes

IMAGE, ERROR = "image", "error"
"""Names of the columns beside the attributes'."""

KINDS = (".csv", ".parquet")
"""Suffixes of the files that can be written."""


class Row(NamedTuple):
    """What is known of one image."""

    probabilities: Float[np.ndarray, " attribute"] | None
    """None where the image cannot be decoded."""
    error: str = ""
    """Why it cannot."""


class Journal:
    """Rows by image, appended as they come.

    Each row also has the image's size and time, so that an image that has changed since is looked
    at again. The file is there as soon as there is a row.
    """

    def __init__(self, out: Path, settings: Mapping):
        """Opens the journal of `out`, if there is one.

        Args:
          out: the file that is to be written in the end; the journal lies beside it.
          settings: what the rows depend on: the model and the curve, in JSON's types.

        Raises:
          InputError: one is there that was written under other settings, or is damaged.
          OSError: it cannot be read.
        """
        self.path = out.with_name(f"{out.name}.partial")
        self._header = json_text(settings, sort_keys=True)
        self._keys: dict[Path, str] = {}
        self._rows: dict[str, Row] = {}
        self._end = 0
        content = self.path.read_bytes() if self.path.exists() else b""
        # A killed run may have left half a line; it is cut off by the next one that is written.
        whole = content[: content.rfind(b"\n") + 1]
        header, *lines = whole.decode("utf-8", "replace").splitlines() or [""]
        if lines:
            self._take(header, lines)
            self._end = len(whole)

    def _take(self, header: str, lines: list[str]) -> None:
        if header != self._header:
            raise InputError(
                f"{self.path}: was begun with another model or other flags; finish that with its "
                "own command, delete the file, or give another --out"
            )
        for number, line in enumerate(lines, 2):
            try:
                key, values, error = json.loads(line)
                numbers = None if values is None else np.array(values, np.float32)
            except ValueError:
                raise InputError(
                    f"{self.path}: line {number} is damaged; delete the file, and all images are "
                    "judged again"
                ) from None
            self._rows[key] = Row(numbers, error)

    def __contains__(self, image: Path) -> bool:
        return self._key(image) in self._rows

    def __getitem__(self, image: Path) -> Row:
        return self._rows[self._key(image)]

    def add(self, rows: Mapping[Path, Row]) -> None:
        """Appends rows; they are in the file when this returns.

        Raises:
          OSError: the file cannot be written.
        """
        lines = [] if self._end else [self._header]
        for image, row in rows.items():
            values = None if row.probabilities is None else row.probabilities.tolist()
            lines.append(json_text([self._key(image), values, row.error]))
            self._rows[self._key(image)] = row
        content = "".join(f"{line}\n" for line in lines).encode()
        with open(self.path, "ab") as file:
            file.truncate(self._end)
            file.write(content)
        self._end += len(content)

    def close(self) -> None:
        """Removes the file: what was to be written has been."""
        self.path.unlink(missing_ok=True)

    def _key(self, image: Path) -> str:
        """An image's place, size and time when it was first asked for; its place if it is gone."""
        if image not in self._keys:
            self._keys[image] = str(image)
            with contextlib.suppress(OSError):
                found = image.stat()
                self._keys[image] += f"|{found.st_size}|{found.st_mtime_ns}"
        return self._keys[image]


def write_results(
    path: Path,
    attributes: Sequence[str],
    images: Sequence[str],
    rows: Sequence[Row],
    thresholds: Sequence[float] | None = None,
) -> None:
    """Writes a table with a row an image: `image`, a column an attribute, `error`.

    An attribute called `image` or `error` has the column that `attributes.column_names` says.

    Args:
      path: `.csv` or `.parquet`.
      attributes: names of the columns.
      images: how each row calls its image.
      rows: probabilities, empty cells where an image could not be decoded.
      thresholds: one an attribute; the columns then hold 1 and 0, whether the probability is
        greater, in place of probabilities.

    Raises:
      OSError: the file cannot be written.
    """
    nothing = np.full(len(attributes), np.nan, np.float32)
    values = np.stack([nothing if r.probabilities is None else r.probabilities for r in rows])
    absent = np.array([row.probabilities is None for row in rows])
    if thresholds is not None:
        values = np.where(absent[:, None], np.nan, values > np.asarray(thresholds))
    # A file's name may be no UTF-8, which Python keeps as lone surrogates.
    images, errors = (
        [text.encode("utf-8", "backslashreplace").decode() for text in texts]
        for texts in (images, [row.error for row in rows])
    )
    write = _csv if path.suffix == KINDS[0] else _parquet
    header = [IMAGE, *column_names(attributes, (IMAGE, ERROR)), ERROR]
    replace_bytes(path, write(header, images, values, errors, thresholds is not None))


def _csv(header, images, values, errors, decided: bool) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(header)
    form = "{:.0f}" if decided else "{:.7g}"
    for image, row, error in zip(images, values, errors, strict=True):
        table.writerow([image, *("" if np.isnan(x) else form.format(x) for x in row), error])
    return text.getvalue().encode()


def _parquet(header, images, values, errors, decided: bool) -> bytes:
    import pyarrow
    from pyarrow import parquet

    kind = pyarrow.int8() if decided else pyarrow.float32()
    columns = [
        pyarrow.array(column, kind, from_pandas=True, mask=np.isnan(column), safe=False)
        for column in np.asarray(values, np.float64).T
    ]
    arrays = [pyarrow.array(images), *columns, pyarrow.array(errors)]
    table = pyarrow.Table.from_arrays(arrays, header)
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()
