"""Faults of the list of partitions and of lists as .csv; harmless changes by other programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cli as main
import layouts

from corpus import Case, Place
from corpus.lists import edit, lines_of
from corpus.writing import (
    PARTITIONS,
    QUOTA_PAGE,
    debug,
    encoded,
    label_text,
    measured,
    picture,
    small,
    write_faces,
)

NAMES = tuple(f"{number}.png" for number in range(1, 9))
FACES = {name: encoded(picture()) for name in NAMES}


def kaggle(old: str, new: str, file: str = "list_attr_celeba.csv") -> Callable[[Place], Sequence]:
    """Training on Kaggle's layout after an edit of a list; an empty `old` replaces all of it."""

    def prepare(place: Place) -> Sequence[object]:
        path = layouts.write_kaggle(place.root / "celeba") / file
        if old:
            edit(path, old, new, -1)
        else:
            path.write_text(new)
        return debug("{root}/celeba")

    return prepare


def reads(change: Callable[[str], str]) -> Callable[[Place], Sequence]:
    """Evaluation with a list of labels in another notation."""
    return measured(lambda root: write_faces(root, FACES, change(label_text(NAMES))))


def partition(name: str, inject: Callable[[Path], object], line: str) -> Case:
    """A fault of the list of partitions."""
    return Case(f"partitions: {name}", small(inject), main.train, line)


def split(name: str, text: tuple[str, str], line: str) -> Case:
    """A partition without images."""

    def inject(root: Path) -> None:
        edit(root / PARTITIONS, *text, -1)

    return partition(name, inject, line)


