"""CelebA's two lists, list_attr_celeba and list_eval_partition, as .txt or as .csv."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int8

from iamt_jax.data.attributes import MISSING
from iamt_jax.data.records import PARTITIONS
from iamt_jax.data.storage import refuse_web_page
from iamt_jax.errors import InputError

_MINUS, _EMPTY = 255, 2
_CODES = {"1": 1, "+1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": _MINUS, "-1.0": _MINUS}
_CODES |= dict.fromkeys(("", "nan", "NaN", "NA"), _EMPTY)
"""What a label's cell may hold -> one byte; what it means depends on the whole file."""

_NOT_A_NAME = re.compile(r"[-+]?[\d.]*|nan|.*\.(jpe?g|png|webp|bmp|tiff?)", re.IGNORECASE)
"""What a column's name never is: a number, nothing, or the name of an image file."""

Row = tuple[int, list[str]]
"""A line's number, counted from 1, and its cells."""


@dataclasses.dataclass(frozen=True)
class Labels:
    """The list of images and their labels, in the order of the file."""

    attributes: tuple[str, ...]
    names: tuple[str, ...]
    values: Int8[np.ndarray, "image attribute"]
    """1, 0 or `MISSING`."""


def read_labels(path: Path) -> Labels:
    """Reads list_attr_celeba (.txt or .csv); K and the names are what its header says.

    In a file that holds any -1, -1 means absent and 0 means that nobody annotated it; in any
    other, 0 means absent. An empty cell or NaN is never an annotation.

    Raises:
      InputError: a web page, a header that is not names, a wrong number of rows or columns, a
        name twice, a value that is no label.
    """
    rows = _rows(path)
    announced = None if path.suffix == ".csv" else _announced(path, rows)
    attributes = _header(path, rows)
    width = len(attributes) + 1
    names, cells = [], bytearray()
    for line, row in rows:
        if len(row) != width:
            raise InputError(
                f"{path}: line {line} has {len(row)} columns, expected {width} (the image's name "
                f"and {width - 1} labels): correct the line or download the file again"
            )
        if not row[0]:
            raise InputError(f"{path}: line {line} names no image: correct the line")
        names.append(row[0])
        try:
            cells.extend([_CODES[cell] for cell in row[1:]])
        except KeyError as error:
            column = next(i for i, cell in enumerate(row[1:]) if cell not in _CODES)
            raise InputError(
                f"{path}: line {line}, column {attributes[column]}: found {row[column + 1]!r}, "
                "expected -1, 0, 1 or nothing: correct the line"
            ) from error
    if announced is not None and announced != len(names):
        raise InputError(
            f"{path}: line 1 announces {announced:,} images, but {len(names):,} rows follow; the "
            "file is cut short or edited: download it again, or correct line 1"
        )
    _refuse_empty_or_twice(path, names)
    return Labels(attributes, tuple(names), _meaning(cells, len(names)))


def read_partitions(path: Path) -> dict[str, int]:
    """Reads list_eval_partition (.txt or .csv): image name -> index into `PARTITIONS`.

    Raises:
      InputError: a web page, a row that is not a name and 0, 1 or 2, or a name twice.
    """
    names, values = [], []
    for line, row in _rows(path):
        if line == 1 and row[1:] == ["partition"]:
            continue  # the header of the .csv
        if len(row) != 2 or row[1] not in ("0", "1", "2"):
            raise InputError(
                f"{path}: line {line} is {_excerpt(' '.join(row))}, expected an image's name and "
                f"its partition, 0 ({PARTITIONS[0]}), 1 ({PARTITIONS[1]}) or 2 ({PARTITIONS[2]}): "
                "correct the line"
            )
        names.append(row[0])
        values.append(int(row[1]))
    _refuse_empty_or_twice(path, names)
    return dict(zip(names, values, strict=True))


def _rows(path: Path) -> Iterator[Row]:
    """Yields the lines that are not blank, as cells; a byte order mark and CRLF do no harm."""
    try:
        refuse_web_page(path, "a list")
        with open(path, encoding="utf-8-sig", newline=None) as file:
            if path.suffix == ".csv":
                lines = csv.reader(file, skipinitialspace=True)
            else:
                lines = (line.split() for line in file)
            for number, row in enumerate(lines, 1):
                if any("\n" in cell or "\r" in cell for cell in row):
                    raise csv.Error(f"line {number} ends within quotes")
                if row:
                    yield number, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = " ".join(str(error).split())
        what, cure = "", "correct it"
        if isinstance(error, UnicodeDecodeError):
            what, cure = "as UTF-8 text ", "save it so"
        raise InputError(
            f"{path}: cannot be read {what}({reason}): {cure}, or download it again"
        ) from error


def _announced(path: Path, rows: Iterator[Row]) -> int:
    """Returns the number of images, which is all that line 1 of the .txt holds."""
    _, row = next(rows, (1, []))
    if len(row) != 1 or not re.fullmatch(r"[0-9]{1,12}", row[0]):
        raise InputError(
            f"{path}: line 1 is {_excerpt(' '.join(row))}, expected the number of images alone, "
            "then a line of attribute names: download the file again"
        )
    return int(row[0])


def _header(path: Path, rows: Iterator[Row]) -> tuple[str, ...]:
    line, row = next(rows, (0, []))
    named = row[1:] if path.suffix == ".csv" else row
    odd = [cell for cell in (row[:1] + named) if _NOT_A_NAME.fullmatch(cell)]
    if odd or not named:
        found = f"{odd[0]!r} in line {line}" if odd else "none"
        if len(row) == 1 and ";" in row[0]:
            found = f"semicolons between the cells of line {line}, where commas are expected"
        raise InputError(
            f"{path}: the header with the attributes' names is missing, found {found}, expected "
            "names such as 5_o_Clock_Shadow: put the header back or download the file again"
        )
    if len(set(named)) < len(named):
        raise InputError(
            f"{path}: line {line} names the attribute {_first_twice(named)} twice, expected "
            "every name once: correct the header"
        )
    return tuple(named)


def _meaning(cells: bytearray, images: int) -> Int8[np.ndarray, "image attribute"]:
    codes = np.frombuffer(cells, np.uint8).reshape(images, -1)
    zero = MISSING if (codes == _MINUS).any() else 0
    table = np.full(256, MISSING, np.int8)
    table[[1, 0, _MINUS, _EMPTY]] = 1, zero, 0, MISSING
    return table[codes]


def _refuse_empty_or_twice(path: Path, names: Sequence[str]) -> None:
    if not names:
        raise InputError(f"{path}: lists no images: download the file again")
    if len(set(names)) < len(names):
        raise InputError(
            f"{path}: lists {_first_twice(names)} twice, expected every image once: remove a row"
        )


def _first_twice(names: Sequence[str]) -> str:
    seen: set[str] = set()
    return next(name for name in names if name in seen or seen.add(name))


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")
