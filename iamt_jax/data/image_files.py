"""Reads encoded images from a folder or, without unpacking, from a zip archive."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from iamt_jax.data.dataset import EncodedImages, stamp_of_files
from iamt_jax.data.file_names import Match, is_image, match_names, normalised
from iamt_jax.errors import InputError, printable

MAX_BYTES = 100_000_000
"""Limit of a file's size; a zip member of a few kilobytes can otherwise expand to gigabytes."""

_LOCAL_HEADER = struct.Struct("<26xHH")
"""Lengths of the name and of the extra field of a zip member (APPNOTE.TXT, 4.3.7)."""

_MEMBER = np.dtype(
    [("header", "i8"), ("stored", "i8"), ("size", "i8"), ("crc", "u4"), ("method", "u2")]
)


_QUOTA = (
    "Google Drive sends such a page when its download quota is used up: download the file again, "
    "later or from another mirror"
)


def refuse_placeholder(path: Path, expected: str, advice: str = _QUOTA) -> None:
    """Raises `InputError` if a web page or a pointer of Git LFS is in place of the file.

    A refused download leaves a web page, a clone without Git LFS a pointer. `advice` ends the
    message about a web page.
    """
    with open(path, "rb") as file:
        head = file.read(512).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<!--")):
        raise InputError(f"{path}: is a web page, not {expected}; {advice}")
    if head.startswith(b"version https://git-lfs"):
        raise InputError(
            f"{path}: is a pointer of Git LFS, not {expected}; the repository was cloned without "
            "its large files: run `git lfs pull` in it, or download the file by itself"
        )


def read_file(path: str) -> bytes:
    """Returns the bytes of an image file.

    Raises:
      InputError: it cannot be read, or is larger than `MAX_BYTES`.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); restore it") from error
    if len(data) > MAX_BYTES:
        raise InputError(
            f"{path}: has more than {MAX_BYTES:,} bytes, which no photograph has; restore it "
            "from the original, or take it off the lists"
        )
    return data


@dataclasses.dataclass(frozen=True)
class FolderImages(EncodedImages):
    """Image files in one folder."""

    folder: str
    names: tuple[str, ...]

    def location(self, index: int) -> str:
        """See `EncodedImages`."""
        return os.path.join(self.folder, self.names[index])

    def stamp(self) -> str:
        """See `EncodedImages`."""
        folder = os.path.abspath(self.folder)
        return stamp_of_files(os.path.join(folder, name) for name in self.names)

    def read(self, index: int) -> bytes:
        """See `EncodedImages`."""
        return read_file(self.location(index))


@dataclasses.dataclass(frozen=True)
class ZipImages(EncodedImages):
    """Members of a zip archive, read without unpacking it.

    `open_zip` reads the archive's directory once. After that every read opens the file on its
    own, so that threads share no lock and no position, and the object can be pickled.
    """

    path: str
    names: tuple[str, ...]
    members: np.ndarray
    """One `_MEMBER` a name: offset of its header, compressed and full size, checksum, method."""

    def location(self, index: int) -> str:
        """See `EncodedImages`."""
        return f"{self.path}: {self.names[index]}"

    def stamp(self) -> str:
        """See `EncodedImages`."""
        return stamp_of_files([os.path.abspath(self.path)])

    def read(self, index: int) -> bytes:
        """See `EncodedImages`."""
        header, stored, size, crc, method = self.members[index].tolist()
        try:
            data = _read_member(self.path, header, stored)
            if method == zipfile.ZIP_DEFLATED:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                raise ValueError(f"it unfolds to more than {MAX_BYTES:,} bytes")
        except (OSError, ValueError, zlib.error) as error:
            raise self._broken(index, str(error)) from error
        if len(data) != size or zlib.crc32(data) != crc:
            raise self._broken(index, "its checksum is wrong")
        return data

    def _broken(self, index: int, reason: str) -> InputError:
        return InputError(
            f"{self.path}: {self.names[index]} cannot be read out of it ({reason}); "
            "the archive is damaged: download it again"
        )


def _read_member(path: str, header: int, stored: int) -> bytes:
    with open(path, "rb", buffering=0) as file:
        file.seek(header)
        fixed = file.read(_LOCAL_HEADER.size)
        if len(fixed) < _LOCAL_HEADER.size or not fixed.startswith(b"PK\x03\x04"):
            raise ValueError("no local header where the directory says")
        # The extra field here may differ in length from the one in the directory.
        file.seek(sum(_LOCAL_HEADER.unpack(fixed)), os.SEEK_CUR)
        data = file.read(stored)
    if len(data) < stored:
        raise ValueError("the file ends before it")
    return data


def open_folder(folder: Path, names: Sequence[str]) -> tuple[EncodedImages, Match]:
    """Returns the images of `folder` that `names` mean, and how the names were matched."""
    match = match_names(names, sorted(os.listdir(folder)))
    return folder_images(folder, match), match


def folder_images(folder: Path, match: Match) -> EncodedImages:
    """Returns the images of a folder, by the names that the files have there."""
    pairs = zip(match.wanted, match.rows, strict=True)
    files = tuple(name if row < 0 else match.present[row] for name, row in pairs)
    return FolderImages(str(folder), files)


def open_zip(path: Path, names: Sequence[str]) -> tuple[EncodedImages, Match]:
    """Returns the images that `names` mean, in any folder of the archive, and the match.

    Raises:
      InputError: the file is a web page or a damaged archive, or its members are encrypted or
        compressed by an unsupported method.
    """
    refuse_placeholder(path, "a zip archive")
    members: list[tuple[str, zipfile.ZipInfo]] = []
    for info in _directory(path):
        folder, _, name = _member_name(info).rpartition("/")
        if name and not folder.startswith("__MACOSX"):  # Skip folders and macOS metadata.
            members.append((name, info))
    match = match_names(names, [name for name, _ in members])
    for rows in match.alike.values():
        (name, info), (other, second) = members[rows[0]], members[rows[1]]
        if normalised(name) == normalised(other):
            raise InputError(
                f"{path}: holds two images called {name} ({info.filename} and "
                f"{second.filename}); expected one a name: remove one of them"
            )
    rows = [_row(path, members[row][1]) for row in match.rows if row >= 0]
    return ZipImages(str(path), tuple(names), np.array(rows, _MEMBER)), match


def _member_name(info: zipfile.ZipInfo) -> str:
    """Returns a member's path with slashes; macOS writes UTF-8 without setting the flag for it."""
    name = info.filename
    if not info.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return name.replace("\\", "/")


