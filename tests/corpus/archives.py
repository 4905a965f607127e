"""Faults of archives and folders of images: damaged, incomplete, malicious."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import cli as main
import layouts

from corpus import Case
from corpus.writing import (
    QUOTA_PAGE,
    ZIP,
    encoded,
    measured,
    picture,
    small,
    write_faces,
    write_lists,
    write_zip,
)

FACE = encoded(picture())
NAMES = ("1.png", "2.png")
MEMBERS = {f"img_align_celeba/{name}": FACE for name in NAMES}


def damaged(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Changes the bytes of the archive."""

    def inject(root: Path) -> None:
        (root / ZIP).write_bytes(change((root / ZIP).read_bytes()))

    return inject


def rezipped(**others: bytes) -> Callable[[Path], None]:
    """Adds members to the archive."""

    def inject(root: Path) -> None:
        with zipfile.ZipFile(root / ZIP, "a") as archive:
            for name, data in others.items():
                archive.writestr(name, data)

    return inject


def encrypted(data: bytes) -> bytes:
    """Sets the flag of encryption in the directory of the archive."""
    entry = data.index(b"PK\x01\x02", data.index(b".jpg"))
    entry = data.index(b"PK\x01\x02", entry + 1)  # the first entry is the folder
    return data[: entry + 8] + bytes([data[entry + 8] | 1]) + data[entry + 9 :]


def fewer(root: Path) -> None:
    """Keeps only one image in the archive."""
    with zipfile.ZipFile(root / ZIP, "w") as archive:
        archive.writestr("img_align_celeba/000002.jpg", layouts.IMAGES[1])


def unzipped_without(root: Path) -> None:
    """Unzips the archive and removes an image."""
    (root / ZIP).unlink()
    layouts.write_folder(root / "Img/img_align_celeba")
    (root / "Img/img_align_celeba/000005.jpg").unlink()


def text_for_a_folder(root: Path) -> None:
    """Puts a file where the folder of images should be."""
    (root / ZIP).unlink()
    (root / "Img/img_align_celeba").write_text("mine")


def a_folder_for_an_image(root: Path) -> None:
    """Puts a folder in place of an image."""
    write_faces(root, {"1.png": FACE})
    (root / "Img/img_align_celeba/1.png").unlink()
    (root / "Img/img_align_celeba/1.png").mkdir()


def one_bit(root: Path) -> None:
    """Flips a bit of an image in the archive."""
    path = write_zip(root, MEMBERS, NAMES, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(FACE) + 1000] ^= 1
    path.write_bytes(data)


def one_bit_deflated(root: Path) -> None:
    """Flips a bit of a compressed image in the archive."""
    path = write_zip(root, MEMBERS, NAMES, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    start = data.index(NAMES[0].encode()) + len(NAMES[0])
    data[start : start + 8] = b"\xff" * 8
    path.write_bytes(data)


def no_local_header(root: Path) -> None:
    """Makes the directory point to no local header."""
    path = write_zip(root, MEMBERS, NAMES, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"PK\x03\x04", b"PK\x03\x05"))


def escaping(root: Path) -> None:
    """Gives members names with `..`; images are read in place, by base name."""
    members = {"../../../escaped/1.png": FACE, "/escaped/2.png": FACE, "..\\..\\3.png": FACE}
    write_zip(root, members, NAMES, zipfile.ZIP_STORED)


def bomb(root: Path) -> None:
    """Writes a small archive that expands to more than the limit."""
    members = {NAMES[0]: bytes(100_000_001), NAMES[1]: FACE}
    write_zip(root, members, NAMES, zipfile.ZIP_DEFLATED)


def lying_bomb(root: Path) -> None:
    """Writes such an archive whose directory states a small size."""
    bomb(root)
    data = (root / ZIP).read_bytes()
    (root / ZIP).write_bytes(data.replace(struct.pack("<I", 100_000_001), struct.pack("<I", 9)))


def huge_file(root: Path) -> None:
    """Writes a sparse file that would fill the memory."""
    write_faces(root, {"1.png": FACE})
    with open(root / "Img/img_align_celeba/1.png", "r+b") as file:
        file.truncate(100_000_001)


