"""Probabilities of many images as a table: csv, or parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from iamt_jax.attributes import column_names
from iamt_jax.files import replace_bytes
from iamt_jax.report.prediction_journal import Row

IMAGE, ERROR = "image", "error"
"""Names of the columns beside the attributes'."""

KINDS = (".csv", ".parquet")
"""Suffixes of the files that can be written."""


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
