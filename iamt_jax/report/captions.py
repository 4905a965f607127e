"""Names of attributes as reports show them; they may be long and hold any characters."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from iamt_jax.errors import printable

_LONGEST = 60
"""Characters of a name in the name of a file."""


def brief(names: Sequence[str], width: int) -> list[str]:
    """The names in one line each, cut in their middle to `width` columns of a terminal.

    Names that would be cut to the same text get their number instead of their end.
    """
    names = [printable(name) for name in names]
    cut = [_cut(name, width, name) for name in names]
    return [
        _cut(name, width, str(i)) if cut.count(short) > 1 and short != name else short
        for i, (name, short) in enumerate(zip(names, cut, strict=True))
    ]


def _cut(name: str, width: int, end: str) -> str:
    if cell_len(name) <= width:
        return name
    room = width - 1
    while end and cell_len(end) > room // 3:  # A wide character takes two columns.
        end = end[1:]
    return f"{set_cell_size(name, room - cell_len(end)).rstrip()}\N{HORIZONTAL ELLIPSIS}{end}"


def in_markdown(text: str) -> str:
    """The text in one line of Markdown, where it makes no column and no HTML."""
    text = printable(text).replace("\\", "\\\\").replace("|", "\\|")
    return text.replace("<", "&lt;")


def in_file_name(name: str) -> str:
    """A part of a file's name that every system takes; others may be mapped to the same."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", name)[:_LONGEST]
