"""What a stranger may hand over (odd files, numbers and flags), and what may come of it."""

import csv
import dataclasses
import io
import json
import os
import string
import struct
import types
import typing
import zipfile

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from iamt_jax.errors import InputError

COUNT = os.environ.get("IAMT_FUZZ")  # Examples a property; without it the same few every time.

fuzz = settings(
    max_examples=int(COUNT or 25),
    derandomize=not COUNT,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def accepted(read, beginning="", most=600):
    """What `read` returns, or None where it refuses in one line that says something."""
    try:
        return read()
    except InputError as error:
        message = str(error)
    assert len(message.splitlines()) == 1 and message.startswith(str(beginning)), message
    assert message[:1].strip() and len(message) < most + len(str(beginning)), message
    return None


def content(write, *arguments, **options):
    """The bytes that `write` writes into its first argument, a file."""
    file = io.BytesIO()
    write(file, *arguments, **options)
    return file.getvalue()


def fits(value, kind):
    """Whether a value has the type that its annotation promises."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        fields = typing.get_type_hints(kind)
        return type(value) is kind and all(fits(getattr(value, f), t) for f, t in fields.items())
    if origin is typing.Literal:
        return isinstance(value, str) and value in inner
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, x) for x in inner)
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(x, inner[0]) for x in value)
    if kind in (int, float):
        return type(value) in (int, kind)
    return isinstance(value, kind)


LIMITS = (0, 1, 2, 127, 128, 255, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
"""Numbers at which a field of a file overflows or changes its sign."""

ODD = '| |0|-1|+1|-1.0|nan|NA|1e0|1_000|-0|2|\u0663|\u00b2|\uff11|\x00|a\x00b|\ufeff|"|"a|a\nb|a\rb'
ODD += "|a\r\nb|a\x1cb|a\x85b|a\u2028b|\x1b[31m|\u202e|<html>|../x|/x|..\\x|.|C:\\x|Bald|000001.jpg"
"""Cells, names and arguments that parsers stumble over."""

long_text = st.sampled_from(("x600", "y140000", "95000")).map(lambda x: x[0] * int(x[1:]))
odd_text = st.sampled_from(ODD.split("|")) | st.text(max_size=12) | long_text
numbers = st.sampled_from(LIMITS) | st.integers() | st.floats()
KINDS = st.sampled_from(("flip", "number", "number", "insert", "delete", "copy", "cut"))


@st.composite
def mutated(draw, original):
    """Bytes with one to five flips, overwritten numbers, insertions, deletions, copies or cuts."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 5))):
        at, start = (draw(st.integers(0, max(0, len(data) - 1))) for _ in range(2))
        length = draw(st.integers(0, 16))
        kind = draw(KINDS)
        if kind == "flip" and data:
            data[at] ^= 1 << length % 8
        elif kind == "number":
            form = draw(st.sampled_from(("<B", "<H", "<I", "<Q", ">H", ">I")))
            width = struct.calcsize(form)
            data[at : at + width] = struct.pack(form, draw(st.sampled_from(LIMITS)) % 256**width)
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=16))
        elif kind == "delete":
            del data[at : at + length]
        elif kind == "copy":
            data[at:at] = data[start : start + length]
        elif kind == "cut" and draw(st.booleans()):
            del data[at:]
    return bytes(data)


# Lists.

LABELS = "image_id Bald Male Young|000001.jpg 1 -1 1|000002.jpg -1 1 0|000003.jpg 1 1 -1"
LABELS = [line.split() for line in LABELS.split("|")]
PARTITIONS = [["image_id", "partition"], *([f"{i:06}.jpg", str(i % 3)] for i in range(1, 7))]
word = st.text(string.ascii_letters + "_\u00e9\u4e2d", min_size=1, max_size=8).map("a{}".format)


def written(suffix, rows, announce=True):
    """A list of CelebA's as text; the .txt has its number of images in the first line."""
    if suffix == ".csv":
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows(rows)
        return file.getvalue()
    rows = [[str(len(rows) - 1)], rows[0][1:], *rows[1:]] if announce else rows[1:]
    return "".join(" ".join(row) + "\n" for row in rows)


