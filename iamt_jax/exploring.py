"""`python -m iamt_jax explore`."""

from __future__ import annotations

from collections.abc import Sequence


def run(arguments: Sequence[str]) -> int:
    """Flags in, exit status out."""
    raise NotImplementedError
