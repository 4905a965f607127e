"""Images of which only the metadata is damaged: the pixels are used, with one warning."""

import io
import struct
import zlib

import numpy as np
import pytest
from faults import one_line
from PIL import Image

from iamt_jax.data.decode import decode, square
from iamt_jax.data.image_metadata import MOST_NAMED

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))


def encoded(form, **options):
    file = io.BytesIO()
    PICTURE.save(file, form, **options)
    return file.getvalue()


PNG, JPEG, WEBP = encoded("PNG"), encoded("JPEG"), encoded("WEBP")
CUT = b"MM\0*\0\0\0\x08\0\x09\x01\x12"


def turned(value, kind=3):
    """EXIF data that holds only an orientation."""
    field = struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value)
    return b"MM\0*\0\0\0\x08\0\x01\x01\x12" + struct.pack(">HI", kind, 1) + field + bytes(4)


def chunk(kind, data, crc=None):
    crc = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def png(*parts):
    return PNG[:33] + b"".join(parts) + PNG[33:]


def segment(marker, data, length=None):
    length = len(data) + 2 if length is None else length
    return b"\xff" + bytes([marker]) + struct.pack(">H", length) + data


def jpeg(*parts):
    return JPEG[:2] + b"".join(parts) + JPEG[2:]


def webp(*parts, cut=0):
    """A file in the extended form of WebP, with additional chunks."""
    size = struct.unpack("<I", WEBP[16:20])[0]
    extended = bytes([0x2C, 0, 0, 0]) + 2 * struct.pack("<I", 39)[:3]
    chunks = [(b"VP8X", extended), (WEBP[12:16], WEBP[20 : 20 + size]), *parts]
    body = b"".join(
        kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks
    )
    body = body[: len(body) - cut]
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


EXIF = b"Exif\0\0"
THUMBNAIL = EXIF + turned(1) + encoded("JPEG", quality=1)
DAMAGED = {
    "a malformed eXIf chunk": png(chunk(b"eXIf", b"\0\x08\0\x02\x01\x12\0\x03")),
    "an eXIf chunk that is cut": png(chunk(b"eXIf", CUT)),
    "a malformed eXIf chunk after the pixels": PNG[:-12] + chunk(b"eXIf", CUT[:7]) + PNG[-12:],
    "a wrong checksum of an eXIf chunk": png(chunk(b"eXIf", turned(6), 5)),
    "a wrong checksum of a text": png(chunk(b"tEXt", b"a\0b", 5)),
    "a text that is cut": png(struct.pack(">I", 500) + b"tEXta\0b"),
    "a text without end": png(struct.pack(">I", 2**31 - 1) + b"tEXta\0b"),
    "a text with the name of a chunk": png(struct.pack(">I", 500) + b"tEXta\0IDAT IEND"),
    "a compressed text of no method": png(chunk(b"zTXt", b"a\0\5xxx")),
    "a text that unfolds without end": png(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**7)))),
    "a profile of no method": png(chunk(b"iCCP", b"a\0\5xxx")),
    "an empty profile": png(chunk(b"iCCP", b"")),
    "a resolution that is cut": png(chunk(b"pHYs", b"1")),
    "primaries that are cut": png(chunk(b"cHRM", b"1")),
    "no gamma": png(chunk(b"gAMA", b"")),
    "an animation that is none": png(chunk(b"acTL", b"1")),
    "an orientation of 9": jpeg(segment(0xE1, EXIF + turned(9))),
    "an orientation of letters": jpeg(segment(0xE1, EXIF + turned(0x41420000, 2))),
    "EXIF that is cut": jpeg(segment(0xE1, EXIF + CUT)),
    "EXIF of one byte": jpeg(segment(0xE1, EXIF + b"M")),
    "EXIF that is none": jpeg(segment(0xE1, EXIF + b"garbage")),
    "EXIF longer than it is": jpeg(segment(0xE1, EXIF + turned(6), 60)),
    "EXIF longer than the file": jpeg(segment(0xE1, EXIF + turned(6), 65000)),
    "EXIF with a thumbnail, longer than the file": jpeg(segment(0xE1, THUMBNAIL, 65000)),
    "a profile that is cut": jpeg(segment(0xE2, b"ICC_PROFILE\0")),
    "a short JFIF header": JPEG[:2] + segment(0xE0, b"JFIF\0") + JPEG[20:],
    "a short Adobe header": jpeg(segment(0xEE, b"Adobe")),
    "EXIF of WebP that is none": webp((b"EXIF", b"garbage")),
    "EXIF of WebP that is cut": webp((b"EXIF", bytes(100)), cut=90),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_the_pixels_are_used_with_one_warning(damage, capsys):
    data = DAMAGED[damage]
    whole = {b"\x89": PNG, b"\xff": JPEG, b"R": WEBP}[data[:1]]
    np.testing.assert_array_equal(decode(data, 40, "a.png"), decode(whole, 40, "whole"))
    decode(data, 40, "a.png")
    error = capsys.readouterr().err
    assert error.startswith("warning: a.png: its metadata is damaged (") and error.count("\n") == 1
    assert error.endswith("); its pixels are used without it\n") and "0x" not in error


@pytest.mark.parametrize("damage", ["a malformed eXIf chunk", "EXIF that is cut"])
def test_pillow_images_with_damaged_metadata(damage, tmp_path, capsys):
    path = tmp_path / "a.png"
    path.write_bytes(DAMAGED[damage])
    with Image.open(path) as image:
        found = square(image, 40, "images[0]")
        np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")))
    assert f"images[0] ({path}): its metadata is damaged" in capsys.readouterr().err


def test_intact_orientation_is_applied_without_a_warning(capsys):
    for value in range(9):
        upright = decode(jpeg(segment(0xE1, EXIF + turned(value))), 40, "a.jpg")
        plain = decode(JPEG, 40, "a.jpg")
        turns = [plain, plain[:, ::-1], plain[::-1, ::-1], plain[::-1], plain.swapaxes(0, 1)]
        turns += [np.rot90(plain, -1), plain[::-1, ::-1].swapaxes(0, 1), np.rot90(plain)]
        np.testing.assert_array_equal(upright, turns[max(value - 1, 0)])
    assert not capsys.readouterr().err


@pytest.mark.parametrize("data", [JPEG, PNG, WEBP])
def test_damaged_pixels_are_still_refused(data, capsys):
    one_line(lambda: decode(data[: len(data) // 2], 40, "a.jpg"), "a.jpg: cannot be decoded")
    assert not capsys.readouterr().err


def test_of_many_images_only_some_are_named(capsys):
    for i in range(3 * MOST_NAMED):
        decode(DAMAGED["EXIF that is cut"], 8, f"{i}.jpg")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == MOST_NAMED + 1 and lines[-1] == (
        "warning: more than 10 images have damaged metadata; no more of them are named"
    )


def test_a_malicious_file_is_refused_quickly():
    false = b"\0\0\0\0IDAT" * 200_000
    one_line(lambda: decode(PNG[:33] + b"\xff" * 4 + b"tEXt" + false, 8, "a.png"), "a.png")
    one_line(lambda: decode(b"\xff\xd8" + b"\xff\xdb\0\x03" * 200_000, 8, "a.jpg"), "a.jpg")
