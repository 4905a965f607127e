"""Image files that cannot be decoded, and unusual ones that can."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import cli as main
import layouts
import numpy as np
from PIL import Image

from corpus import Case, Place
from corpus.writing import (
    QUOTA_PAGE,
    blank_png,
    debug,
    encoded,
    measured,
    picture,
    write_faces,
    write_zip,
)

JPEG = encoded(picture(), "JPEG")
PNG = encoded(picture())
NO_IMAGE = "its {} bytes are none of JPEG, PNG, WEBP, BMP, TIFF, GIF"


def undecodable(name: str, reason: str, place: str = "/") -> str:
    """The error message about an image in the folder or in its archive."""
    return (
        f"{{root}}/celeba/Img/img_align_celeba{place}{name}: cannot be decoded as an image "
        f"({reason}): restore it from the original, or take it off the lists"
    )


def refused(name: str, data: bytes, reason: str) -> Case:
    """Evaluation on an intact image and a damaged one."""

    def write(root: Path) -> None:
        write_faces(root, {"1.jpg": JPEG, "2.jpg": data})

    return Case(f"image: {name}", measured(write), main.evaluate, undecodable("2.jpg", reason))


def two_bad(root: Path) -> None:
    """Writes one intact image and two damaged ones."""
    write_faces(root, {"1.jpg": JPEG, "2.jpg": b"", "3.jpg": QUOTA_PAGE.encode()})


def zipped(root: Path) -> None:
    """Writes an archive with an intact image and a damaged one."""
    members = {"img_align_celeba/1.jpg": JPEG, "img_align_celeba/2.jpg": b""}
    write_zip(root, members, ("1.jpg", "2.jpg"), zipfile.ZIP_STORED)


def met_in_training(place: Place) -> Sequence[object]:
    """Training with one damaged image, which is met while threads decode."""
    root = layouts.write_official(place.root / "celeba", zipped=False)
    (root / "Img/img_align_celeba/000002.jpg").write_bytes(JPEG[: len(JPEG) // 2])
    return *debug("{root}/celeba"), "--train.batch-size", 8


def animation() -> bytes:
    """An animation of two frames."""
    return encoded(picture("P"), "GIF", save_all=True, append_images=[Image.new("P", (40, 48))])


def turned() -> bytes:
    """A photograph with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture(), "JPEG", exif=exif)


def damaged_exif() -> bytes:
    """An intact photograph whose EXIF data announces nine fields and ends before them."""
    return encoded(picture(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01\x12")


def sixteen_bits() -> Image.Image:
    """A grey image of 16 bits, 0 to 65535."""
    return Image.fromarray(np.arange(40 * 48, dtype=np.uint16).reshape(48, 40) * 30)


def floating() -> bytes:
    """An image of floating-point numbers of unknown range."""
    return encoded(Image.fromarray(np.zeros((48, 40), np.float32)), "TIFF")


def odd_images() -> dict[str, bytes]:
    """Valid images as cameras, scanners and editors write them."""
    keyed = picture("P")
    return {
        "cmyk.jpg": encoded(picture("CMYK"), "JPEG"),
        "grey.jpg": encoded(picture("L"), "JPEG"),
        "progressive.jpg": encoded(picture(), "JPEG", progressive=True),
        "turned.jpg": turned(),
        "trailing.jpg": JPEG + b"\0" * 100,
        "two.jpg": encoded(picture(), "MPO", save_all=True, append_images=[picture()]),
        "alpha.png": encoded(picture("RGBA")),
        "palette.png": encoded(picture("P")),
        "keyed.png": encoded(keyed, transparency=bytes(range(256))),
        "bits.png": encoded(picture("1")),
        "sixteen.png": encoded(sixteen_bits()),
        "one.png": encoded(picture(size=(1, 1))),
        "line.png": encoded(picture(size=(1, 500))),
        "wrong_suffix.jpg": PNG,
        "moving.gif": animation(),
        "photo.webp": encoded(picture(), "WEBP"),
        "scan.tif": encoded(picture("CMYK"), "TIFF"),
        "old.bmp": encoded(picture(), "BMP"),
    }


CASES = (
    refused(
        "empty",
        b"",
        NO_IMAGE.format(0),
    ),
    refused(
        "truncated",
        JPEG[: len(JPEG) // 2],
        "image file is truncated (130 bytes not processed)",
    ),
    refused(
        "only a header",
        JPEG[:60],
        "Truncated File Read",
    ),
    refused(
        "truncated PNG",
        PNG[: len(PNG) // 2],
        "image file is truncated",
    ),
    refused(
        "a bit that fell over",
        PNG[:1000] + bytes([PNG[1000] ^ 1]) + PNG[1001:],
        "broken data stream when reading image file",
    ),
    refused(
        "text",
        b"what I meant to photograph\n",
        NO_IMAGE.format(27),
    ),
    refused(
        "a web page",
        QUOTA_PAGE.encode(),
        NO_IMAGE.format(85),
    ),
    refused(
        "PostScript",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        NO_IMAGE.format(47),
    ),
    refused(
        "SVG",
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        NO_IMAGE.format(62),
    ),
    refused(
        "HEIC",
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100),
        NO_IMAGE.format(124),
    ),
    refused(
        "floating-point numbers",
        floating(),
        "its pixels are floating-point numbers of unknown range",
    ),
    refused(
        "a decompression bomb",
        blank_png(20_000, 20_000),
        "Image size (400000000 pixels) exceeds limit of 178956970 pixels, could be decompression "
        "bomb DOS attack.",
    ),
    refused(
        "more pixels than any camera",
        blank_png(8_000, 8_000),
        "it has 64,000,000 pixels, more than 50,000,000",
    ),
    refused(
        "more pixels than Pillow warns of",
        blank_png(10_000, 10_000),
        "it has 100,000,000 pixels, more than 50,000,000",
    ),
    Case(
        "image: empty, in an archive",
        measured(zipped),
        main.evaluate,
        undecodable("2.jpg", NO_IMAGE.format(0), ".zip: "),
    ),
    Case(
        "image: one left out",
        measured(two_bad, "--data.damaged-limit", 2),
        main.evaluate,
        "",
        0,
        (
            undecodable("2.jpg", NO_IMAGE.format(0)),
            undecodable("3.jpg", NO_IMAGE.format(85)),
            "left out 2 damaged of 3 images",
        ),
    ),
    Case(
        "image: more than may be left out",
        measured(two_bad, "--data.damaged-limit", 1),
        main.evaluate,
        "--data.damaged-limit 1: 2 of 3 images cannot be decoded, first 2.jpg; restore them, "
        "take them off the lists, or raise the limit",
        2,
        (
            undecodable("2.jpg", NO_IMAGE.format(0)),
            undecodable("3.jpg", NO_IMAGE.format(85)),
        ),
    ),
    Case(
        "image: truncated, in training",
        met_in_training,
        main.train,
        undecodable("000002.jpg", "image file is truncated (130 bytes not processed)"),
        begins=True,
    ),
    Case(
        "images that are odd, and none a fault",
        measured(lambda root: write_faces(root, odd_images())),
        main.evaluate,
        "",
        0,
    ),
    Case(
        "image: damaged EXIF",
        measured(lambda root: write_faces(root, {"1.jpg": JPEG, "2.jpg": damaged_exif()})),
        main.evaluate,
        "",
        0,
        (
            "{root}/celeba/Img/img_align_celeba/2.jpg: its metadata is damaged (its EXIF data is "
            "cut short); its pixels are used without it",
        ),
    ),
)
