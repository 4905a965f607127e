"""Orientation of an image, and its pixels where its metadata is damaged.

Pillow reads a file's metadata together with its header, so that one malformed EXIF field, profile
or text makes it refuse an image whose pixels are whole. `without_metadata` copies only the parts
of the file that the pixels need; Pillow then decodes the copy, with all its checks.
"""

from __future__ import annotations

import re
import struct
import sys
import threading
from collections.abc import Iterator

from PIL import ExifTags, Image

from iamt_jax.errors import printable

MOST_NAMED = 10
"""Images with damaged metadata that warnings name; one last warning stands for all others."""

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS = re.compile(rb"IHDR|PLTE|tRNS|IDAT|IEND")
_PNG_CHUNK = re.compile(rb"[A-Za-z]{4}")
_JPEG_TABLES = re.compile(rb"\xff[\xdb\xc0-\xc2\xc4\xdd]\x00")
_WEBP_PIXELS = (b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")

_MOST_SEARCHES = 64
"""Searches in a JPEG for its next segment; a malicious file could otherwise need millions."""

_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> the operation that turns the image upright."""

_named: set[str] = set()
_naming = threading.Lock()


def read_orientation(image: Image.Image, name: str) -> int:
    """Returns EXIF's orientation, 1 to 8; 1, with a warning, if the EXIF data is damaged."""
    try:
        exif = image.info.get("exif")
        if isinstance(exif, bytes):
            _check_directory(re.sub(rb"^(Exif\0\0)+", b"", exif))
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
        if found not in range(9):
            raise ValueError(f"its orientation is {found!r}")
    except Exception as error:  # Pillow raises several types, SyntaxError among them.
        warn_damaged(name, error)
        return 1
    return int(found) or 1


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Rotates or mirrors an image according to its `read_orientation`."""
    return image.transpose(_TRANSPOSES[orientation]) if orientation in _TRANSPOSES else image


def warn_damaged(name: str, error: Exception) -> None:
    """Prints a warning that the metadata of an image was ignored, once an image."""
    with _naming:
        if name in _named or len(_named) > MOST_NAMED:
            return
        _named.add(name)
        unknown = isinstance(error, Image.UnidentifiedImageError)
        reason = "a part of it is malformed" if unknown else " ".join(str(error).split())[:100]
        text = f"{name}: its metadata is damaged ({reason}); its pixels are used without it"
        if len(_named) > MOST_NAMED:
            text = f"more than {MOST_NAMED} images have damaged metadata; no more of them are named"
        print(f"warning: {printable(text)}", file=sys.stderr)


def without_metadata(data: bytes) -> bytes | None:
    """Returns the parts of a PNG, JPEG or WebP file that hold pixels; None for other formats.

    After a part whose length is wrong, the search continues at the next plausible part. Nothing
    is repaired: damaged pixels stay damaged, for Pillow to refuse.
    """
    if data.startswith(_PNG):
        return _PNG + b"".join(_png_chunks(data))
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd8" + b"".join(_jpeg_segments(data))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        chunks = b"".join(_webp_chunks(data))
        return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks
    return None


def _check_directory(exif: bytes) -> None:
    """Raises ValueError unless all fields are there that the first EXIF directory announces.

    Pillow only logs or warns, and returns the fields it could read.
    """
    if not exif:
        return
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if not order:
        raise ValueError(f"its EXIF data begins with {exif[:4]!r}")
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
    except struct.error:
        raise ValueError("its EXIF data is cut short") from None
    if start + 2 + 12 * count > len(exif):
        raise ValueError("its EXIF data is cut short")


def _png_chunks(data: bytes) -> Iterator[bytes]:
    """Yields the chunks that hold pixels, each with its length and checksum."""
    at = len(_PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        # The length is right if another chunk follows.
        if (length, kind) == (0, b"IEND") or _PNG_CHUNK.fullmatch(data[end + 4 : end + 8]):
            if _PNG_PIXELS.fullmatch(kind):
                yield data[at:end]
            at = end
        else:
            found = _PNG_PIXELS.search(data, at + 8)
            at = found.start() - 4 if found else len(data)


def _jpeg_segments(data: bytes) -> Iterator[bytes]:
    """Yields the segments before the pixels, without those of applications, then all the rest."""
    at, searches = 2, 0
    while at + 4 <= len(data) and searches < _MOST_SEARCHES:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 2 + length
        if data[at] != 0xFF or length < 2 or marker != 0xDA and data[end : end + 1] != b"\xff":
            at, searches = _next_jpeg_segment(data, at), searches + 1
            continue
        if marker == 0xDA:  # Start of scan: the pixels follow.
            yield data[at:]
            return
        # Adobe's segment says how colours are stored; the others only describe the image.
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE) or (marker == 0xEE and length >= 14):
            yield data[at:end]
        at = end


def _next_jpeg_segment(data: bytes, start: int) -> int:
    """Returns where the tables of the image begin, beyond a thumbnail with tables of its own."""
    inner = data.find(b"\xff\xd8\xff", start)
    beyond = data.find(b"\xff\xd9", inner) if inner >= 0 else -1
    if beyond >= 0 and data.find(b"\xff\xda", beyond) >= 0:
        start = beyond
    found = _JPEG_TABLES.search(data, start + 1)
    return found.start() if found else len(data)


def _webp_chunks(data: bytes) -> Iterator[bytes]:
    """Yields the chunks that hold pixels, after a header that announces only them."""
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        end = at + 8 + length + length % 2
        if kind == b"VP8X" and length == 10:
            kept = data[at + 8] & 0b00010010  # Alpha and animation; no profile, EXIF or XMP.
            yield data[at : at + 8] + bytes([kept]) + data[at + 9 : end]
        elif kind in _WEBP_PIXELS:
            yield data[at:end]
        at = end
