"""Paths as users write them, files that are written whole or not at all, and JSON that every parser
reads."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


def json_text(value: Any, **options: Any) -> str:
    """JSON of a value; every JSON text of this package is made here.

    Args:
      value: in JSON's types, NumPy's or paths; a number that is not finite becomes null, since
        NaN and Infinity are no JSON.
      options: of `json.dumps`, such as `indent`.

    Raises:
      TypeError: the value holds something else.
    """
    return json.dumps(plain(value), allow_nan=False, **options)


def plain(value: Any) -> Any:
    """The value in JSON's types: NumPy scalars unwrapped, what is not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # a NumPy scalar or array
        return plain(value.tolist())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
