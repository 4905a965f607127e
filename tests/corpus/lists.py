"""Faults of the list of labels: damaged, edited, or another file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cli as main
import layouts

from corpus import Case
from corpus.writing import LIST, PARTITIONS, QUOTA_PAGE, small


def edit(path: Path, old: str, new: str, count: int = 1) -> None:
    """Replaces text that must occur in a file."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def lines_of(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Rewrites a list through a function of its lines."""
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))


def without_row(path: Path, number: int) -> None:
    """Removes one line."""
    lines_of(path, lambda lines: lines[: number - 1] + lines[number:])


def label(name: str, inject: Callable[[Path], object], line: str) -> Case:
    """A fault of the list of labels, or a mismatch with other files."""
    return Case(f"labels: {name}", small(inject), main.train, line)


CASES = (
    label(
        "a web page",
        lambda root: (root / LIST).write_text("\ufeff\n" + QUOTA_PAGE),
        "{root}/celeba/Anno/list_attr_celeba.txt: is a web page, not a list; Google Drive "
        "sends such a page when its download quota is used up: download the file again, later "
        "or from another mirror",
    ),
    label(
        "empty",
        lambda root: (root / LIST).write_text(""),
        "{root}/celeba/Anno/list_attr_celeba.txt: is empty, expected names such as "
        "5_o_Clock_Shadow: download the file again",
    ),
    label(
        "binary",
        lambda root: (root / LIST).write_bytes(b"\x89\xff\xfe\x00" * 50),
        "{root}/celeba/Anno/list_attr_celeba.txt: cannot be read as UTF-8 text ('utf-8' codec "
        "can't decode byte 0x89 in position 0: invalid start byte): save it as UTF-8",
    ),
    label(
        "saved as UTF-16",
        lambda root: (root / LIST).write_bytes(layouts.label_text().encode("utf-16")),
        "{root}/celeba/Anno/list_attr_celeba.txt: cannot be read as UTF-8 text ('utf-8' codec "
        "can't decode byte 0xff in position 0: invalid start byte): save it as UTF-8",
    ),
    label(
        "too few rows",
        lambda root: without_row(root / LIST, 7),
        "{root}/celeba/Anno/list_attr_celeba.txt: line 1 announces 16 images, but 15 rows "
        "follow; the file is cut short or edited: download it again, or correct line 1",
    ),
    label(
        "a count of 5000 digits",
        lambda root: edit(root / LIST, "16", "1" * 5000),
        "{root}/celeba/Anno/list_attr_celeba.txt: the header with the attributes' names is "
        "missing, found '1111111111111111111111111111111111111111...' in line 1, expected names "
        "such as 5_o_Clock_Shadow: put the header back",
    ),
    label(
        "no header",
        lambda root: without_row(root / LIST, 2),
        "{root}/celeba/Anno/list_attr_celeba.txt: the header with the attributes' names is "
        "missing, found '000001.jpg' in line 2, expected names such as 5_o_Clock_Shadow: put "
        "the header back",
    ),
    label(
        "a header of numbers",
        lambda root: edit(root / LIST, "Bald Eyeglasses Male Smiling Young", "0 1 2 3 4"),
        "{root}/celeba/Anno/list_attr_celeba.txt: the header with the attributes' names is "
        "missing, found '0' in line 2, expected names such as 5_o_Clock_Shadow: put the header "
        "back",
    ),
    label(
        "an attribute twice",
        lambda root: edit(root / LIST, "Smiling Young", "Male Young"),
        "{root}/celeba/Anno/list_attr_celeba.txt: line 2 names the attribute Male twice, "
        "expected every name once: correct the header",
    ),
    label(
        "only a header",
        lambda root: (root / LIST).write_text("0\nBald\n"),
        "{root}/celeba/Anno/list_attr_celeba.txt: lists no images: download the file again",
    ),
    label(
        "a column too few",
        lambda root: lines_of(
            root / LIST, lambda rows: [*rows[:6], rows[6][:-3] + "\n", *rows[7:]]
        ),
        "{root}/celeba/Anno/list_attr_celeba.txt: line 7 has 5 columns, expected 6 (the "
        "image's name and 5 labels): correct the line",
    ),
    label(
        "a column too many",
        lambda root: edit(root / LIST, "000003.jpg", "000003.jpg 1"),
        "{root}/celeba/Anno/list_attr_celeba.txt: line 5 has 7 columns, expected 6 (the "
        "image's name and 5 labels): correct the line",
    ),
    label(
        "a value that is no label",
        lambda root: lines_of(
            root / LIST, lambda rows: [*rows[:6], rows[6][:-3] + " 2\n", *rows[7:]]
        ),
        "{root}/celeba/Anno/list_attr_celeba.txt: line 7, column Young: found '2', expected "
        "-1, 0, 1 or nothing: correct the line",
    ),
    label(
        "an image twice",
        lambda root: edit(root / LIST, "000004.jpg", "000003.jpg"),
        "{root}/celeba/Anno/list_attr_celeba.txt: lists 000003.jpg twice, expected every image "
        "once: remove a row",
    ),
    label(
        "a name that leads elsewhere",
        lambda root: (
            edit(root / LIST, "000004.jpg", "../../../escaped.jpg"),
            edit(root / PARTITIONS, "000004.jpg", "../../../escaped.jpg"),
        ),
        "{root}/celeba/Img/img_align_celeba.zip: 1 of the 16 listed images are not in it, the "
        "first is ../../../escaped.jpg: add the images, or take the rows off the lists",
    ),
)
