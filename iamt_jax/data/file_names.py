"""Matches the image names of a list with files whose spelling may differ."""

from __future__ import annotations

import difflib
import posixpath
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""Suffixes of image files, in lower case."""

_SUFFIX = re.compile(f"(?:{'|'.join(map(re.escape, SUFFIXES))})+$", re.IGNORECASE)

_LONGEST = 150
"""Longest name that a message shows in full, characters."""


def is_image(name: str) -> bool:
    """Tells whether a file's name has the suffix of an image and is not hidden."""
    return name.lower().endswith(SUFFIXES) and not posixpath.basename(name).startswith(".")


def normalised(name: str) -> str:
    """Returns a path with composed accents (NFC), slashes, and no redundant dots."""
    return posixpath.normpath(unicodedata.normalize("NFC", name).replace("\\", "/"))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", normalised(name).casefold())


def _stem(name: str) -> str:
    return _SUFFIX.sub("", _folded(name))


_SAME = (str, normalised)
"""Keys under which names are the same; such differences cause no warning."""

_ALIKE = (_folded, _stem)
"""Keys that ignore case, then also the suffix; used if only one file fits, with a warning."""


@dataclass(frozen=True)
class Match:
    """The file that each wanted name matches."""

    wanted: Sequence[str]
    present: Sequence[str]
    rows: Sequence[int]
    """Index into `present` for each wanted name; -1 if no file fits, or several do."""
    alike: dict[int, list[int]]
    """Index into `wanted` -> indices of the files that fit it, where there are several."""
    renamed: Sequence[int]
    """Indices into `wanted` of the names that differ in case or suffix from their file."""

    @property
    def absent(self) -> list[str]:
        """Wanted names without a file."""
        return [name for name, row in zip(self.wanted, self.rows, strict=True) if row < 0]

    def hint(self) -> str:
        """Returns a "did you mean" for the first absent name; empty if no file is similar."""
        first = next(i for i, row in enumerate(self.rows) if row < 0)
        near = [self.present[row] for row in self.alike.get(first, ())[:2]]
        if not near:
            taken = set(self.rows)
            free = [name for row, name in enumerate(self.present) if row not in taken]
            near = difflib.get_close_matches(self.wanted[first], free, 1, 0.8)
        return f" (did you mean {' or '.join(map(shorten, near))}?)" if near else ""

    def warn(self, source: Path) -> None:
        """Prints a warning if images are read from files of another case or suffix."""
        if self.renamed:
            first = self.renamed[0]
            print(
                f"warning: {source}: {len(self.renamed):,} of the {len(self.wanted):,} listed "
                "images have another suffix or case there and are read nevertheless, the first "
                f"is {shorten(self.present[self.rows[first]])} for {shorten(self.wanted[first])}",
                file=sys.stderr,
            )


def match_names(wanted: Sequence[str], present: Sequence[str]) -> Match:
    """Finds the file in `present` that each name in `wanted` means; no name may occur twice.

    Names are compared exactly, then after `normalised`, then ignoring case, then also ignoring
    the suffix. Each comparison considers only names and files that the earlier ones left over,
    and accepts a file only if no other file and no other name fits.
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
    """Returns a name for a message: on one line, and shortened if it is long."""
    name = name if name.isprintable() else repr(name)
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."
