"""CelebA's two lists, list_attr_celeba and list_eval_partition, and a user's own csv."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int8, UInt8

from iamt_jax.data.attributes import MISSING
from iamt_jax.data.records import PARTITIONS
from iamt_jax.data.storage import refuse_web_page
from iamt_jax.errors import InputError

_MINUS, _EMPTY = 255, 2
_CODES = {"1": 1, "+1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": _MINUS, "-1.0": _MINUS}
_CODES |= dict.fromkeys(("", "nan", "NaN", "NA"), _EMPTY)
"""What a label's cell may hold -> one byte; what it means depends on the whole file."""

_NOT_A_NAME = re.compile(r"[-+]?[\d.]*|nan|.*\.(jpe?g|png|webp|bmp|tiff?|gif)", re.IGNORECASE)
"""What a column's name never is: a number, nothing, or the name of an image file."""

_SPLIT = "split"
"""The column of a user's own csv that says which partition an image is in."""

_PARTITION = {"train": 0, "validation": 1, "val": 1, "valid": 1, "test": 2, "0": 0, "1": 1, "2": 2}
"""What a cell of that column may hold, in either case -> index into `PARTITIONS`."""

_SEPARATORS = {";": "semicolons", "\t": "tabs"}

Row = tuple[int, list[str]]
"""A line's number, counted from 1, and its cells."""


class _Form(NamedTuple):
    """What a list looks like, and how an error speaks of it."""

    commas: bool
    header: str
    """What is expected in the header's place."""
    again: str = " or download the file again"
    """What else may help than to correct it."""
    empty: str = "download the file again"
    """What helps where it lists nothing."""


_CELEBA_TXT = _Form(False, "names such as 5_o_Clock_Shadow")
_CELEBA_CSV = _CELEBA_TXT._replace(commas=True)
_OWN = _Form(True, "a first line such as image,striped,round", "", "add a line an image")


@dataclasses.dataclass(frozen=True)
class Labels:
    """The list of images and their labels, in the order of the file."""

    attributes: tuple[str, ...]
    names: tuple[str, ...]
    values: Int8[np.ndarray, "image attribute"]
    """1, 0 or `MISSING`."""
    partition: Int8[np.ndarray, " image"] | None = None
    """Index into `PARTITIONS`, where a user's own csv has a column `split`."""
    ambiguous: bool = False
    """The file holds both -1 and 0, so that 0 was read as not annotated."""


def read_labels(path: Path) -> Labels:
    """Reads list_attr_celeba (.txt or .csv); K and the names are what its header says.

    In a file that holds any -1, -1 means absent and 0 means that nobody annotated it; in any
    other, 0 means absent. An empty cell or NaN is never an annotation.

    Raises:
      InputError: a web page, a header that is not names, a wrong number of rows or columns, a
        name twice, a value that is no label.
    """
    form = _celeba(path)
    rows = _rows(path, form)
    announced = None if form.commas else _announced(path, rows)
    labels = _labels(path, rows, form)
    if announced is not None and announced != len(labels.names):
        raise InputError(
            f"{path}: line 1 announces {announced:,} images, but {len(labels.names):,} rows "
            "follow; the file is cut short or edited: download it again, or correct line 1"
        )
    _refuse_empty_or_twice(path, labels.names, form)
    return labels


def read_own_labels(path: Path) -> Labels:
    """Reads a user's own csv: the header `image,<attribute>,...`, then a line an image.

    Labels are what `read_labels` takes. A column called `split` is no attribute: it holds train,
    validation (val, valid) or test, or CelebA's 0, 1 and 2. Blanks around a cell do no harm.

    Raises:
      InputError: as `read_labels`, or a split that is none.
    """
    rows = ((line, [cell.strip() for cell in row]) for line, row in _rows(path, _OWN))
    labels = _labels(path, rows, _OWN)
    _refuse_empty_or_twice(path, labels.names, _OWN)
    return labels


def read_partitions(path: Path) -> dict[str, int]:
    """Reads list_eval_partition (.txt or .csv): image name -> index into `PARTITIONS`.

    Raises:
      InputError: a web page, a row that is not a name and 0, 1 or 2, or a name twice.
    """
    names, values = [], []
    form = _celeba(path)
    for line, row in _rows(path, form):
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
    _refuse_empty_or_twice(path, names, form)
    return dict(zip(names, values, strict=True))


def _celeba(path: Path) -> _Form:
    return _CELEBA_CSV if path.suffix == ".csv" else _CELEBA_TXT


