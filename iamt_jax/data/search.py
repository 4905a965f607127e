"""Recursive search of folders, through links and without end loops."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from iamt_jax.data.file_names import is_image
from iamt_jax.errors import printable

_SHOWN = 6
"""Kinds of files that are named of those left out."""

_LONGEST = 20
"""Characters of a suffix in a message."""


def walk(
    place: str | os.PathLike[str],
    refuse: Callable[[OSError], object],
    enter: Callable[[str], bool] = lambda name: True,
) -> Iterator[tuple[str, list[os.DirEntry]]]:
    """Yields every folder below `place`, itself first, with its files, in the order of names.

    Links to folders are followed; a folder that several paths lead to is visited once, so that
    links in a circle end.

    Args:
      place: the folder.
      refuse: called with the error where a folder cannot be listed; it may raise.
      enter: whether to visit a folder of that name.
    """
    seen, waiting = set(), [os.fspath(place)]
    while waiting:
        folder = waiting.pop()
        try:
            found = os.stat(folder)
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            refuse(error)
            continue
        if (found.st_dev, found.st_ino) in seen:
            continue
        seen.add((found.st_dev, found.st_ino))
        inner = {entry.name for entry in entries if _is(entry.is_dir)}
        yield folder, [entry for entry in entries if entry.name not in inner]
        entered = [x.path for x in entries if x.name in inner and enter(x.name)]
        waiting += reversed(entered)


def images_below(
    place: Path, refuse: Callable[[OSError], object]
) -> tuple[list[Path], Counter[str]]:
    """Image files below a folder, and how many others there are of each kind.

    Args:
      place: the folder; hidden files and folders in it are left out.
      refuse: see `walk`.
    """
    images, left_out = [], Counter()

    def enter(name: str) -> bool:
        hidden = name.startswith(".")
        left_out.update(["hidden folder"] if hidden else [])
        return not hidden

    for folder, files in walk(place, refuse, enter):
        for file in files:
            kind = _kind(file)
            if kind:
                left_out[kind] += 1
            else:
                images.append(Path(folder, file.name))
    return images, left_out


def counted(left_out: Counter[str]) -> str:
    """How many files were left out and of what kinds, the commonest first; for people."""
    common = sorted(left_out.items(), key=lambda kind: (-kind[1], kind[0]))
    parts = [f"{count:,} {printable(kind)[:_LONGEST]}" for kind, count in common[:_SHOWN]]
    rest = sum(count for _, count in common[_SHOWN:])
    parts += [f"{rest:,} others"] if rest else []
    return f"{left_out.total():,} that are no image files: {', '.join(parts)}"


def _kind(file: os.DirEntry) -> str:
    """Why a file is no image; empty for an image."""
    if file.name.startswith("."):
        return "hidden"
    if not is_image(file.name):
        return os.path.splitext(file.name)[1].lower() or "without a suffix"
    # A broken link is an image that cannot be read; a pipe would be waited for without end.
    broken = file.is_symlink() and not os.path.exists(file.path)
    return "" if broken or _is(file.is_file) else "special"


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError:  # A link to itself.
        return False
