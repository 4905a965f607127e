"""A seal on a checkpoint's folder, written last: what was saved is what is read, or it is not used.

TensorStore checks its index, not every array: of single flipped bits, 3 in 60 were read as other
weights (docs/reliability.md). And Orbax takes any folder with a number for a checkpoint.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jax

from iamt_jax.files import json_text, plain, replace_text
from iamt_jax.training.state import State

SEAL = "seal.json"

Metrics = dict[str, float | None]


class Damaged(Exception):
    """A checkpoint cannot be used; the message says why, in a few words."""


class Unfinished(Damaged):
    """It was never sealed: the run was killed at that instant, or it is no checkpoint at all."""


def write_seal(folder: Path, like: State, metrics: Metrics | None) -> None:
    """Seals a checkpoint that is whole: the validation's metrics, the network's shapes, and a
    digest of every file.

    Raises:
      OSError: a file cannot be read, or the seal not written.
    """
    content = {"metrics": plain(metrics), "network": shapes(like), "files": _digests(folder)}
    sealed = content | {"sha256": _digest_of(content)}
    replace_text(folder / SEAL, json_text(sealed, indent=1) + "\n")


def check_seal(folder: Path, like: State | None = None) -> Metrics | None:
    """Holds a checkpoint's files against its seal, and returns the metrics it was sealed with.

    Raises:
      Unfinished: it has no seal.
      Damaged: a file differs or is gone, or it holds another state than `like`, if given.
    """
    try:
        content = _content(folder)
        found = _digests(folder, content["files"])
    except FileNotFoundError as error:
        if error.filename == str(folder / SEAL):
            raise Unfinished("is no finished checkpoint") from None
        raise Damaged(f"lacks {Path(error.filename).relative_to(folder)}") from None
    except OSError as error:
        raise Damaged(f"cannot be read ({error.strerror})") from None
    for name, digest in content["files"].items():
        if found[name] != digest:
            raise Damaged(f"{name} in it is not what was saved")
    if like is not None and content["network"] != shapes(like):
        raise Damaged("holds another network, or another optimiser's state")
    return content["metrics"]


def shapes(state: State) -> str:
    """A digest of names, shapes and types of every array."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    text = [f"{jax.tree_util.keystr(path)} {x.dtype} {x.shape}" for path, x in leaves]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()


def _content(folder: Path) -> dict[str, Any]:
    text = (folder / SEAL).read_bytes()
    try:
        content = json.loads(text)
        sealed = content.pop("sha256")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        sealed, content = None, {}
    if sealed != _digest_of(content):
        raise Damaged(f"its {SEAL} is not what was written")
    return content


def _digest_of(content: dict[str, Any]) -> str:
    # Not `json_text`: seals of earlier versions hold NaN, and their digests are of that.
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digests(folder: Path, names: Any = None) -> dict[str, str]:
    """SHA-256 of files below a folder: those that are there, or those named."""
    if names is None:
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SEAL)
        names = [str(path.relative_to(folder)) for path in files]
    result = {}
    for name in names:
        with open(folder / name, "rb") as file:
            result[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return result
