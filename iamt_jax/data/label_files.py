"""CelebA's two lists, list_attr_celeba and list_eval_partition, and a user's own csv."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from jaxtyping import Int8, UInt8

from iamt_jax.config import MISSING
from iamt_jax.data.dataset import PARTITIONS
from iamt_jax.data.file_names import SUFFIXES
from iamt_jax.data.image_files import refuse_web_page
from iamt_jax.errors import InputError

_NUMBER = re.compile(r"[-+]?[\d.]*|nan", re.IGNORECASE)
"""A number or nothing, which no column is called."""

_UNNAMED = re.compile(r"|Unnamed: \d+")
"""A column without a name, as pandas writes its index and reads it again."""


class _Row(NamedTuple):
    """A line that is not blank."""

    line: int
    """Counted from 1."""
    cells: list[str]
    """Without the blanks around them."""


def read_table(path: Path, commas: bool) -> tuple[_Row, Iterator[_Row]]:
    """The first line of a list, without cells if there is none, and the lines below it.

    A byte order mark, CRLF, quotes and blanks around cells do no harm, nor does a line break in a
    cell of the first line. The running numbers that pandas writes before the images' names are
    left out of all lines.

    Args:
      path: the list.
      commas: whether commas separate its cells, or white space.

    Raises:
      InputError: a web page, no UTF-8, or a quote that is not closed; also while lines are read.
    """
    rows = _rows(path, commas)
    header = next(rows, _Row(0, []))
    first = list(itertools.islice(rows, 1))
    rows = itertools.chain(first, rows)
    skipped = _index_columns(header.cells, first[0].cells) if commas and first else 0
    if skipped:
        header = next(_without(skipped, iter([header])))
        rows = _without(skipped, rows)
    return header, rows


def _without(columns: int, rows: Iterator[_Row]) -> Iterator[_Row]:
    return (_Row(line, cells[columns:]) for line, cells in rows)


def _index_columns(header: list[str], row: list[str]) -> int:
    """How many columns without a name hold numbers, before one that holds the images' names."""
    for count, (name, cell) in enumerate(zip(header, row, strict=False)):
        if not _NUMBER.fullmatch(cell):
            return count
        if not (_UNNAMED.fullmatch(name) and cell.isdecimal()):
            break
    return 0


def _rows(path: Path, commas: bool) -> Iterator[_Row]:
    try:
        refuse_web_page(path, "a list")
        with open(path, encoding="utf-8-sig", newline=None) as file:
            rows = _separated(file) if commas else _spaced(file)
            yield from (row for row in rows if row.cells)
    except (UnicodeDecodeError, csv.Error) as error:
        reason = " ".join(str(error).split())
        undecoded = isinstance(error, UnicodeDecodeError)
        what, cure = ("as UTF-8 text ", "save it so") if undecoded else ("", "correct it")
        raise InputError(f"{path}: cannot be read {what}({reason}): {cure}") from error


def _spaced(file: TextIO) -> Iterator[_Row]:
    return (_Row(number, line.split()) for number, line in enumerate(file, 1))


def _separated(file: TextIO) -> Iterator[_Row]:
    """Lines of a .csv. In the first one a cell may hold line breaks, which become blanks."""
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
    if broken and count == 1:  # All that follows stands in the quotes.
        raise csv.Error("line 1 ends within quotes")


_MINUS, _EMPTY = 255, 2
_CODES = {"1": 1, "+1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": _MINUS, "-1.0": _MINUS}
_CODES |= dict.fromkeys(("", "nan", "NaN", "NA"), _EMPTY)
"""What a label's cell may hold -> one byte; what it means depends on the whole file."""

_SPLIT = "split"
"""The column of a user's own csv that says which partition an image is in."""

_PARTITION = {"train": 0, "validation": 1, "val": 1, "valid": 1, "test": 2}
_PARTITION |= {f"{i}{end}": i for i in range(3) for end in ("", ".0")}
"""What a cell of that column may hold, in either case -> index into `PARTITIONS`."""

