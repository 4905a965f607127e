"""Formatting of attribute names, which may be long and contain any characters."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from iamt_jax.errors import printable

_LONGEST = 60
"""Largest number of characters of a name in a file name."""


def brief(names: Sequence[str], width: int) -> list[str]:
    """Shortens names to `width` terminal columns by an ellipsis, keeping beginning and end.

    Names that would become equal end in their index instead.
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
    """Escapes a text for one line of Markdown: no column separators, no HTML."""
    text = printable(text).replace("\\", "\\\\").replace("|", "\\|")
    return text.replace("<", "&lt;")


def in_file_name(name: str) -> str:
    """Converts a name to a part of a file name valid on every system; not injective."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", name)[:_LONGEST]
