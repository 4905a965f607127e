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

from iamt_jax.errors import InputError
from iamt_jax.files import json_text, replace_bytes
from iamt_jax.report.tables import column_names

_IMAGE, _ERROR = "image", "error"
"""Names of the columns beside those of the attributes."""

TABLE_SUFFIXES = (".csv", ".parquet")
"""Suffixes of the tables that can be written."""


class PredictionRow(NamedTuple):
    """Prediction for one image, or None and the reason why it cannot be decoded."""

    probabilities: Float[np.ndarray, " attribute"] | None
    error: str = ""


class Journal:
    """Predictions so far, in a file that a later run reads if this one is killed.

    Each row records the size and modification time of its image, so that an image that changed
    is predicted again. The file exists as soon as there is a row.
    """

    def __init__(self, out: Path, settings: Mapping):
        """Reads the journal of the table `out` if it exists beside it.

        Args:
          out: final table.
          settings: everything the rows depend on, the model and the curve, in JSON types.

        Raises:
          InputError: it was written under other settings, or is damaged.
          OSError: it cannot be read.
        """
        self.path = out.with_name(f"{out.name}.partial")
        self._header = json_text(settings, sort_keys=True)
        self._keys: dict[Path, str] = {}
        self._rows: dict[str, PredictionRow] = {}
        self._end = 0
        content = self.path.read_bytes() if self.path.exists() else b""
        # A killed run may have left an incomplete line; the next `add` truncates it.
        whole = content[: content.rfind(b"\n") + 1]
        header, *lines = whole.decode("utf-8", "replace").splitlines() or [""]
        if lines:
            self._read(header, lines)
            self._end = len(whole)

    def _read(self, header: str, lines: list[str]) -> None:
        if header != self._header:
            raise InputError(
                f"{self.path}: was begun with another model or other flags; finish that with its "
                "own command, delete the file, or give another `out`"
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
            self._rows[key] = PredictionRow(numbers, error)

    def __contains__(self, image: Path) -> bool:
        return self._key(image) in self._rows

    def __getitem__(self, image: Path) -> PredictionRow:
        return self._rows[self._key(image)]

    def add(self, rows: Mapping[Path, PredictionRow]) -> None:
        """Appends rows to the file before it returns.

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
        """Removes the file, once the table is written."""
        self.path.unlink(missing_ok=True)

    def _key(self, image: Path) -> str:
        """Path, size and modification time of an image when first requested; only the path if it is
        gone."""
        if image not in self._keys:
            self._keys[image] = str(image)
            with contextlib.suppress(OSError):
                found = image.stat()
                self._keys[image] += f"|{found.st_size}|{found.st_mtime_ns}"
        return self._keys[image]


def write_predictions(
    path: Path,
    attributes: Sequence[str],
    images: Sequence[str],
    rows: Sequence[PredictionRow],
    thresholds: Sequence[float] | None = None,
) -> None:
    """Writes a table with one row for each image: `image`, one column an attribute, `error`.

    Args:
      path: `.csv` or `.parquet`.
      attributes: names of the columns, changed by `column_names` where necessary.
      images: name of the image of each row.
      rows: predictions; the cells of an image that could not be decoded are empty.
      thresholds: one an attribute; if given, the columns are 1 where the probability is greater
        and 0 elsewhere, instead of probabilities.

    Raises:
      OSError: the file cannot be written.
    """
    nothing = np.full(len(attributes), np.nan, np.float32)
    values = np.stack([nothing if r.probabilities is None else r.probabilities for r in rows])
    absent = np.array([row.probabilities is None for row in rows])
    if thresholds is not None:
        values = np.where(absent[:, None], np.nan, values > np.asarray(thresholds))
    # A file name may be invalid UTF-8, which Python represents by lone surrogates.
    images, errors = (
        [text.encode("utf-8", "backslashreplace").decode() for text in texts]
        for texts in (images, [row.error for row in rows])
    )
    write = _csv if path.suffix == TABLE_SUFFIXES[0] else _parquet
    header = [_IMAGE, *column_names(attributes, (_IMAGE, _ERROR)), _ERROR]
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