_IMAGE_COLUMN = re.compile(r"(image|img|file|photo|picture)?[-_ ]?(id|name|file|path)?", re.I)
"""What the images' own column may be called, where a .txt names it."""

_COUNT = re.compile(r"[0-9]{1,12}")
"""The number of images, which is all that line 1 of CelebA's own .txt holds."""

_SEPARATORS = {";": "semicolons", "\t": "tabs"}


class _Form(NamedTuple):
    """What a list looks like, and how an error speaks of it."""

    commas: bool
    header: str
    """What is expected in the header's place."""
    empty: str = "download the file again"
    """What helps where it lists nothing."""


_CELEBA_TXT = _Form(False, "names such as 5_o_Clock_Shadow")
_CELEBA_CSV = _CELEBA_TXT._replace(commas=True)
_OWN = _Form(True, "a first line such as image,striped,round", "add a line an image")


@dataclasses.dataclass(frozen=True)
class LabelList:
    """The list of images and their labels, in the order of the file."""

    attributes: tuple[str, ...]
    names: tuple[str, ...]
    values: Int8[np.ndarray, "image attribute"]
    """1, 0 or `MISSING`."""
    partition: Int8[np.ndarray, " image"] | None = None
    """Index into `PARTITIONS`, where a user's own csv has a column `split`."""
    ambiguous: bool = False
    """The file holds both -1 and 0, so that 0 was read as not annotated."""


def read_labels(path: Path) -> LabelList:
    """Reads list_attr_celeba (.txt or .csv); K and the names are what its header says.

    In a file that holds any -1, -1 means absent and 0 means that nobody annotated it; in any
    other, 0 means absent. An empty cell or NaN is never an annotation. The .txt may lack the
    number of images in its first line; what pandas does to a csv is understood, see
    `cells.read_table`.

    Raises:
      InputError: a web page, a header that is not names, a wrong number of rows or columns, a
        name twice, a value that is no label.
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
    """Reads a user's own csv: the header `image,<attribute>,...`, then a line an image.

    Labels are what `read_labels` takes. A column called `split` is no attribute: it holds train,
    validation (val, valid) or test, or CelebA's 0, 1 and 2.

    Raises:
      InputError: as `read_labels`, or a split that is none.
    """
    labels = _labels(path, *read_table(path, commas=True), _OWN)
    _refuse_empty_or_twice(path, labels.names, _OWN)
    return labels


def read_partitions(path: Path) -> dict[str, int]:
    """Reads list_eval_partition (.txt or .csv): image name -> index into `PARTITIONS`.

    Raises:
      InputError: a web page, a row that is not a name and 0, 1 or 2, or a name twice.
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
    """The labels below a header."""
    first = list(itertools.islice(rows, 1))
    rows = itertools.chain(first, rows)
    columns = _columns(path, header, first, form)
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
    return LabelList(
        attributes,
        tuple(names),
        _meaning(codes),
        None if split is None else np.frombuffer(partition, np.int8),
        bool((codes == _MINUS).any() and (codes == 0).any()),
    )


def _columns(path: Path, header: _Row, first: Sequence[_Row], form: _Form) -> tuple[str, ...]:
    """Names of the columns after the image's; `first` holds the line below them, if any."""
    line, row = header
    if not row:
        raise InputError(f"{path}: is empty, expected {form.header}: {form.empty}")
    # CelebA's .txt gives the images' column no name; copies made from tables do.
    unnamed = not form.commas and not (
        _IMAGE_COLUMN.fullmatch(row[0]) and first and len(first[0].cells) == len(row)
    )
    named = row if unnamed else row[1:]
    odd = [x for x in row if x and _NUMBER.fullmatch(x) or x.lower().endswith(SUFFIXES)]
    if odd or not any(not _splits(name, form) for name in named):
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
