"""Data sets for the corpus: few images, with the attributes of the finished run."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import layouts
import numpy as np
from PIL import Image

from corpus import QUICKLY, Place
from iamt_jax.attributes import CELEBA_ATTRIBUTES

LIST = "Anno/list_attr_celeba.txt"
PARTITIONS = "Eval/list_eval_partition.txt"
ZIP = "Img/img_align_celeba.zip"
QUOTA_PAGE = "<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head></html>"


def small(inject: Callable[[Path], object], *arguments: object) -> Callable[[Place], Sequence]:
    """Training on a small official layout, after `inject(its folder)`."""

    def prepare(place: Place) -> Sequence[object]:
        inject(layouts.write_official(place.root / "celeba"))
        return (*debug("{root}/celeba"), *arguments)

    return prepare


def debug(root: str) -> Sequence[object]:
    """Training arguments, for that data."""
    return "--preset", "debug", "--data.root", root, "--workdir", "{workdir}"


def measured(write: Callable[[Path], object], *arguments: object) -> Callable[[Place], Sequence]:
    """Evaluation of the finished run on what `write(folder)` writes there."""

    def prepare(place: Place) -> Sequence[object]:
        write(place.root / "celeba")
        common = ("--workdir", "{finished}", "--data.root", "{root}/celeba")
        return (*common, *QUICKLY, *arguments)

    return prepare


def write_faces(root: Path, images: Mapping[str, bytes], text: str | None = None) -> None:
    """Unzipped images, all of them in the test split, with 40 attributes."""
    write_lists(root, list(images), text)
    folder = root / "Img/img_align_celeba"
    folder.mkdir(parents=True)
    for name, data in images.items():
        (folder / name).write_bytes(data)


def write_lists(root: Path, names: Sequence[str], text: str | None = None) -> None:
    """Both lists; `text` takes the place of the list of labels."""
    (root / "Anno").mkdir(parents=True)
    (root / "Eval").mkdir()
    (root / LIST).write_bytes((text or label_text(names)).encode())
    (root / PARTITIONS).write_text("".join(f"{name} 2\n" for name in names))


def label_text(names: Sequence[str]) -> str:
    """A list of labels, in which every attribute is there and not there."""
    rows = [f"{name} {' '.join(['-1', '1'][i % 2 :][:1] * 40)}\n" for i, name in enumerate(names)]
    return f"{len(names)}\n{' '.join(CELEBA_ATTRIBUTES)}\n{''.join(rows)}"


def write_zip(root: Path, members: Mapping[str, bytes], names: Sequence[str], method: int) -> Path:
    """The lists of `names` beside an archive of `members`."""
    write_lists(root, names)
    (root / "Img").mkdir()
    with zipfile.ZipFile(root / ZIP, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return root / ZIP


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 48)) -> Image.Image:
    """Something that is not of one colour."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def blank_png(width: int, height: int) -> bytes:
    """A whole black PNG of that size, one bit a pixel, made without unfolding it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(height * (1 + (width + 7) // 8)), 1)
    whole = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + whole
