"""Expansion of `~` in paths, the cache folder, atomic writing of files, and strict JSON."""

from __future__ import annotations

import json
import math
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iamt_jax.errors import InputError


def expanded(path: str | os.PathLike[str]) -> str:
    """The path with a leading `~` replaced by the home folder.

    Raises:
      InputError: the home folder is not known, so that the path would name a folder called `~`.
    """
    whole = os.path.expanduser(path)
    if re.match(r"~(/|$)", whole):
        raise InputError(
            f"{path}: the home folder is not known (HOME is not set); give the whole path"
        )
    return whole


def cache_folder(name: str) -> Path:
    """Path `name` in `$IAMT_CACHE` or `~/.cache/iamt_jax`, where files can always be made again.

    If there is no writable home folder, it lies in a folder of the user's below the system's folder
    for temporary files.

    Raises:
      InputError: that folder for temporary files belongs to another user.
    """
    if given := os.environ.get("IAMT_CACHE"):
        return Path(expanded(given)) / name
    home = os.path.expanduser("~")
    root = Path(home, ".cache", "iamt_jax")
    if Path(home).is_absolute() and ((root / name).exists() or _writable(root)):
        return root / name
    return _temporary_folder() / name


def _writable(folder: Path) -> bool:
    """Tells whether a folder can be written or created."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _temporary_folder() -> Path:
    """Returns a folder for temporary files into which no other user can have put files."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir(), f"iamt_jax-{user}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or (hasattr(os, "getuid") and found.st_uid != user):
        raise InputError(
            f"{folder}: belongs to another user, expected a cache folder of yours; set IAMT_CACHE "
            "to a folder of yours"
        )
    return folder


def replace_text(path: Path, text: str) -> None:
    """`replace_bytes` of UTF-8 text."""
    replace_bytes(path, text.encode())


def replace_bytes(path: Path, content: bytes) -> None:
    """Writes a temporary file and renames it: readers see the old content or the new, never a part.

    Raises:
      OSError: the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # Else a power cut could leave an empty file.
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def json_text(value: Any, **options: Any) -> str:
    """Strict JSON of a value, converted by `plain`; all JSON of this package is written here.

    Args:
      value: JSON types, NumPy scalars and arrays, and paths; another type is a TypeError.
      options: passed to `json.dumps`, such as `indent`.
    """
    return json.dumps(plain(value), allow_nan=False, **options)


def plain(value: Any) -> Any:
    """The value in JSON types: NumPy scalars and arrays unwrapped, NaN and infinities as None."""
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