@st.composite
def odd_lists(draw, suffix, table):
    """Bytes of a list whose cells were edited, in an odd encoding, perhaps damaged."""
    rows = [list(row) for row in table]
    for _ in range(draw(st.integers(0, 4))):
        row, other = (draw(st.sampled_from(rows)) for _ in range(2))
        i = draw(st.integers(0, max(0, len(row) - 1)))
        kind = draw(st.sampled_from(("odd", "double", "twice", "swap", "drop", "again", "gone")))
        if kind in ("odd", "double", "twice"):
            row[i : i + 1] = [draw(odd_text)] * (1 + (kind == "double"))
        elif kind == "swap":
            row[i : i + 1], other[:1] = other[:1], row[i : i + 1]
        elif kind == "drop":
            del row[i : i + 1]
        if kind in ("twice", "again"):
            rows.insert(draw(st.integers(0, len(rows))), list(row))
        elif kind == "gone" and len(rows) > 1:
            rows.remove(row)
    text = written(suffix, rows, announce=table is LABELS)
    if draw(st.booleans()):
        end = draw(st.sampled_from(("\r\n", "\r", "\n\n", "\u2028", "\x00\n", '"\n', "\v")))
        text = text.replace("\n", end)
    if suffix == ".txt" and draw(st.integers(0, 7)) == 0:
        text = draw(odd_text) + text[1:]
    encoding = draw(st.sampled_from(("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1")))
    data = text.encode(encoding, "replace")
    return draw(mutated(data)) if draw(st.integers(0, 3)) == 0 else data


# Archives.

METHODS = st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
IMAGES = {"the-first.jpg": bytes(range(60)), "number two.png": b"two " * 30, "last.webp": b""}
PLACED = {f"caf\u00e9/{name}": data for name, data in IMAGES.items()}


def archive(method, members=PLACED, *, zip64=False, change=lambda infos: None):
    """A zip archive; `change` may edit the directory before it is written."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as zipped:
        for name, data in members.items():
            with zipped.open(name, "w", force_zip64=zip64) as member:
                member.write(data)
        change(zipped.filelist)
    return file.getvalue()


damaged_archives = st.sampled_from(
    [archive(method, zip64=zip64) for method in (0, 8) for zip64 in (False, True)]
).flatmap(mutated)


@st.composite
def lying_archives(draw):
    """An archive in whose directory some numbers are wrong."""
    fields = ("header_offset", "compress_size", "file_size", "CRC", "compress_type", "flag_bits")
    widths = {"CRC": 32, "compress_type": 16, "flag_bits": 11}  # Bit 11 is the names' encoding.
    changes = draw(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(fields)), min_size=1))

    def change(infos):
        for member, field in changes:
            number = draw(st.sampled_from(LIMITS) | st.integers(0, 1000))
            setattr(infos[member], field, number % 2 ** widths.get(field, 64))

    return archive(draw(METHODS), change=change)


@st.composite
def oddly_named_archives(draw):
    """An archive, and its names: those of paths that lead elsewhere, twice the same, or none."""
    parts = st.sampled_from(("", "..", "img", "__MACOSX")) | odd_text
    paths = st.lists(parts, max_size=3).map("/".join) | parts
    names = [name[:16_000] for name in draw(st.lists(paths, min_size=3, max_size=3))]

    def change(infos):
        for info, name in zip(infos, names, strict=True):
            info.filename = name

    return archive(draw(METHODS), change=change), names


# Pictures.


def _pictures():
    noise = np.random.default_rng(0).integers(0, 256, (11, 14, 4), np.uint8)
    rgba, exif = Image.fromarray(noise), Image.Exif()
    rgb, palette, black, cmyk = (rgba.convert(mode) for mode in ("RGB", "P", "1", "CMYK"))
    deep = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    exif[0x0112], exif[0x010E] = 6, "a face"
    frames = {"save_all": True, "append_images": [rgb.rotate(90)]}
    yield from ((x, "JPEG", {"exif": exif, "progressive": x is rgb}) for x in (rgb, cmyk))
    yield from ((x, "PNG", {"exif": exif}) for x in (rgba, deep))
    yield palette, "PNG", {"transparency": bytes(range(256))}
    yield palette, "GIF", {"transparency": 3, **frames}
    yield from ((x, "WEBP", {"lossless": x is rgba, "exif": exif}) for x in (rgb, rgba))
    yield rgb, "WEBP", frames
    yield from ((x, "BMP", {}) for x in (rgb, palette))
    for how in (None, "tiff_lzw", "jpeg", "packbits"):
        yield rgb, "TIFF", {"compression": how, "exif": exif}
    yield deep, "TIFF", {"compression": "tiff_adobe_deflate"}
    yield black, "TIFF", {"compression": "group4"}


pictures = st.sampled_from([content(x.save, form, **options) for x, form, options in _pictures()])
heads = st.tuples(pictures, st.integers(0, 40), st.binary(max_size=80))
damaged_pictures = pictures.flatmap(mutated) | heads.map(lambda x: x[0][: x[1]] + x[2])


# A workdir.

json_values = st.recursive(
    st.none() | st.booleans() | numbers | odd_text | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_text, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def odd_runs(draw, text):
    """The text of a run.json in which fields were replaced, removed, added or wrapped."""
    tree = json.loads(text)
    for _ in range(draw(st.integers(1, 3))):
        node, key = {"": tree}, ""
        while node[key] and isinstance(node[key], (dict, list)) and draw(st.integers(0, 9)):
            node = node[key]
            key = draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
        kind = draw(st.sampled_from(("replace", "replace", "remove", "add", "wrap")))
        if kind == "remove":
            del node[key]
        elif kind == "add" and isinstance(node, dict):
            node[draw(odd_text)] = node[key]
        else:
            node[key] = [node[key]] if kind == "wrap" else draw(json_values)
    return json.dumps(tree)


def _npy_of(length, space=""):
    """The header of so many numbers, and none of them."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({length},), }}{space}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


