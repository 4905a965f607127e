"""Metadata of image files, which may be damaged where the pixels are whole."""

from __future__ import annotations

import itertools
import re
import struct
import sys
import threading
import zlib
from collections.abc import Iterator

from PIL import ExifTags, Image

from iamt_jax.errors import printable

MOST_NAMED = 10
"""Images with damaged metadata that are named; what follows is only summed up."""

_PNG, _PNG_PIXELS = b"\x89PNG\r\n\x1a\n", (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_WEBP_PIXELS = (b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation -> what turns the image upright."""

_TRIES = 64
"""Times that a file's next whole part is searched for; a file made for it could need millions."""

_named: set[str] = set()
_naming = threading.Lock()


def read_orientation(image: Image.Image, name: str) -> int:
    """EXIF's orientation, 1 to 8; 1, with a warning, where the EXIF data is damaged."""
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


def turn_upright(image: Image.Image, found: int) -> Image.Image:
    """The image upright, for the `orientation` found."""
    return image.transpose(_TURNS[found]) if found in _TURNS else image


def warn_damaged(name: str, error: Exception) -> None:
    """Prints a warning that an image's metadata was not used, once an image."""
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
    """The parts of a PNG, JPEG or WebP file that its pixels need; None if it is no such file.

    A part whose length is wrong is skipped: the search goes on at the next part that is whole.
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
    """Raises ValueError if the fields that the first directory announces are not all there."""
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
    """Chunks that hold pixels, each with its length and checksum."""
    at, tries = len(_PNG), 0
    while at + 12 <= len(data) and tries < _TRIES:
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        # What follows a chunk is a chunk, or the length was wrong.
        if end > len(data) - 12 or re.fullmatch(b"[A-Za-z]{4}", data[end + 4 : end + 8]):
            if kind in _PNG_PIXELS:
                yield data[at:end]
                at = end
                continue
            if end <= len(data) - 12:
                at = end
                continue
        at, tries = _next_png_chunk(data, at + 8), tries + 1


def _next_png_chunk(data: bytes, start: int) -> int:
    """Where the next chunk begins that holds pixels and whose checksum is right."""
    candidates = re.compile(b"|".join(_PNG_PIXELS)).finditer(data, start)
    for found in itertools.islice(candidates, _TRIES):
        at = found.start() - 4
        (length,) = struct.unpack_from(">I", data, at)
        crc = data[at + 8 + length : at + 12 + length]
        if struct.pack(">I", zlib.crc32(data[at + 4 : at + 8 + length])) == crc:
            return at
    return len(data)


def _jpeg_segments(data: bytes) -> Iterator[bytes]:
    """Segments from the start to the pixels, without those of applications, then all the rest."""
    at, tries = 2, 0
    while at + 4 <= len(data) and tries < _TRIES:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 2 + length
        if data[at] != 0xFF or length < 2 or marker != 0xDA and data[end : end + 1] != b"\xff":
            at, tries = _next_jpeg_segment(data, at), tries + 1
            continue
        if marker == 0xDA:  # The pixels follow.
            yield data[at:]
            return
        # Adobe's segment says how colours are stored; the others are about the image.
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE) or (marker == 0xEE and length >= 14):
            yield data[at:end]
        at = end


def _next_jpeg_segment(data: bytes, start: int) -> int:
    """Where the tables of the image begin, beyond a thumbnail with tables of its own."""
    inner = data.find(b"\xff\xd8\xff", start)
    beyond = data.find(b"\xff\xd9", inner) if inner >= 0 else -1
    if beyond >= 0 and data.find(b"\xff\xda", beyond) >= 0:
        start = beyond
    found = re.compile(b"\xff[\xdb\xc0-\xc2\xc4\xdd]\x00").search(data, start + 1)
    return found.start() if found else len(data)


def _webp_chunks(data: bytes) -> Iterator[bytes]:
    """Chunks that hold pixels, after a header that announces no others."""
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
