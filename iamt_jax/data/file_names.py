"""Resolves the image names of a list to the files that are there, where the spelling differs."""

from __future__ import annotations

import difflib
import posixpath
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""Suffixes of image files, in lower case."""

_SUFFIX = re.compile(f"(?:{'|'.join(map(re.escape, SUFFIXES))})+$", re.IGNORECASE)

_LONGEST = 150
"""Characters of a name in a message."""


def is_image(name: str) -> bool:
    """Whether a file's name has an image's suffix and is not hidden."""
    return name.lower().endswith(SUFFIXES) and not posixpath.basename(name).startswith(".")


def normalised(name: str) -> str:
    """One spelling of a path: composed accents, slashes, no needless dots."""
    return posixpath.normpath(unicodedata.normalize("NFC", name).replace("\\", "/"))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", normalised(name).casefold())


def _stem(name: str) -> str:
    return _SUFFIX.sub("", _folded(name))


_SAME: tuple[Callable[[str], str], ...] = (str, normalised)
"""Spellings of one name: the reader says nothing of the difference."""

_ALIKE: tuple[Callable[[str], str], ...] = (_folded, _stem)
"""Names that differ in case, then in the suffix too: used where only one file fits, and told."""


@dataclass(frozen=True)
class Match:
    """Which of the present files each wanted name means."""

    wanted: Sequence[str]
    present: Sequence[str]
    rows: Sequence[int]
    """One index into `present` a wanted name; -1 where none fits, or several do."""
    alike: dict[int, list[int]]
    """Index into `wanted` -> the several files that fit it."""
    renamed: Sequence[int]
    """Indices into `wanted` of the names that differ in case or suffix from their file."""

    @property
    def absent(self) -> list[str]:
        """Wanted names without a file."""
        return [name for name, row in zip(self.wanted, self.rows, strict=True) if row < 0]

    def hint(self) -> str:
        """What the first absent name may mean, as the end of a clause; empty without a guess."""
        first = next(i for i, row in enumerate(self.rows) if row < 0)
        near = [self.present[row] for row in self.alike.get(first, ())[:2]]
        if not near:
            taken = set(self.rows)
            free = [name for row, name in enumerate(self.present) if row not in taken]
            near = difflib.get_close_matches(self.wanted[first], free, 1, 0.8)
        return f" (did you mean {' or '.join(map(shorten, near))}?)" if near else ""

    def warn(self, place: Path) -> None:
        """Prints a warning if images are read from files of another case or suffix."""
        if self.renamed:
            first = self.renamed[0]
            print(
                f"warning: {place}: {len(self.renamed):,} of the {len(self.wanted):,} listed "
                "images have another suffix or case there and are read nevertheless, the first "
                f"is {shorten(self.present[self.rows[first]])} for {shorten(self.wanted[first])}",
                file=sys.stderr,
            )


def match_names(wanted: Sequence[str], present: Sequence[str]) -> Match:
    """Finds the file that each name of a list means.

    A name is compared as it is, then in one Unicode form and with slashes for backslashes, then
    without regard to case, then to the suffix. A later comparison only looks at what the earlier
    ones left over, and takes a file only if no other file and no other name fits.

    Args:
      wanted: names in a list, each once.
      present: names of the files that are there.
    """
    rows, alike, renamed = [-1] * len(wanted), {}, []
    for key in (*_SAME, *_ALIKE):
        left = [i for i, row in enumerate(rows) if row < 0 and i not in alike]
        if not left:
            break
        taken = set(rows)
        found = defaultdict(list)
        for row, name in enumerate(present):
            if row not in taken and (key in _SAME or is_image(name)):
                found[key(name)].append(row)
        keys = {i: key(wanted[i]) for i in left}
        times = Counter(keys.values())
        for i in left:
            fitting = found.get(keys[i], ())
            if len(fitting) > 1:
                alike[i] = fitting
            elif fitting and times[keys[i]] == 1:
                rows[i] = fitting[0]
                renamed += [i] if key in _ALIKE else []
    return Match(wanted, present, rows, alike, renamed)


def shorten(name: str) -> str:
    """A name as a message shows it: in one line, and not too long."""
    name = name if name.isprintable() else repr(name)
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."
