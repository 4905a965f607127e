"""Paths as users write them, and files that are written whole or not at all."""

from __future__ import annotations

import os
import re
from pathlib import Path

from iamt_jax.errors import InputError


def expanded(path: str | os.PathLike[str]) -> str:
    """The path with the home folder in the place of a `~` that begins it.

    Raises:
      InputError: the home folder is not known; the path would name a folder called `~`.
    """
    whole = os.path.expanduser(path)
    if re.match(r"~(/|$)", whole):
        raise InputError(
            f"{path}: the home folder is not known (HOME is not set); give the whole path"
        )
    return whole


def replace_text(path: Path, text: str) -> None:
    """`replace_bytes` of UTF-8 text."""
    replace_bytes(path, text.encode())


def replace_bytes(path: Path, content: bytes) -> None:
    """Writes beside the path, then renames: a reader sees the old file or the new, never half.

    Raises:
      OSError: the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # Or a power cut could leave the new name without the bytes.
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
