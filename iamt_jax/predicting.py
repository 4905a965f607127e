"""`python -m iamt_jax predict`."""

from __future__ import annotations

from collections.abc import Sequence


def run(arguments: Sequence[str]) -> int:
    """Flags in, exit status out."""
    raise NotImplementedError
