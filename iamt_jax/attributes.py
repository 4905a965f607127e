"""CelebA's attribute names and published label statistics."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from importlib import resources


@functools.cache
def celeba_statistics() -> dict:
    """CelebA's positive counts of each split, and the phi matrix of its labels (Liu et al. 2015).

    Returns:
      `images`: split -> image count; `attributes`: 40 names; `positives`: split -> 40 counts;
      `phi`: 40 x 40 correlations of the labels over validation and test; `source`: a citation.
    """
    text = (
        resources.files(__package__).joinpath("celeba_statistics.json").read_text(encoding="utf-8")
    )
    return json.loads(text)


CELEBA_ATTRIBUTES: tuple[str, ...] = tuple(celeba_statistics()["attributes"])
"""The 40 names, in the order of list_attr_celeba.txt."""


def column_names(attributes: Sequence[str], reserved: Iterable[str]) -> list[str]:
    """Names of the attributes' columns (or rows) in a table that has columns of its own.

    An attribute with the name of one of the table's own columns, in upper or lower case, is
    prefixed: `attribute_image` for `image`. All others keep their names.

    Args:
      attributes: distinct names.
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
