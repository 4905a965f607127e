"""Lines and cells of a list, a .csv or a .txt, as editors, spreadsheets and pandas write them."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from iamt_jax.data.image_files import refuse_web_page
from iamt_jax.errors import InputError

NUMBER = re.compile(r"[-+]?[\d.]*|nan", re.IGNORECASE)
"""A number or nothing, which no column is called."""

_UNNAMED = re.compile(r"|Unnamed: \d+")
"""A column without a name, as pandas writes its index and reads it again."""


class Row(NamedTuple):
    """A line that is not blank."""

    line: int
    """Counted from 1."""
    cells: list[str]
    """Without the blanks around them."""


def read_table(path: Path, commas: bool) -> tuple[Row, Iterator[Row]]:
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
    header = next(rows, Row(0, []))
    first = list(itertools.islice(rows, 1))
    rows = itertools.chain(first, rows)
    skipped = _index_columns(header.cells, first[0].cells) if commas and first else 0
    if skipped:
        header = next(_without(skipped, iter([header])))
        rows = _without(skipped, rows)
    return header, rows


def _without(columns: int, rows: Iterator[Row]) -> Iterator[Row]:
    return (Row(line, cells[columns:]) for line, cells in rows)


def _index_columns(header: list[str], row: list[str]) -> int:
    """How many columns without a name hold numbers, before one that holds the images' names."""
    for count, (name, cell) in enumerate(zip(header, row, strict=False)):
        if not NUMBER.fullmatch(cell):
            return count
        if not (_UNNAMED.fullmatch(name) and cell.isdecimal()):
            break
    return 0


def _rows(path: Path, commas: bool) -> Iterator[Row]:
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


def _spaced(file: TextIO) -> Iterator[Row]:
    return (Row(number, line.split()) for number, line in enumerate(file, 1))


def _separated(file: TextIO) -> Iterator[Row]:
    """Lines of a .csv. In the first one a cell may hold line breaks, which become blanks."""
    reader = csv.reader(file, skipinitialspace=True)
    line, count, broken = 1, 0, False
    for cells in reader:
        if any("\n" in cell for cell in cells):
            if count:
                raise csv.Error(f"line {line} ends within quotes")
            cells, broken = [" ".join(cell.split()) for cell in cells], True
        yield Row(line, [cell.strip() for cell in cells])
        count += bool(cells)
        line = reader.line_num + 1
    if broken and count == 1:  # All that follows stands in the quotes.
        raise csv.Error("line 1 ends within quotes")
