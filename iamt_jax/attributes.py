"""CelebA's attribute names and published label statistics."""

from __future__ import annotations

import functools
import json
from importlib import resources


@functools.cache
def celeba_statistics() -> dict:
    """CelebA's positive counts of each split, and the phi matrix of its labels (Liu et al. 2015):

    `images`: split -> image count; `attributes`: 40 names; `positives`: split -> 40 counts;
    `phi`: 40 x 40 correlations of the labels over validation and test; `source`: a citation.
    """
    file = resources.files(__package__) / "celeba_statistics.json"
    return json.loads(file.read_text("utf-8"))


CELEBA_ATTRIBUTES: tuple[str, ...] = tuple(celeba_statistics()["attributes"])
"""The 40 names, in the order of list_attr_celeba.txt."""
