"""Reads list_attr_celeba and list_eval_partition of CelebA, and a user's own csv of labels."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from jaxtyping import Int8, UInt8

from iamt_jax.config import MISSING
from iamt_jax.data.dataset import PARTITIONS
from iamt_jax.data.file_names import SUFFIXES
from iamt_jax.data.image_files import refuse_placeholder
from iamt_jax.errors import InputError

_NUMBER = re.compile(r"[-+]?[\d.]*|nan", re.IGNORECASE)
"""A number or nothing; no column has such a name."""

_UNNAMED = re.compile(r"|Unnamed: \d+")
"""Name of an unnamed column, as pandas writes an index and reads it again."""


class _Row(NamedTuple):
    """A line that is not blank."""

    line: int
    """Counted from 1."""
    cells: list[str]
    """Stripped of surrounding blanks."""


def read_table(path: Path, commas: bool) -> tuple[_Row, Iterator[_Row]]:
    """Returns the first line of a list, which has no cells if there is none, and the other lines.

    Cells are separated by commas or else by white space. A byte order mark, CRLF, quotes, blanks
    around cells and a line break in a cell of the first line are accepted. The index columns that
    pandas writes before the names are removed.

    Raises:
      InputError: the file is a web page or not UTF-8, or a quote is not closed; also raised while
        lines are read.
    """
    rows = _rows(path, commas)
    first = list(itertools.islice(rows, 2))
    skipped = _index_columns(*(row.cells for row in first)) if commas and len(first) == 2 else 0
    rows = (_Row(line, cells[skipped:]) for line, cells in itertools.chain(first, rows))
    return next(rows, _Row(0, [])), rows


def _index_columns(header: list[str], row: list[str]) -> int:
    """Counts the columns before the first cell that is no number, if all of them are unnamed."""
    count = next((i for i, cell in enumerate(row) if not _NUMBER.fullmatch(cell)), 0)
    return count if all(_UNNAMED.fullmatch(name) for name in header[:count]) else 0


def _rows(path: Path, commas: bool) -> Iterator[_Row]:
    try:
        refuse_placeholder(path, "a list")
        with open(path, encoding="utf-8-sig", newline=None) as file:
            rows = _separated(file) if commas else _spaced(file)
            yield from (row for row in rows if row.cells)
    except (UnicodeDecodeError, csv.Error) as error:
        reason = " ".join(str(error).split())
        undecoded = isinstance(error, UnicodeDecodeError)
        what, cure = ("as UTF-8 text ", "save it as UTF-8") if undecoded else ("", "correct it")
        raise InputError(f"{path}: cannot be read {what}({reason}): {cure}") from error


def _spaced(file: TextIO) -> Iterator[_Row]:
    return (_Row(number, line.split()) for number, line in enumerate(file, 1))


def _separated(file: TextIO) -> Iterator[_Row]:
    """Yields the lines of a .csv; line breaks in cells of the first line become blanks."""
    reader = csv.reader(file, skipinitialspace=True)
    line, count, broken = 1, 0, False
    for cells in reader:
        if any("\n" in cell for cell in cells):
            if count:
                raise csv.Error(f"line {line} ends within quotes")
            cells, broken = [" ".join(cell.split()) for cell in cells], True
        yield _Row(line, [cell.strip() for cell in cells])
        count += bool(cells)
        line = reader.line_num + 1
    if broken and count == 1:  # The quotes include the rest of the file.
        raise csv.Error("line 1 ends within quotes")


_MINUS, _EMPTY = 255, 2
_CODES = {"1": 1, "+1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": _MINUS, "-1.0": _MINUS}
_CODES |= dict.fromkeys(("", "nan", "NaN", "NA"), _EMPTY)
"""Text of a label's cell -> a code, whose meaning depends on the whole file (`meaning`)."""

NO_LABEL = 254
"""Code of a number that is no label."""

_SPLIT = "split"
"""Name of the column of a user's own csv that holds the partition of an image."""

PARTITION_WORDS = {"train": 0, "validation": 1, "val": 1, "valid": 1, "test": 2}
"""Usual word for a partition, in lower case -> index into `PARTITIONS`."""