def _labels(path: Path, rows: Iterator[Row], form: _Form) -> Labels:
    """What follows the header, whatever announces it."""
    columns = _header(path, rows, form)
    split = next((i for i, name in enumerate(columns) if _splits(name, form)), None)
    attributes = tuple(name for i, name in enumerate(columns) if i != split)
    names, cells, partition = [], bytearray(), bytearray()
    for line, row in rows:
        if len(row) != len(columns) + 1:
            raise InputError(
                f"{path}: line {line} has {len(row)} columns, expected {len(columns) + 1} (the "
                f"image's name{'' if split is None else ', its split'} and {len(attributes)} "
                f"labels): correct the line{form.again}"
            )
        if not row[0]:
            raise InputError(f"{path}: line {line} names no image: correct the line")
        if split is not None:
            partition.append(_partition(path, line, row.pop(split + 1)))
        names.append(row[0])
        try:
            cells.extend([_CODES[cell] for cell in row[1:]])
        except KeyError as error:
            column = next(i for i, cell in enumerate(row[1:]) if cell not in _CODES)
            raise InputError(
                f"{path}: line {line}, column {attributes[column]}: found {row[column + 1]!r}, "
                "expected -1, 0, 1 or nothing: correct the line"
            ) from error
    codes = np.frombuffer(cells, np.uint8).reshape(len(names), len(attributes))
    return Labels(
        attributes,
        tuple(names),
        _meaning(codes),
        None if split is None else np.frombuffer(partition, np.int8),
        bool((codes == _MINUS).any() and (codes == 0).any()),
    )


def _rows(path: Path, form: _Form) -> Iterator[Row]:
    """Yields the lines that are not blank, as cells; a byte order mark and CRLF do no harm."""
    try:
        refuse_web_page(path, "a list")
        with open(path, encoding="utf-8-sig", newline=None) as file:
            if form.commas:
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
        again = ", or download it again" if form.again else ""
        raise InputError(f"{path}: cannot be read {what}({reason}): {cure}{again}") from error


def _announced(path: Path, rows: Iterator[Row]) -> int:
    """Returns the number of images, which is all that line 1 of the .txt holds."""
    _, row = next(rows, (1, []))
    if len(row) != 1 or not re.fullmatch(r"[0-9]{1,12}", row[0]):
        raise InputError(
            f"{path}: line 1 is {_excerpt(' '.join(row))}, expected the number of images alone, "
            "then a line of attribute names: download the file again"
        )
    return int(row[0])


def _header(path: Path, rows: Iterator[Row], form: _Form) -> tuple[str, ...]:
    """Names of the columns after the image's."""
    line, row = next(rows, (0, []))
    named = row[1:] if form.commas else row
    odd = [cell for cell in (row[:1] + named) if _NOT_A_NAME.fullmatch(cell)]
    if odd or not any(not _splits(name, form) for name in named):
        found = f"{odd[0]!r} in line {line}" if odd else "none"
        cure = f"put the header back{form.again}"
        used = [word for separator, word in _SEPARATORS.items() if separator in "".join(row)]
        if len(row) == 1 and used:
            found = f"{used[0]} between the cells of line {line}, where commas are expected"
            cure = "save the file with commas" if form is _OWN else cure
        raise InputError(
            f"{path}: the header with the attributes' names is missing, found {found}, expected "
            f"{form.header}: {cure}"
        )
    twice = [name.lower() if _splits(name, form) else name for name in named]
    if len(set(twice)) < len(twice):
        raise InputError(
            f"{path}: line {line} names the attribute {_first_twice(twice)} twice, "
            "expected every name once: correct the header"
        )
    return tuple(named)


def _splits(column: str, form: _Form) -> bool:
    """Whether a column says which partition an image is in."""
    return form is _OWN and column.lower() == _SPLIT


def _partition(path: Path, line: int, cell: str) -> int:
    try:
        return _PARTITION[cell.lower()]
    except KeyError:
        raise InputError(
            f"{path}: line {line}, column {_SPLIT}: found {cell!r}, expected "
            f"{', '.join(PARTITIONS[:-1])} or {PARTITIONS[-1]}: correct the line"
        ) from None


def _meaning(codes: UInt8[np.ndarray, "image attribute"]) -> Int8[np.ndarray, "image attribute"]:
    zero = MISSING if (codes == _MINUS).any() else 0
    table = np.full(256, MISSING, np.int8)
    table[[1, 0, _MINUS, _EMPTY]] = 1, zero, 0, MISSING
    return table[codes]


def _refuse_empty_or_twice(path: Path, names: Sequence[str], form: _Form) -> None:
    if not names:
        raise InputError(f"{path}: lists no images: {form.empty}")
    if len(set(names)) < len(names):
        raise InputError(
            f"{path}: lists {_first_twice(names)} twice, expected every image once: remove a row"
        )


def _first_twice(names: Sequence[str]) -> str:
    seen: set[str] = set()
    return next(name for name in names if name in seen or seen.add(name))


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")