CASES = (
    partition(
        "absent",
        lambda root: (root / PARTITIONS).unlink(),
        "{root}/celeba/Eval/list_eval_partition.txt: not found; expected the list that puts "
        "every image into train (0), validation (1) or test (2): download "
        "list_eval_partition.txt to there",
    ),
    partition(
        "a web page",
        lambda root: (root / PARTITIONS).write_text(QUOTA_PAGE.lower()),
        "{root}/celeba/Eval/list_eval_partition.txt: is a web page, not a list; Google Drive "
        "sends such a page when its download quota is used up: download the file again, later "
        "or from another mirror",
    ),
    partition(
        "empty",
        lambda root: (root / PARTITIONS).write_text(""),
        "{root}/celeba/Eval/list_eval_partition.txt: lists no images: download the file again",
    ),
    partition(
        "images without one",
        lambda root: lines_of(root / PARTITIONS, lambda rows: rows[:10]),
        "{root}/celeba/Eval/list_eval_partition.txt: 6 of the 16 images of "
        "Anno/list_attr_celeba.txt have no partition, the first is 000011.jpg: add "
        "their rows",
    ),
    partition(
        "a value of no partition",
        lambda root: edit(root / PARTITIONS, "000003.jpg 1", "000003.jpg 3"),
        "{root}/celeba/Eval/list_eval_partition.txt: line 3 is '000003.jpg 3', expected an "
        "image's name and its partition, 0 (train), 1 (validation) or 2 (test): correct the "
        "line",
    ),
    partition(
        "a row without a value",
        lambda root: edit(root / PARTITIONS, "000003.jpg 1", "000003.jpg"),
        "{root}/celeba/Eval/list_eval_partition.txt: line 3 is '000003.jpg', expected an "
        "image's name and its partition, 0 (train), 1 (validation) or 2 (test): correct the "
        "line",
    ),
    partition(
        "an image twice",
        lambda root: edit(root / PARTITIONS, "000004.jpg", "000003.jpg"),
        "{root}/celeba/Eval/list_eval_partition.txt: lists 000003.jpg twice, expected every "
        "image once: remove a row",
    ),
    split(
        "nobody to train on",
        (" 0\n", " 1\n"),
        "{root}/celeba: its train split has no images, it holds train 0, validation 12, test "
        "4: choose another split, or correct list_eval_partition",
    ),
    split(
        "nobody to validate",
        (" 1\n", " 0\n"),
        "{root}/celeba: its validation split has no images, it holds train 12, validation 0, "
        "test 4: choose another split, or correct list_eval_partition",
    ),
    Case(
        "csv: a web page",
        kaggle("", QUOTA_PAGE),
        main.train,
        "{root}/celeba/list_attr_celeba.csv: is a web page, not a list; Google Drive sends "
        "such a page when its download quota is used up: download the file again, later or "
        "from another mirror",
    ),
    Case(
        "csv: partitions are a web page",
        kaggle("", QUOTA_PAGE, "list_eval_partition.csv"),
        main.train,
        "{root}/celeba/list_eval_partition.csv: is a web page, not a list; Google Drive sends "
        "such a page when its download quota is used up: download the file again, later or "
        "from another mirror",
    ),
    Case(
        "csv: no header",
        kaggle("image_id,Bald,Eyeglasses,Male,Smiling,Young\n", ""),
        main.train,
        "{root}/celeba/list_attr_celeba.csv: the header with the attributes' names is missing, "
        "found '000001.jpg' in line 1, expected names such as 5_o_Clock_Shadow: put the header "
        "back",
    ),
    Case(
        "csv: a column without a name",
        kaggle("image_id,Bald", ",image_id,Bald"),
        main.train,
        "{root}/celeba/list_attr_celeba.csv: line 2 has 6 columns, expected 7 (the image's name "
        "and 6 labels): correct the line",
    ),
    Case(
        "csv: a column too many",
        kaggle("000002.jpg,", "000002.jpg,yes,"),
        main.train,
        "{root}/celeba/list_attr_celeba.csv: line 3 has 7 columns, expected 6 (the image's "
        "name and 5 labels): correct the line",
    ),
    Case(
        "csv: semicolons",
        kaggle(",", ";"),
        main.train,
        "{root}/celeba/list_attr_celeba.csv: the header with the attributes' names is missing, "
        "found semicolons between the cells of line 1, where commas are expected, expected "
        "names such as 5_o_Clock_Shadow: save the file with commas",
    ),
    Case(
        "csv: a line break in a name",
        kaggle("000002.jpg,", '"000002.jpg\n",'),
        main.train,
        "{root}/celeba/list_attr_celeba.csv: cannot be read (line 3 ends within quotes): correct "
        "it",
    ),
    Case(
        "csv: an attribute without a name",
        kaggle("Male,Smiling", "Male,"),
        main.train,
        "{root}/celeba/list_attr_celeba.csv: line 1: column 5 has no name, expected an "
        "attribute's: name it, or remove the column",
    ),
    Case(
        "partitions: images of another name",
        small(lambda root: edit(root / PARTITIONS, "000011.jpg", "00011.jpg")),
        main.train,
        "{root}/celeba/Eval/list_eval_partition.txt: 1 of the 16 images of "
        "Anno/list_attr_celeba.txt have no partition, the first is 000011.jpg (did you mean "
        "00011.jpg?): add their rows",
    ),
    Case("no count", reads(lambda text: text.split("\n", 1)[1]), main.evaluate, "", 0),
    Case(
        "no count, and a name for the images' column",
        reads(lambda text: "image_id " + text.split("\n", 1)[1]),
        main.evaluate,
        "",
        0,
    ),
    Case("a byte order mark", reads(lambda text: "\ufeff" + text), main.evaluate, "", 0),
    Case("CRLF", reads(lambda text: text.replace("\n", "\r\n")), main.evaluate, "", 0),
    Case(
        "labels that are NaN",
        reads(lambda text: text.replace(" 1", " NaN", 9)),
        main.evaluate,
        "",
        0,
    ),
    Case(
        "tabs and blank lines",
        reads(lambda text: text.replace(" ", "\t") + "\n\n"),
        main.evaluate,
        "",
        0,
    ),
    Case(
        "no split to evaluate",
        measured(
            lambda root: (layouts.write_official(root), edit(root / PARTITIONS, " 2\n", " 0\n", -1))
        ),
        main.evaluate,
        "{root}/celeba: its test split has no images, it holds train 12, validation 4, test 0: "
        "choose another split, or correct list_eval_partition",
    ),
    Case(
        "evaluate: half a split",
        measured(lambda root: write_faces(root, FACES), "--split", "train+validation"),
        main.evaluate,
        "{root}/celeba: its train split has no images, it holds train 0, validation 0, test 8: "
        "choose another split, or correct list_eval_partition",
    ),
    Case(
        "evaluate: unknown split",
        measured(lambda root: write_faces(root, FACES), "--split", "tset"),
        main.evaluate,
        "--split: expected one of train, validation, test, train+validation, found 'tset'; did you "
        "mean test? (python evaluate.py --help lists all)",
    ),
    Case(
        "other attributes",
        measured(layouts.write_official),
        main.evaluate,
        "{root}/celeba: lacks 35 of the network's 40 attributes, first 5_o_Clock_Shadow; "
        "evaluate on data with the attributes it was trained on",
    ),
)
