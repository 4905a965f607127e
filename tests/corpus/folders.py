"""Faults of folders: occupied by a file, absent, or without the expected content."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cli as main

from corpus import Case, Place, evaluated, plain, trained

LONG = "x" * 300
"""A name that no file system accepts."""


def a_file_for_a_workdir(place: Place) -> Sequence[object]:
    """A file in place of the workdir."""
    place.workdir.write_text("mine")
    return "--preset", "debug", "--workdir", "{workdir}"


def below_a_file(place: Place) -> Sequence[object]:
    """A workdir that cannot be created, even by root."""
    place.workdir.write_text("mine")
    return "--preset", "debug", "--workdir", "{workdir}/below"


def evaluated_file(place: Place) -> Sequence[object]:
    """A file in place of the trained workdir."""
    place.workdir.write_text("mine")
    return "--workdir", "{workdir}"


def out_is_a_file(place: Place) -> Sequence[object]:
    """A file in place of the folder of results."""
    (place.root / "E").write_text("mine")
    return "--workdir", "{finished}", "--out", "{root}/E"


def out_below_a_file(place: Place) -> Sequence[object]:
    """A folder of results that cannot be created."""
    (place.root / "F").write_text("mine")
    return *evaluated()(place), "--out", "{root}/F/E"


def page_is_a_file(place: Place) -> Sequence[object]:
    """A file in place of the folder of the report."""
    (place.root / "E").mkdir()
    (place.root / "E/report").write_text("mine")
    return *evaluated()(place), "--report"


def data_is_a_file(place: Place) -> Sequence[object]:
    """The archive given instead of the folder that holds it."""
    (place.root / "celeba.zip").write_bytes(b"PK")
    return trained("--data.root", "{root}/celeba.zip")(place)


def prepared(file: str) -> Callable[[Place], Sequence[object]]:
    """A folder of tensorflow-datasets with `file` as its data."""

    def prepare(place: Place) -> Sequence[object]:
        folder = place.root / "celeb_a/2.1.0"
        folder.mkdir(parents=True)
        (folder / "dataset_info.json").write_text("{}")
        (folder / file).write_bytes(b"")
        return trained("--data.root", "{root}")(place)

    return prepare


CASES = (
    Case(
        "train: a home of nobody",
        trained("--data.root", "~nosuchuser/x"),
        main.train,
        "{root}/~nosuchuser/x: does not exist; expected a folder with CelebA: give another root",
    ),
    Case(
        "train: a workdir of a long name",
        plain("--preset", "debug", "--workdir", f"{{root}}/{LONG}"),
        main.train,
        f"{{root}}/{LONG}/checkpoints: cannot be used (File name too long); name another",
    ),
    Case(
        "evaluate: a workdir of a long name",
        plain("--workdir", f"{{root}}/{LONG}"),
        main.evaluate,
        f"{{root}}/{LONG}/evaluation: cannot be used (File name too long); name another",
    ),
    Case(
        "evaluate: out of a long name",
        evaluated("--out", f"{{root}}/{LONG}"),
        main.evaluate,
        f"{{root}}/{LONG}: cannot be used (File name too long); name another",
    ),
    Case(
        "calibrate: a workdir of a long name",
        plain("--workdir", f"{{root}}/{LONG}"),
        main.calibrate,
        f"{{root}}/{LONG}: cannot be used (File name too long); name another",
    ),
    Case(
        "train: data is a file",
        data_is_a_file,
        main.train,
        "{root}/celeba.zip: is not a folder; expected a folder with CelebA: give another root",
    ),
    Case(
        "train: TFRecord",
        prepared("celeb_a-train.tfrecord-00000-of-00001"),
        main.train,
        "{root}/celeb_a/2.1.0: is in TFRecord format, expected array_record: convert it in "
        "place with `pip install tensorflow apache-beam mlcroissant && tfds convert_format "
        "--dataset_version_dir={root}/celeb_a/2.1.0 --out_file_format=array_record`",
    ),
    Case(
        "train: no records",
        prepared("features.json"),
        main.train,
        "{root}/celeb_a/2.1.0: holds no *.array_record* file; expected celeb_a prepared by "
        "tensorflow-datasets with file_format='array_record': prepare it again",
    ),
    Case(
        "train: workdir is a file",
        a_file_for_a_workdir,
        main.train,
        "--workdir {workdir}: cannot be written (File exists); name a folder of yours",
    ),
    Case(
        "train: workdir below a file",
        below_a_file,
        main.train,
        "--workdir {workdir}/below: cannot be written (Not a directory); name a folder of yours",
    ),
    Case(
        "train: photographs without a folder",
        trained("--preset", "small"),
        main.train,
        "--data.root: missing; give the folder of a data set in CelebA's layout, or "
        "--data.name celeb_a to download CelebA, or --preset faces for synthetic faces",
    ),
    Case(
        "train: absent data",
        trained("--data.root", "{root}/absent"),
        main.train,
        "{root}/absent: does not exist; expected a folder with CelebA: give another root",
    ),
    Case(
        "train: a folder without data",
        trained("--data.root", "{root}"),
        main.train,
        "{root}: holds no data that we know; looked, there and in a folder called CelebA, for "
        "Anno/list_attr_celeba.txt, list_attr_celeba.txt, list_attr_celeba.csv, for "
        "tensorflow-datasets' dataset_info.json and for Hugging Face's *.parquet: give the folder "
        "that holds one of these",
    ),
    Case(
        "evaluate: workdir is a file",
        evaluated_file,
        main.evaluate,
        "--workdir {workdir}: is a file; name the folder that training wrote",
    ),
    Case(
        "evaluate: before training",
        trained(),
        main.evaluate,
        "--workdir {workdir}: holds no run.json; train first, with python train.py --workdir "
        "{workdir}",
    ),
    Case(
        "evaluate: absent data",
        evaluated("--data.root", "{root}/absent"),
        main.evaluate,
        "{root}/absent: does not exist; expected a folder with CelebA: give another root",
    ),
    Case(
        "evaluate: out is a file",
        out_is_a_file,
        main.evaluate,
        "--out {root}/E: is a file; name a folder",
    ),
    Case(
        "evaluate: out below a file",
        out_below_a_file,
        main.evaluate,
        "--out {root}/F/E: cannot be written (Not a directory); name a folder of yours",
    ),
    Case(
        "evaluate: the report's folder is a file",
        page_is_a_file,
        main.evaluate,
        "{root}/E/report: is a file; name a folder",
    ),
    Case(
        "calibrate: before training",
        trained(),
        main.calibrate,
        "--workdir {workdir}: holds no run.json; train first, with python train.py --workdir "
        "{workdir}",
    ),
    Case(
        "calibrate: workdir is a file",
        evaluated_file,
        main.calibrate,
        "--workdir {workdir}: is a file; name the folder that training wrote",
    ),
)