_PARTITION = PARTITION_WORDS | {f"{i}{end}": i for i in range(3) for end in ("", ".0")}
"""Text of a cell of that column, in lower case -> index into `PARTITIONS`."""

_IMAGE_COLUMN = re.compile(r"(image|img|file|photo|picture)?[-_ ]?(id|name|file|path)?", re.I)
"""Names of the column of images, in a .txt that names it."""

_COUNT = re.compile(r"[0-9]{1,12}")
"""The number of images, which is line 1 of CelebA's own .txt."""

_SEPARATORS = {";": "semicolons", "\t": "tabs"}


class _Form(NamedTuple):
    """The format of a list, with texts for error messages."""

    commas: bool
    header: str
    """Description of the expected header."""
    empty: str = "download the file again"
    """Advice for a list without images."""


_CELEBA_TXT = _Form(False, "names such as 5_o_Clock_Shadow")
_CELEBA_CSV = _CELEBA_TXT._replace(commas=True)
_OWN = _Form(True, "a first line such as image,striped,round", "add a line an image")


@dataclasses.dataclass(frozen=True)
class LabelList:
    """Images and their labels, in the order of the file."""

    attributes: tuple[str, ...]
    names: tuple[str, ...]
    values: Int8[np.ndarray, "image attribute"]
    """1, 0 or `MISSING`."""
    partition: Int8[np.ndarray, " image"] | None = None
    """Index into `PARTITIONS`, if a user's own csv has a column `split`."""
    ambiguous: bool = False
    """True if the file holds both -1 and 0, so that 0 was read as not annotated."""


def read_labels(path: Path) -> LabelList:
    """Reads list_attr_celeba (.txt or .csv); its header gives the K attributes.

    If the file holds any -1, then -1 means absent and 0 not annotated; otherwise 0 means absent.
    An empty cell or NaN means not annotated. The .txt may lack the number of images in its first
    line; a csv that pandas rewrote is accepted, see `read_table`.

    Raises:
      InputError: the file is a web page, the header holds no names, the number of rows or columns
        is wrong, a name occurs twice, or a value is no label.
    """
    form = _celeba(path)
    header, rows = read_table(path, form.commas)
    announced = None
    if not form.commas and len(header.cells) == 1 and _COUNT.fullmatch(header.cells[0]):
        announced, header = int(header.cells[0]), next(rows, _Row(0, []))
    labels = _labels(path, header, rows, form)
    if announced is not None and announced != len(labels.names):
        raise InputError(
            f"{path}: line 1 announces {announced:,} images, but {len(labels.names):,} rows "
            "follow; the file is cut short or edited: download it again, or correct line 1"
        )
    _refuse_empty_or_twice(path, labels.names, form)
    return labels


def read_own_labels(path: Path) -> LabelList:
    """Reads a user's own csv: the header `image,<attribute>,...`, then one line an image.

    Labels are written as for `read_labels`. A column called `split` is no attribute: it holds
    train, validation (val, valid) or test, or CelebA's 0, 1 and 2.

    Raises:
      InputError: as `read_labels`, or a cell of `split` is none of these.
    """
    labels = _labels(path, *read_table(path, commas=True), _OWN)
    _refuse_empty_or_twice(path, labels.names, _OWN)
    return labels


def read_partitions(path: Path) -> dict[str, int]:
    """Reads list_eval_partition (.txt or .csv): image name -> index into `PARTITIONS`.

    Raises:
      InputError: the file is a web page, a row is not a name and 0, 1 or 2, or a name occurs
        twice.
    """
    names, values = [], []
    form = _celeba(path)
    first, rows = read_table(path, form.commas)
    if first.cells and first.cells[-1].lower() != "partition":  # The .txt has no header.
        rows = itertools.chain([first], rows)
    for line, row in rows:
        if len(row) != 2 or row[1].lower() not in _PARTITION:
            raise InputError(
                f"{path}: line {line} is {_excerpt(' '.join(row))}, expected an image's name and "
                f"its partition, 0 ({PARTITIONS[0]}), 1 ({PARTITIONS[1]}) or 2 ({PARTITIONS[2]}): "
                "correct the line"
            )
        names.append(row[0])
        values.append(_PARTITION[row[1].lower()])
    _refuse_empty_or_twice(path, names, form)
    return dict(zip(names, values, strict=True))


