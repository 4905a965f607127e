"""Writing a file whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


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