def mac(root: Path) -> None:
    """Adds the files that the macOS Finder adds to an archive."""
    extra = {f"__MACOSX/img_align_celeba/{name}": b"\0\5\x16\7" for name in NAMES}
    write_zip(root, MEMBERS | extra, NAMES, zipfile.ZIP_DEFLATED)


def windows(root: Path) -> None:
    """Writes backslashes in the names of members."""
    write_lists(root, NAMES)
    (root / "Img").mkdir()
    with zipfile.ZipFile(root / ZIP, "w") as file:
        for name in NAMES:
            info = zipfile.ZipInfo("x")
            info.filename = f"img_align_celeba\\{name}"
            file.writestr(info, FACE)


def png_for_jpeg(root: Path) -> None:
    """Writes the images as PNG, in the folder of CelebA's own archive of PNG."""
    write_lists(root, [name.replace("png", "jpg") for name in NAMES])
    folder = root / "Img/img_align_celeba_png"
    folder.mkdir(parents=True)
    for name in NAMES:
        (folder / name.upper()).write_bytes(FACE)


def archive(name: str, inject: Callable[[Path], object], line: str) -> Case:
    """A fault that is found before training starts."""
    return Case(f"archive: {name}", small(inject), main.train, line)


CASES = (
    archive(
        "absent",
        lambda root: (root / ZIP).unlink(),
        "{root}/celeba/Img/img_align_celeba.zip: not found, nor a folder img_align_celeba "
        "beside it; expected the 16 listed images: download img_align_celeba.zip to there",
    ),
    archive(
        "a web page",
        lambda root: (root / ZIP).write_text(QUOTA_PAGE),
        "{root}/celeba/Img/img_align_celeba.zip: is a web page, not a zip archive; Google "
        "Drive sends such a page when its download quota is used up: download the file again, "
        "later or from another mirror",
    ),
    archive(
        "empty file",
        lambda root: (root / ZIP).write_bytes(b""),
        "{root}/celeba/Img/img_align_celeba.zip: is not a readable zip archive (File is not a "
        "zip file; it has 0 bytes, CelebA's has 1,443,490,838): download it again",
    ),
    archive(
        "text",
        lambda root: (root / ZIP).write_text("mine"),
        "{root}/celeba/Img/img_align_celeba.zip: is not a readable zip archive (File is not a "
        "zip file; it has 4 bytes, CelebA's has 1,443,490,838): download it again",
    ),
    archive(
        "interrupted download",
        damaged(lambda data: data[: len(data) // 2]),
        "{root}/celeba/Img/img_align_celeba.zip: is not a readable zip archive (File is not a "
        "zip file; it has 10,237 bytes, CelebA's has 1,443,490,838): download it again",
    ),
    archive(
        "its last bytes missing",
        damaged(lambda data: data[:-60]),
        "{root}/celeba/Img/img_align_celeba.zip: is not a readable zip archive (File is not a "
        "zip file; it has 20,415 bytes, CelebA's has 1,443,490,838): download it again",
    ),
    archive(
        "a damaged directory",
        damaged(lambda data: data.replace(b"PK\x01\x02", b"PK\x01\x09")),
        "{root}/celeba/Img/img_align_celeba.zip: is not a readable zip archive (Bad magic "
        "number for central directory; it has 20,475 bytes, CelebA's has 1,443,490,838): "
        "download it again",
    ),
    archive(
        "no members",
        damaged(lambda data: b"PK\5\6" + bytes(18)),
        "{root}/celeba/Img/img_align_celeba.zip: 16 of the 16 listed images are not in it, the "
        "first is 000001.jpg: add the images, or take the rows off the lists",
    ),
    archive(
        "encrypted",
        damaged(encrypted),
        "{root}/celeba/Img/img_align_celeba.zip: img_align_celeba/000001.jpg is encrypted; "
        "expected stored or deflated members: unzip the archive beside itself",
    ),
    archive(
        "bzip2",
        lambda root: layouts.write_zip(root / ZIP, zipfile.ZIP_BZIP2),
        "{root}/celeba/Img/img_align_celeba.zip: img_align_celeba/000001.jpg is compressed by "
        "method 12; expected stored or deflated members: unzip the archive beside itself",
    ),
    archive(
        "two images of one name",
        rezipped(**{"thumbnails/000002.jpg": b"small"}),
        "{root}/celeba/Img/img_align_celeba.zip: holds two images called 000002.jpg "
        "(img_align_celeba/000002.jpg and thumbnails/000002.jpg); expected one a name: remove "
        "one of them",
    ),
    archive(
        "missing images",
        fewer,
        "{root}/celeba/Img/img_align_celeba.zip: 15 of the 16 listed images are not in it, the "
        "first is 000001.jpg: add the images, or take the rows off the lists",
    ),
    archive(
        "unzipped, an image missing",
        unzipped_without,
        "{root}/celeba/Img/img_align_celeba: 1 of the 16 listed images are not in it, the "
        "first is 000005.jpg: add the images, or take the rows off the lists",
    ),
    archive(
        "a file for the folder",
        text_for_a_folder,
        "{root}/celeba/Img/img_align_celeba: is not a readable zip archive (File is not a zip "
        "file; it has 4 bytes, CelebA's has 1,443,490,838): download it again",
    ),
    Case(
        "archive: a folder for an image",
        measured(a_folder_for_an_image),
        main.evaluate,
        "{root}/celeba/Img/img_align_celeba/1.png: cannot be read (Is a directory); restore it",
    ),
    Case(
        "archive: one bit",
        measured(one_bit),
        main.evaluate,
        "{root}/celeba/Img/img_align_celeba.zip: 1.png cannot be read out of it (its checksum "
        "is wrong); the archive is damaged: download it again",
    ),
    Case(
        "archive: damaged deflate",
        measured(one_bit_deflated),
        main.evaluate,
        "{root}/celeba/Img/img_align_celeba.zip: 1.png cannot be read out of it (Error -3 "
        "while decompressing data: invalid block type); the archive is damaged: download it "
        "again",
    ),
    Case(
        "archive: no local header",
        measured(no_local_header),
        main.evaluate,
        "{root}/celeba/Img/img_align_celeba.zip: 1.png cannot be read out of it (no local "
        "header where the directory says); the archive is damaged: download it again",
    ),
    Case(
        "archive: a bomb",
        measured(bomb),
        main.evaluate,
        "{root}/celeba/Img/img_align_celeba.zip: 1.png has 100,000,001 bytes, expected at most "
        "100,000,000, more than any photograph has: put the original in its place",
    ),
    Case(
        "archive: a bomb that lies",
        measured(lying_bomb),
        main.evaluate,
        "{root}/celeba/Img/img_align_celeba.zip: 1.png cannot be read out of it (it unfolds to "
        "more than 100,000,000 bytes); the archive is damaged: download it again",
    ),
    Case(
        "archive: a huge image, unzipped",
        measured(huge_file),
        main.evaluate,
        "{root}/celeba/Img/img_align_celeba/1.png: has more than 100,000,000 bytes, which no "
        "photograph has; restore it from the original, or take it off the lists",
    ),
    Case("archive: members that lead elsewhere", measured(escaping), main.evaluate, "", 0),
    archive(
        "packed otherwise",
        lambda root: (root / ZIP).rename(root / "Img/img_align_celeba_png.7z.001"),
        "{root}/celeba/Img/img_align_celeba.zip: not found, nor a folder img_align_celeba "
        "beside it; expected the 16 listed images: unpack img_align_celeba_png.7z.001 there",
    ),
    Case("archive: made by Windows", measured(windows), main.evaluate, "", 0),
    Case(
        "archive: PNG for a list of JPEG",
        measured(png_for_jpeg),
        main.evaluate,
        "",
        0,
        (
            "{root}/celeba/Img/img_align_celeba_png: 2 of the 2 listed images have another suffix "
            "or case there and are read nevertheless, the first is 1.PNG for 1.jpg",
        ),
    ),
    Case("archive: made by a Mac", measured(mac), main.evaluate, "", 0),
)