def _celeba(path: Path) -> _Form:
    return _CELEBA_CSV if path.suffix.lower() == ".csv" else _CELEBA_TXT


def _labels(path: Path, header: _Row, rows: Iterable[_Row], form: _Form) -> LabelList:
    """Reads the rows below a header."""
    columns = _columns(path, header, form)
    split = next((i for i, name in enumerate(columns) if _splits(name, form)), None)
    attributes = tuple(name for i, name in enumerate(columns) if i != split)
    names, cells, partition = [], bytearray(), bytearray()
    for line, row in rows:
        if len(row) != len(columns) + 1:
            raise InputError(
                f"{path}: line {line} has {len(row)} columns, expected {len(columns) + 1} (the "
                f"image's name{'' if split is None else ', its split'} and {len(attributes)} "
                "labels): correct the line"
            )
        if not row[0]:
            raise InputError(f"{path}: line {line} names no image: correct the line")
        if split is not None:
            cell = row.pop(split + 1)
            if cell.lower() not in _PARTITION:
                raise InputError(
                    f"{path}: line {line}, column {_SPLIT}: found {cell!r}, expected "
                    f"{', '.join(PARTITIONS[:-1])} or {PARTITIONS[-1]}: correct the line"
                )
            partition.append(_PARTITION[cell.lower()])
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
    return LabelList(
        attributes,
        tuple(names),
        meaning(codes),
        None if split is None else np.frombuffer(partition, np.int8),
        mixes_zero_and_minus(codes),
    )


def _columns(path: Path, header: _Row, form: _Form) -> tuple[str, ...]:
    """Returns the names of the columns after the image's."""
    line, row = header
    if not row:
        raise InputError(f"{path}: is empty, expected {form.header}: {form.empty}")
    # CelebA's .txt gives the images' column no name; copies made from tables may.
    named = row[1:] if form.commas or _IMAGE_COLUMN.fullmatch(row[0]) else row
    odd = [x for x in row if x and _NUMBER.fullmatch(x) or x.lower().endswith(SUFFIXES)]
    if odd or all(_splits(name, form) for name in named):
        found = f"{_excerpt(odd[0])} in line {line}" if odd else "none"
        cure = "put the header back"
        used = [word for separator, word in _SEPARATORS.items() if separator in "".join(row)]
        if len(row) == 1 and used:
            found = f"{used[0]} between the cells of line {line}, where commas are expected"
            cure = "save the file with commas"
        raise InputError(
            f"{path}: the header with the attributes' names is missing, found {found}, expected "
            f"{form.header}: {cure}"
        )
    if "" in named:
        raise InputError(
            f"{path}: line {line}: column {row.index('', 1) + 1} has no name, expected an "
            "attribute's: name it, or remove the column"
        )
    twice = [name.lower() if _splits(name, form) else name for name in named]
    if len(set(twice)) < len(twice):
        raise InputError(
            f"{path}: line {line} names the attribute {_first_twice(twice)} twice, "
            "expected every name once: correct the header"
        )
    return tuple(named)


def _splits(column: str, form: _Form) -> bool:
    """Tells whether a column holds the partition of an image."""
    return form is _OWN and column.lower() == _SPLIT


def number_codes(values: np.ndarray) -> UInt8[np.ndarray, " image"]:
    """Returns the codes of numbers; NaN is not annotated, and `NO_LABEL` marks wrong numbers."""
    codes = np.full(values.shape, NO_LABEL, np.uint8)
    for value, code in ((1, 1), (0, 0), (-1, _MINUS)):
        codes[values == value] = code
    codes[np.isnan(values)] = _EMPTY
    return codes


def mixes_zero_and_minus(codes: UInt8[np.ndarray, "image attribute"]) -> bool:
    """Tells whether there are both 0 and -1, so that `meaning` reads 0 as not annotated."""
    return bool((codes == _MINUS).any() and (codes == 0).any())


def meaning(codes: UInt8[np.ndarray, "image attribute"]) -> Int8[np.ndarray, "image attribute"]:
    """Returns labels; -1 anywhere means absent and makes 0 not annotated (see `read_labels`)."""
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
    return next(name for name, count in Counter(names).items() if count > 1)


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")
