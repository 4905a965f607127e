"""Faults and harmless oddities of a user's own folder of images and csv."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cli as main

from corpus import QUICKLY, Case, Place, trained
from corpus.writing import QUOTA_PAGE, encoded, picture
from iamt_jax.attributes import CELEBA_ATTRIBUTES

PNG = encoded(picture())
NAMES = tuple(f"{number}.png" for number in range(20))
ROWS = [f"{name},{i % 2},{i // 2 % 2}\n" for i, name in enumerate(NAMES)]
TEXT = "image,striped,round\n" + "".join(ROWS)
CSV = "{root}/own/labels.csv"
FOLDER = ("--preset", "debug", "--data.name", "folder", "--data.root", "{root}/own")
FORTY = f"image,split,{','.join(CELEBA_ATTRIBUTES)}\na.png,train{',1' * 40}\n"
"""A csv of one image with all attributes of the finished run."""
SAME = (
    "{{root}}/own/labels.csv: {} of the {} attributes have one and the same label, or none, in all "
    "training images, first {}: nothing can be learnt of them"
)
"""The warning about it, because the labels of one image do not vary."""


def write(root: Path, text: str | bytes, images: Mapping[str, bytes]) -> None:
    """Writes a folder of images and a csv."""
    for name, data in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (root / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())


def own(
    text: str | bytes = TEXT,
    inject: Callable[[Path], object] = lambda root: None,
    *arguments: object,
) -> Callable[[Place], Sequence[object]]:
    """Training on 20 images and a csv of that text, after `inject(their folder)`."""

    def prepare(place: Place) -> Sequence[object]:
        write(place.root / "own", text, {f"images/{name}": PNG for name in NAMES})
        inject(place.root / "own")
        return *FOLDER, "--workdir", "{workdir}", *arguments

    return prepare


def looked_at(text: str | bytes, images: Mapping[str, bytes]) -> Callable[[Place], Sequence]:
    """Evaluation of the finished run, of faces, on a folder and a csv with its attributes."""

    def prepare(place: Place) -> Sequence[object]:
        write(place.root / "own", text, images)
        other = ("--data.root", "{root}/own", "--data.labels", "labels.csv")
        return "--workdir", "{finished}", *QUICKLY, "--split", "train", *other

    return prepare


def fault(name: str, text: str | bytes, line: str) -> Case:
    """A fault of the csv."""
    return Case(f"own: {name}", own(text), main.train, line)


def amiss(name: str, inject: Callable[[Path], object], line: str, *arguments: object) -> Case:
    """A fault of the folder, or of the flags."""
    return Case(f"own: {name}", own(TEXT, inject, *arguments), main.train, line)


def harmless(name: str, text: str | bytes, *images: str) -> Case:
    """A harmless oddity."""
    read = looked_at(text, dict.fromkeys(images, PNG))
    same = SAME.format(40, 40, CELEBA_ATTRIBUTES[0])
    return Case(f"own: {name}", read, main.evaluate, "", 0, (same,))


def renamed(name: str, was: str, file: str) -> Case:
    """An image that differs in case or suffix from its name in the csv."""
    told = (
        "{root}/own: 1 of the 1 listed images have another suffix or case there and are read "
        f"nevertheless, the first is {file} for {was}"
    )
    read = looked_at(FORTY.replace("a.png", was), {file: PNG})
    same = SAME.format(40, 40, CELEBA_ATTRIBUTES[0])
    return Case(f"own: {name}", read, main.evaluate, "", 0, (told, same))


def missing(name: str, was: str, hint: str = "", count: int = 1) -> Case:
    """Images whose names in the csv match no file."""
    line = (
        f"{{root}}/own/images: {count} of the 20 images that labels.csv names are not in it, the "
        f"first is {was}{hint}: correct the csv, or add the images"
    )
    return fault(name, TEXT.replace("7.png", was, count), line)


CASES = (
    Case(
        "own: no root",
        trained("--data.name", "folder"),
        main.train,
        "--data.root: missing; give the folder that holds your images and their csv "
        "(docs/your_own_data.md)",
    ),
    Case(
        "own: an absent root",
        trained("--data.name", "folder", "--data.root", "{root}/absent"),
        main.train,
        "{root}/absent: does not exist; expected a folder of images and a csv: give another",
    ),
    Case(
        "own: labels for something else",
        trained("--data.labels", "labels.csv"),
        main.train,
        "--data.labels labels.csv: must be left out without --data.name folder",
    ),
    amiss(
        "the name was forgotten",
        lambda root: None,
        "{root}/own: holds no data that we know; looked, there and in a folder called CelebA, for "
        "Anno/list_attr_celeba.txt, list_attr_celeba.txt, list_attr_celeba.csv, for "
        "tensorflow-datasets' dataset_info.json and for Hugging Face's *.parquet: give the folder "
        "that holds one of these, or --data.name folder for images and a csv of your own",
        "--data.name",
        "celeba",
    ),
    amiss(
        "no csv",
        lambda root: (root / "labels.csv").unlink(),
        "{root}/own: holds no csv; expected one with a first line such as image,striped,round and "
        "a line an image (docs/your_own_data.md): add it, or name it by --data.labels",
    ),
    amiss(
        "two csv files",
        lambda root: (root / "about.CSV").write_text("x"),
        "{root}/own: holds 2 csv files (about.CSV, labels.csv, ...), expected one: name the one "
        "with the labels by --data.labels",
    ),
    amiss(
        "labels that are not there",
        lambda root: None,
        "--data.labels own/labels.csv: {root}/own/own/labels.csv is not there; give the csv's path "
        "seen from --data.root, or its whole path",
        "--data.labels",
        "own/labels.csv",
    ),
    fault(
        "a web page",
        QUOTA_PAGE,
        f"{CSV}: is a web page, not a list; Google Drive sends such a page when its download quota "
        "is used up: download the file again, later or from another mirror",
    ),
    fault(
        "saved as UTF-16",
        TEXT.encode("utf-16"),
        f"{CSV}: cannot be read as UTF-8 text ('utf-8' codec can't decode byte 0xff in position 0: "
        "invalid start byte): save it as UTF-8",
    ),
    fault(
        "a quote that is never closed",
        TEXT.replace("7.png", '"7.png'),
        f"{CSV}: cannot be read (line 9 ends within quotes): correct it",
    ),
    fault(
        "empty",
        "",
        f"{CSV}: is empty, expected a first line such as image,striped,round: add a line an image",
    ),
    fault(
        "no header",
        "".join(ROWS),
        f"{CSV}: the header with the attributes' names is missing, found '0.png' in line 1, "
        "expected a first line such as image,striped,round: put the header back",
    ),
    fault(
        "a column too many in the header",
        TEXT.replace("image", ",image"),
        f"{CSV}: line 2 has 3 columns, expected 4 (the image's name and 3 labels): correct the "
        "line",
    ),
    fault(
        "semicolons",
        TEXT.replace(",", ";"),
        f"{CSV}: the header with the attributes' names is missing, found semicolons between the "
        "cells of line 1, where commas are expected, expected a first line such as "
        "image,striped,round: save the file with commas",
    ),
    fault(
        "tabs",
        TEXT.replace(",", "\t"),
        f"{CSV}: the header with the attributes' names is missing, found tabs between the cells of "
        "line 1, where commas are expected, expected a first line such as image,striped,round: "
        "save the file with commas",
    ),
    fault(
        "nothing but a split",
        "image,split\n0.png,train\n",
        f"{CSV}: the header with the attributes' names is missing, found none, expected a first "
        "line such as image,striped,round: put the header back",
    ),
    fault(
        "an attribute twice",
        TEXT.replace("round", "striped"),
        f"{CSV}: line 1 names the attribute striped twice, expected every name once: correct the "
        "header",
    ),
    fault(
        "no image",
        "image,striped\n\n",
        f"{CSV}: lists no images: add a line an image",
    ),
    fault(
        "a column too many",
        TEXT.replace("3.png,", "3.png,1,"),
        f"{CSV}: line 5 has 4 columns, expected 3 (the image's name and 2 labels): correct the "
        "line",
    ),
    fault(
        "a column too few beside a split",
        TEXT.replace("round", "split").replace(",0\n", ",train\n").replace("3.png,1,1", "3.png,1"),
        f"{CSV}: line 5 has 2 columns, expected 3 (the image's name, its split and 1 labels): "
        "correct the line",
    ),
    fault(
        "a line without a name",
        TEXT + ",,\n",
        f"{CSV}: line 22 names no image: correct the line",
    ),
    fault(
        "a word for a label",
        TEXT.replace("3.png,1", "3.png,yes"),
        f"{CSV}: line 5, column striped: found 'yes', expected -1, 0, 1 or nothing: correct the "
        "line",
    ),
    fault(
        "a split that is none",
        TEXT.replace("round", "split").replace(",0\n", ",train\n").replace(",1\n", ",dev\n"),
        f"{CSV}: line 4, column split: found 'dev', expected train, validation or test: correct "
        "the line",
    ),
    Case(
        "own: no image to validate on",
        own(TEXT.replace("round", "Split").replace(",1\n", ",2\n")),
        main.train,
        "{root}/own: its validation split has no images, it holds train 10, validation 0, test 10: "
        "choose another split, or correct the column split of labels.csv",
    ),
    fault(
        "too few images for three splits",
        "image,striped\n1.png,1\n2.png,0\n",
        "{root}/own: its validation split has no images, it holds train 2, validation 0, test 0: "
        "choose another split, or add images, or a column split to labels.csv",
    ),
    fault(
        "an image twice",
        TEXT.replace("7.png", "3.png", 1),
        f"{CSV}: lists 3.png twice, expected every image once: remove a row",
    ),
    fault(
        "an image in two ways",
        TEXT.replace("7.png", "./3.png", 1),
        f"{CSV}: names an image in two ways, such as a.png and ./a.png; expected every image once: "
        "remove a row",
    ),
    fault(
        "an absolute path",
        TEXT.replace("7.png", "/etc/passwd", 1),
        f"{CSV}: names /etc/passwd, expected paths below {{root}}/own, without ..: correct the csv",
    ),
    fault(
        "another system's absolute path",
        TEXT.replace("7.png", "C:\\7.png", 1),
        f"{CSV}: names C:\\7.png, expected paths below {{root}}/own, without ..: correct the csv",
    ),
    fault(
        "a path that climbs",
        TEXT.replace("7.png", "sub/../../../7.png", 1),
        f"{CSV}: names sub/../../../7.png, expected paths below {{root}}/own, without ..: correct "
        "the csv",
    ),
    missing("an image that is not there", "seven.png"),
    missing("two images that are not there", "seven.png", "", 2),
    missing("a typing error", "7_.png", " (did you mean 7.png?)"),
    Case(
        "own: a damaged image",
        looked_at(FORTY, {"a.png": b""}),
        main.evaluate,
        "{root}/own/a.png: cannot be decoded as an image (its 0 bytes are none of JPEG, PNG, WEBP, "
        "BMP, TIFF, GIF): restore it from the original, or take it off the lists",
        warnings=(SAME.format(40, 40, CELEBA_ATTRIBUTES[0]),),
    ),
    Case(
        "own: other attributes than the network's",
        looked_at("image,split,striped\na.png,train,1\n", {"a.png": PNG}),
        main.evaluate,
        "{root}/own: lacks 40 of the network's 40 attributes, first 5_o_Clock_Shadow; evaluate on "
        "data with the attributes it was trained on",
        warnings=(SAME.format(1, 1, "striped"),),
    ),
    harmless("a mark, CRLF, blank lines", "\ufeff" + FORTY.replace("\n", "\r\n\r\n"), "a.png"),
    harmless("blanks around cells", FORTY.replace(",", " , "), "a.png"),
    harmless("a quoted name with a comma", FORTY.replace("a.png", '"a, b.png"'), "images/a, b.png"),
    harmless("a subfolder", FORTY.replace("a.png", "x/y/a.png"), "x/y/a.png", "x/y/b.png"),
    harmless("a backslash", FORTY.replace("a.png", "x\\y\\a.png"), "x/y/a.png"),
    harmless("the names as pandas' index", FORTY.replace("image", "", 1), "a.png"),
    harmless(
        "pandas' index before the names",
        FORTY.replace("image", ",image", 1).replace("a.png", "0,a.png"),
        "a.png",
    ),
    harmless(
        "pandas' index, written twice",
        FORTY.replace("image", ",Unnamed: 0,image", 1).replace("a.png", "0,0,a.png"),
        "a.png",
    ),
    harmless(
        "accents in two parts", FORTY.replace("a.png", "\xe9/\xe9.png"), "e\u0301/e\u0301.png"
    ),
    harmless("accents in one part", FORTY.replace("a.png", "e\u0301.png"), "\xe9.png"),
    renamed("another case", "a.PNG", "a.png"),
    renamed("another suffix", "a.jpeg", "a.png"),
    renamed("no suffix", "a", "a.png"),
    renamed("a folder of another case", "Images\\a.png", "images/a.png"),
)
