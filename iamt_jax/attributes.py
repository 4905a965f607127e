"""CelebA's attribute names and statistics: facts about the data set, no images."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from importlib import resources


@functools.cache
def celeba_statistics() -> dict:
    """CelebA's positive counts a split and its 40x40 phi matrix (Liu et al., ICCV 2015).

    Returns:
      `images`: split -> image count; `attributes`: 40 names; `positives`: split -> 40 counts;
      `phi`: 40 x 40 correlation of the labels over validation and test; `source`: a citation.
    """
    text = (
        resources.files(__package__).joinpath("celeba_statistics.json").read_text(encoding="utf-8")
    )
    return json.loads(text)


CELEBA_ATTRIBUTES: tuple[str, ...] = tuple(celeba_statistics()["attributes"])
"""The 40 names, in the order of list_attr_celeba.txt."""


def column_names(attributes: Sequence[str], reserved: Iterable[str]) -> list[str]:
    """How a table with columns (or rows) of its own calls those of the attributes.

    An attribute that is called like one of the table's own, in whatever case, is called
    `attribute_image` in the place of `image`; all others keep their names.

    Args:
      attributes: different names.
      reserved: names of the table's own columns.
    """
    taken = {name.casefold() for name in reserved}
    names, used = [], {*attributes}
    for name in attributes:
        if name.casefold() in taken:
            name = f"attribute_{name}"
            while name in used or name.casefold() in taken:
                name += "_"
            used.add(name)
        names.append(name)
    return names