def _directory(path: Path) -> list[zipfile.ZipInfo]:
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
            raise InputError(
                f"{path}: is not a readable zip archive ({error}; it has {path.stat().st_size:,} "
                "bytes, CelebA's has 1,443,490,838): download it again"
            ) from error


def _row(path: Path, info: zipfile.ZipInfo) -> tuple[int, int, int, int, int]:
    encrypted = info.flag_bits & 1
    if encrypted or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        how = "encrypted" if encrypted else f"compressed by method {info.compress_type}"
        raise InputError(
            f"{path}: {info.filename} is {how}; expected stored or deflated members: "
            "unzip the archive beside itself"
        )
    if (largest := max(info.file_size, info.compress_size)) > MAX_BYTES:
        raise InputError(
            f"{path}: {info.filename} has {largest:,} bytes, expected at most {MAX_BYTES:,}, more "
            "than any photograph has: put the original in its place"
        )
    if info.header_offset >= path.stat().st_size:
        raise InputError(
            f"{path}: {info.filename} would lie beyond its end; the archive is damaged: download "
            "it again"
        )
    return info.header_offset, info.compress_size, info.file_size, info.CRC, info.compress_type


def walk_folders(
    root: str | os.PathLike[str],
    refuse: Callable[[OSError], object],
    enter: Callable[[str], bool] = lambda name: True,
) -> Iterator[tuple[str, list[os.DirEntry]]]:
    """Yields `root` and every folder below it with its files, sorted by name.

    Symbolic links to folders are followed. A folder is visited once, also if several paths lead
    to it, so that circular links end. `enter` tells whether to visit a folder of that name;
    `refuse` gets the error if a folder cannot be listed, and may raise.
    """
    seen, waiting = set(), [os.fspath(root)]
    while waiting:
        folder = waiting.pop()
        try:
            found = os.stat(folder)
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            refuse(error)
            continue
        if (found.st_dev, found.st_ino) in seen:
            continue
        seen.add((found.st_dev, found.st_ino))
        inner = {entry.name for entry in entries if _is(entry.is_dir)}
        yield folder, [entry for entry in entries if entry.name not in inner]
        entered = [x.path for x in entries if x.name in inner and enter(x.name)]
        waiting += reversed(entered)


def find_images(root: Path, refuse: Callable[[OSError], object]) -> tuple[list[Path], Counter[str]]:
    """Returns the image files below a folder, and how many other files of each kind there are.

    Hidden files and folders are skipped; for `refuse` see `walk_folders`.
    """
    images, left_out = [], Counter()

    def enter(name: str) -> bool:
        hidden = name.startswith(".")
        left_out.update(["hidden folder"] if hidden else [])
        return not hidden

    for folder, files in walk_folders(root, refuse, enter):
        for file in files:
            if kind := _kind(file):
                left_out[kind] += 1
            else:
                images.append(Path(folder, file.name))
    return images, left_out


def summary_of_others(left_out: Counter[str]) -> str:
    """Describes for a message how many files were skipped, and the six commonest kinds."""
    common = sorted(left_out.items(), key=lambda kind: (-kind[1], kind[0]))
    parts = [f"{count:,} {printable(kind)[:20]}" for kind, count in common[:6]]
    rest = sum(count for _, count in common[6:])
    parts += [f"{rest:,} others"] if rest else []
    return f"{left_out.total():,} that are no image files: {', '.join(parts)}"


def _kind(file: os.DirEntry) -> str:
    """Returns why a file is no image; empty for an image."""
    if file.name.startswith("."):
        return "hidden"
    if not is_image(file.name):
        return os.path.splitext(file.name)[1].lower() or "without a suffix"
    # A broken link counts as an image, to be reported; reading a pipe could block forever.
    broken = file.is_symlink() and not os.path.exists(file.path)
    return "" if broken or _is(file.is_file) else "special"


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError:  # A link to itself.
        return False