ODD_ARRAYS = (
    *(np.array(x) for x in (2, [2, 2], [], "x", ["a\nb"], b"x", 1j, np.nan, True, [[2**63]])),
    *(np.zeros(3, kind) for kind in ("M8[s]", "V3", "f2", "i1,f4", object)),
)
odd_members = st.sampled_from(
    [
        *(content(np.save, x) for x in ODD_ARRAYS),
        *map(_npy_of, LIMITS),
        _npy_of(1, " " * 20_000),
        b"",
    ]
)


@st.composite
def odd_calibrations(draw, whole):
    """An undamaged .npz whose members were replaced, removed, renamed or damaged."""
    with zipfile.ZipFile(io.BytesIO(whole)) as file:
        members = {name: file.read(name) for name in file.namelist()}
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(members)))
        kind = draw(st.sampled_from(("damage", "replace", "remove", "rename", "bare")))
        old = members.pop(name)
        new = draw(odd_text)[:9000] if kind == "rename" else name
        if kind != "remove" or not members:
            members[name.removesuffix(".npy") if kind == "bare" else new] = draw(
                {"damage": mutated(old), "replace": odd_members}.get(kind, st.just(old))
            )
    return archive(draw(METHODS), members)


# Flags and numbers.


def arguments(*flags):
    """Lists of arguments: these flags, parts of them, odd values, bytes that are no text."""
    words = (*flags, *(flag[:-1] for flag in flags), "--", "-", "--tyro-print-completion", "bash")
    values = odd_text.map(lambda x: x[:5000]) | st.binary(max_size=6).map(os.fsdecode)
    values |= numbers.map(str)
    joined = st.builds("{}={}".format, st.sampled_from(words), values)
    some = st.lists(st.sampled_from(words) | values | joined, max_size=6)
    return some.filter(lambda given: not {"-h", "--help"} & set(given))


@st.composite
def measured(draw):
    """Logits, infinite or tied ones among them, labels with gaps, and the majority."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 3)))
    some = st.integers(-2, 2).map(float) | st.floats(allow_nan=False)
    labels = draw(hnp.arrays(np.int8, shape, elements=st.integers(-1, 1)))
    return draw(hnp.arrays(np.float64, shape, elements=some)), labels, np.arange(shape[1]) % 2 == 0
