"""Writes data sets of synthetic faces to disk, in CelebA's official layout."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image

from iamt_jax.attributes import CELEBA_ATTRIBUTES, celeba_statistics
from iamt_jax.errors import InputError
from iamt_jax.files import cache_folder, json_text
from iamt_jax.progress import progress_bar
from iamt_jax.synthetic.nuisance import Nuisance, sample_nuisance
from iamt_jax.synthetic.render import render
from iamt_jax.synthetic.sampling import sample_attributes

_VERSION = 1
"""Increased when the same seed gives other faces, so that cached data sets are rendered again."""

_SPLITS = ("train", "validation", "test")
"""In the order of their numbers in list_eval_partition.txt."""

_JPEG = {"format": "JPEG", "quality": 94, "subsampling": "4:4:4"}
_RECORD = "synthetic.json"


def ensure_dataset(counts: dict[str, int], seed: int = 0, size: int = 64) -> Path:
    """Returns the cached data set of these settings; renders it first if it is absent.

    Prints one line with its folder.

    Args:
      counts: images a split: `train`, `validation`, `test`.
      seed: decides every face.
      size: height and width in pixels.

    Returns:
      A folder in CelebA's official layout.

    Raises:
      InputError: as for `write_dataset`.
    """
    folder = faces_folder(counts, seed, size)
    if (folder / _RECORD).is_file():
        print(f"synthetic faces: found {sum(counts.values())} images in {folder}")
        return folder
    print(f"synthetic faces: rendering {sum(counts.values())} images into {folder}")
    write_dataset(folder, counts, seed, size)
    return folder


def faces_folder(counts: dict[str, int], seed: int = 0, size: int = 64) -> Path:
    """Returns the folder in which `ensure_dataset` keeps the data set of these settings.

    It lies in the cache folder (`files.cache_folder`); its name also depends on the version of the
    renderer and on the attribute statistics.
    """
    settings = json_text(_settings(counts, seed, size), sort_keys=True)
    return cache_folder(f"faces-{hashlib.sha256(settings.encode()).hexdigest()[:12]}")


def write_dataset(
    folder: str | Path,
    counts: dict[str, int],
    seed: int = 0,
    size: int = 64,
    *,
    chunk: int = 256,
    progress: bool = True,
) -> None:
    """Renders a data set of faces into a new folder, in CelebA's official layout.

    The folder appears only when it is complete: it is written under another name, then renamed.
    A face depends only on the seed, its split and its number in the split, so that other counts
    add or drop faces but change none.

    Args:
      folder: the folder to create.
      counts: images a split: `train`, `validation`, `test`.
      seed: decides every face.
      size: height and width in pixels, 32 or more.
      chunk: images rendered and encoded at a time by one thread; does not affect the result.
      progress: shows a progress bar.

    Raises:
      InputError: the folder exists or cannot be written, a split is unknown, or a setting is
        out of range.
    """
    folder = Path(folder)
    if folder.exists():
        raise InputError(f"{folder}: exists already; remove it or name another folder")
    if unknown := set(counts) - set(_SPLITS):
        raise InputError(f"`counts`: unknown split {min(unknown)!r}; use {', '.join(_SPLITS)}")
    if sum(counts.values()) < 1 or min(counts.values()) < 0:
        raise InputError(f"`counts`: found {counts}, expected one image at least, none negative")
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _write_layout(partial, counts, seed, size, chunk, progress)
        partial.rename(folder)
    except OSError as error:
        # Another process may have finished the same data set first; use its copy.
        if not (folder / _RECORD).is_file():
            raise InputError(
                f"{folder}: cannot be written ({error.strerror}); free the disk, or set IAMT_CACHE "
                "to a folder of yours"
            ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _settings(counts: dict[str, int], seed: int, size: int) -> dict:
    ordered = {split: counts.get(split, 0) for split in _SPLITS}
    # The fit amplifies changes: three images more in one count changed every tenth face.
    statistics = json_text(celeba_statistics(), sort_keys=True)
    return {
        "generator": "iamt_jax",
        "version": _VERSION,
        "statistics": hashlib.sha256(statistics.encode()).hexdigest(),
        "seed": seed,
        "counts": ordered,
        "size": size,
    }


def _write_layout(
    folder: Path, counts: dict[str, int], seed: int, size: int, chunk: int, progress: bool
) -> None:
    for name in ("Anno", "Eval", "Img"):
        (folder / name).mkdir(parents=True)
    drawn = [faces(counts.get(split, 0), seed, split) for split in _SPLITS]
    attributes = np.concatenate([labels for labels, _ in drawn])
    total = len(attributes)
    names = [f"{number:06d}.jpg" for number in range(1, total + 1)]
    partition = np.repeat(np.arange(len(_SPLITS)), [len(labels) for labels, _ in drawn])

    signs = np.where(attributes, " 1", "-1")
    rows = [f"{name} {' '.join(row)}" for name, row in zip(names, signs, strict=True)]
    header = [str(total), " ".join(CELEBA_ATTRIBUTES)]
    _write_lines(folder / "Anno" / "list_attr_celeba.txt", header + rows)
    _write_lines(
        folder / "Eval" / "list_eval_partition.txt",
        [f"{name} {split}" for name, split in zip(names, partition, strict=True)],
    )
    with zipfile.ZipFile(folder / "Img" / "img_align_celeba.zip", "w") as archive:
        bar = progress_bar(total=total, desc="rendering faces", unit="img", disable=not progress)
        for name, data in zip(names, _encoded(drawn, size, chunk), strict=True):
            # A fixed date, so that the same faces give the same file.
            member = zipfile.ZipInfo(f"img_align_celeba/{name}", (1980, 1, 1, 0, 0, 0))
            archive.writestr(member, data)
            bar.update()
        bar.close()
    (folder / _RECORD).write_text(json_text(_settings(counts, seed, size), indent=2) + "\n")


def faces(
    count: int, seed: int, split: str
) -> tuple[Bool[np.ndarray, "count attribute"], Nuisance]:
    """Draws attributes and nuisance of the `count` faces of a split.

    Both come from random streams of their own, so that a larger count only adds faces.
    """
    number = _SPLITS.index(split)
    labels = sample_attributes(np.random.default_rng([seed, number, 0]), count)
    return labels, sample_nuisance(np.random.default_rng([seed, number, 1]), count)


def _encoded(faces: list[tuple[np.ndarray, Nuisance]], size: int, chunk: int) -> Iterator[bytes]:
    """Yields JPEG files in order; threads render and encode (NumPy and Pillow free the GIL)."""

    def encode(job) -> list[bytes]:
        labels, nuisance = job
        files = []
        for image in render(labels, nuisance, size):
            file = io.BytesIO()
            Image.fromarray(image).save(file, **_JPEG)
            files.append(file.getvalue())
        return files

    jobs = [
        (labels[start : start + chunk], nuisance[start : start + chunk])
        for labels, nuisance in faces
        for start in range(0, len(labels), chunk)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for files in pool.map(encode, jobs):
            yield from files


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n")
