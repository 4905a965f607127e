"""Faults of parquet files: not parquet at all, other columns, wrong values, a missing split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cli as main
import layouts

from corpus import Case, Place
from corpus.writing import QUOTA_PAGE, debug, encoded, measured, picture
from iamt_jax.attributes import CELEBA_ATTRIBUTES

FACE = encoded(picture())
TRAIN = "data/train-00001-of-00002-52abe1f1b4e0a8c3.parquet"
FILE = f"{{root}}/celeba/{TRAIN}"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:52abe1\nsize 398000000\n"


def changed(**columns: Callable[[list], list] | None) -> Callable[[Path], None]:
    """Changes columns of a file; None removes one."""

    def inject(root: Path) -> None:
        from pyarrow import parquet

        table = parquet.ParquetFile(root / TRAIN).read().to_pydict()
        for name, change in columns.items():
            column = table.pop(name)
            table |= {name: change(column)} if change else {}
        layouts.write_table(root / TRAIN, table)

    return inject


def only_train(root: Path) -> None:
    """Removes the files of the other splits."""
    for path in (root / "data").iterdir():
        if not path.name.startswith("train"):
            path.unlink()


def null_image(root: Path) -> None:
    """Writes two images for testing, one of them null, with the attributes of the finished run."""
    labels = {name: [i % 2, (i + 1) % 2] for i, name in enumerate(CELEBA_ATTRIBUTES)}
    root.mkdir()
    layouts.write_table(root / "test.parquet", {"image": [FACE, None], **labels})


def two_null_images(root: Path) -> None:
    """Writes a second such file."""
    null_image(root)
    (root / "test-2.parquet").write_bytes((root / "test.parquet").read_bytes())


def parquet(name: str, inject: Callable[[Path], object], line: str) -> Case:
    """A fault that is found before training starts."""

    def prepare(place: Place) -> Sequence[object]:
        inject(layouts.write_parquet(place.root / "celeba"))
        return debug("{root}/celeba")

    return Case(f"parquet: {name}", prepare, main.train, line)


CASES = (
    parquet(
        "a pointer of Git LFS",
        lambda root: (root / TRAIN).write_text(POINTER),
        f"{FILE}: is a pointer of Git LFS, not a parquet file; the repository was cloned without "
        "its large files: run `git lfs pull` in it, or download the file by itself",
    ),
    parquet(
        "a web page",
        lambda root: (root / TRAIN).write_text(QUOTA_PAGE),
        f"{FILE}: is a web page, not a parquet file; download the file itself, by a link with "
        "resolve/ in place of blob/",
    ),
    parquet(
        "interrupted download",
        lambda root: (root / TRAIN).write_bytes((root / TRAIN).read_bytes()[:-100]),
        f"{FILE}: cannot be read as a parquet file (ArrowInvalid: Parquet magic bytes not found in "
        "footer. Either the file is corrupted or this is not a parquet file.); it is cut short or "
        "damaged: download it again",
    ),
    parquet(
        "no split in a name",
        lambda root: (root / TRAIN).rename(root / "data/0001.parquet"),
        "{root}/celeba/data/0001.parquet: neither its name nor its folder says which split it "
        "holds; expected train, validation (val, valid) or test: rename it, such as "
        "train-0001.parquet, or remove it",
    ),
    parquet(
        "only training images",
        only_train,
        "{root}/celeba/data: its validation split has no images, it holds train 8: choose another "
        "split, or add its files, such as validation-00000-of-00001.parquet",
    ),
    parquet(
        "no images",
        changed(image=None),
        f"{FILE}: has no column of images, found celeb_id, Bald, Eyeglasses, Male, Smiling, Young, "
        "...; expected one, called image, img or jpg, of encoded bytes or of structs with bytes "
        "and path: rename or remove columns, or give another data set",
    ),
    parquet(
        "names instead of images",
        changed(image=lambda column: ["a.jpg" for _ in column]),
        f"{FILE}: has no column of images, found image of string; expected one, called image, img "
        "or jpg, of encoded bytes or of structs with bytes and path: rename or remove columns, or "
        "give another data set",
    ),
    parquet(
        "an attribute less in a file",
        changed(Smiling=None),
        f"{FILE}: its columns of labels differ from those of {FILE.replace('00001-', '00000-')}, "
        "Smiling is in one of them only; expected the same in every file: download all files from "
        "the same data set",
    ),
    parquet(
        "a value that is no label",
        changed(Male=lambda column: [0, 1, 5, 0]),
        f"{FILE}: row 2, column Male: found 5, expected -1, 0, 1 or null: correct the value, or "
        "remove the column",
    ),
    parquet(
        "an empty file",
        lambda root: (root / TRAIN).write_bytes(b""),
        f"{FILE}: cannot be read as a parquet file (ArrowInvalid: Parquet file size is 0 bytes); "
        "it is cut short or damaged: download it again",
    ),
    Case(
        "parquet: a null image",
        measured(null_image),
        main.evaluate,
        "{root}/celeba/test.parquet: row 1: its image is null, expected encoded bytes in image: "
        "embed the images in the file, or remove the row",
    ),
    Case(
        "parquet: null images that may be left out",
        measured(two_null_images, "--data.damaged-limit", 2),
        main.evaluate,
        "",
        0,
        (
            "{root}/celeba/test-2.parquet: row 1: its image is null, expected encoded bytes in "
            "image: embed the images in the file, or remove the row",
            "{root}/celeba/test.parquet: row 1: its image is null, expected encoded bytes in "
            "image: embed the images in the file, or remove the row",
            "left out 2 damaged of 4 images",
        ),
    ),
)
