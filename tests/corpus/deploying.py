"""Faults of export and predict: flags, models, images, and the location of the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cli as main

from corpus import Case, Place, plain
from corpus.writing import QUOTA_PAGE, encoded, picture

PNG = encoded(picture())
NO_IMAGE = (
    "{root}/images/0.png: cannot be decoded as an image (its 7 bytes are none of JPEG, PNG, WEBP, "
    "BMP, TIFF, GIF): restore it from the original, or take it off the lists"
)
OTHER = (
    "{root}/out.csv.partial: was begun with another model or other flags; finish that with its own "
    "command, delete the file, or give another --out"
)


def placed(files: dict[str, bytes | None], *arguments: object) -> Callable[[Place], Sequence]:
    """Files to write, None for a folder, and the arguments."""

    def prepare(place: Place) -> Sequence[object]:
        for name, content in files.items():
            path = place.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir() if content is None else path.write_bytes(content)
        return arguments

    return prepare


def exporting(name: str, line: str, *arguments: object, files: dict | None = None) -> Case:
    """A fault of `export`."""
    return Case(f"export: {name}", placed(files or {}, *arguments), main.export, line)


def predicting(name: str, line: str, *arguments: object, **others: object) -> Case:
    """A fault of `predict` on a folder of one image; later flags override these."""
    files = {"images/0.png": PNG} | others.pop("files", {})
    flags = ("{root}/images", "--model", "{finished}", "--out", "{root}/out.csv", *arguments)
    return Case(f"predict: {name}", placed(files, *flags), main.predict, line, **others)


CASES = (
    exporting("no workdir", "missing --workdir (python -m iamt_jax export --help lists all)"),
    exporting(
        "no run",
        "--workdir {workdir}: holds no run.json; train first, with python train.py --workdir "
        "{workdir}",
        *("--workdir", "{workdir}"),
    ),
    exporting(
        "unknown flag",
        "--treshold: no such flag; did you mean --thresholds? (python -m iamt_jax export --help "
        "lists all)",
        *("--workdir", "{finished}", "--treshold", "f1"),
    ),
    exporting(
        "thresholds of no kind",
        "--thresholds: expected one of half, accuracy, balanced, f1, found 'best'; choose one of "
        "them (python -m iamt_jax export --help lists all)",
        *("--workdir", "{finished}", "--thresholds", "best"),
    ),
    exporting(
        "a file of no kind",
        "--out model.pb: must end in .iamt or .onnx",
        *("--workdir", "{finished}", "--out", "model.pb"),
    ),
    exporting(
        "out is a folder",
        "--out {root}/model.iamt: is a folder; name a file such as model.iamt",
        *("--workdir", "{finished}", "--out", "{root}/model.iamt"),
        files={"model.iamt": None},
    ),
    exporting(
        "out lies nowhere",
        "--out {root}/absent/model.iamt: lies in a folder that does not exist; make it first",
        *("--workdir", "{finished}", "--out", "{root}/absent/model.iamt"),
    ),
    exporting(
        "no batch",
        "--batch-size 0: must be a number at least 1",
        *("--workdir", "{finished}", "--batch-size", 0),
    ),
    exporting(
        "data for nothing",
        "--data: only thresholds are chosen on data; give --thresholds accuracy, balanced or f1, "
        "or leave it out",
        *("--workdir", "{finished}", "--data.root", "{root}"),
    ),
    Case(
        "predict: no images",
        plain("--model", "{finished}", "--out", "out.csv"),
        main.predict,
        "IMAGES: none were given; name image files or folders",
    ),
    Case(
        "predict: no model",
        plain("images"),
        main.predict,
        "missing --model (python -m iamt_jax predict --help lists all)",
    ),
    predicting(
        "an unknown flag",
        "--treshold: no such flag; no flag is like it (python -m iamt_jax predict --help lists "
        "all)",
        *("--treshold", "0.5"),
    ),
    predicting(
        "a model that is not there",
        "--model {root}/absent: does not exist; name a workdir, or an exported file",
        *("--model", "{root}/absent"),
    ),
    predicting(
        "a folder that is no workdir",
        "--model {root}/images: holds no run.json; name a workdir, or an exported file",
        *("--model", "{root}/images"),
    ),
    predicting(
        "a web page for a model",
        "{root}/model.iamt: not an exported network of this version (File is not a zip file); "
        "write it anew with python -m iamt_jax export --workdir W --out {root}/model.iamt",
        *("--model", "{root}/model.iamt"),
        files={"model.iamt": QUOTA_PAGE.encode()},
    ),
    Case(
        "predict: decisions without a table",
        plain("images", "--workdir", "{finished}", "--decide"),
        main.predict,
        "--decide: is for the table; give --out",
    ),
    predicting("nothing to print", "--top 0: must be a number at least 1", "--top", 0),
    predicting(
        "a table of no kind",
        "--out {root}/out.xlsx: must end in .csv or .parquet",
        *("--out", "{root}/out.xlsx"),
    ),
    predicting(
        "out is a folder",
        "--out {root}/folder.csv: is a folder; name a file in a folder that exists",
        *("--out", "{root}/folder.csv"),
        files={"folder.csv": None},
    ),
    predicting(
        "out lies nowhere",
        "--out {root}/absent/out.csv: lies in a folder that does not exist; name a file in a "
        "folder that exists",
        *("--out", "{root}/absent/out.csv"),
    ),
    Case(
        "predict: an image that is not there",
        plain("{root}/0.png", "--model", "{finished}", "--out", "out.csv"),
        main.predict,
        "{root}/0.png: does not exist; name image files or folders",
    ),
    Case(
        "predict: a folder without images",
        placed({"notes/a.txt": b""}, "notes", "--model", "{finished}", "--out", "out.csv"),
        main.predict,
        "notes: holds no image (.jpg, .jpeg, .jfif, .png, .webp, .bmp, .tif, .tiff, .gif), left "
        "out 1 that are no image files: 1 .txt; name another",
    ),
    predicting("a negative n", "--n -1.0: must be a number from 0 to 1000000", "--n", -1),
    predicting("a beta above 1", "--beta 2.0: must be a number from 0 to 1", "--beta", 2),
    predicting("auto and n", "--auto: cannot be combined with --n or --beta", "--auto", "--n", 4),
    predicting("no batch", "--batch-size 0: must be a number at least 1", "--batch-size", 0),
    predicting(
        "auto without a calibration",
        "{finished}/calibration.npz: does not exist, and --auto needs it; run python -m iamt_jax "
        "calibrate --workdir {finished}",
        "--auto",
    ),
    predicting(
        "begun otherwise",
        OTHER,
        files={"out.csv.partial": b'{"n": 4}\n["0.png", null, "damaged"]\n'},
    ),
    predicting(
        "nothing but damage",
        f"none of the 1 images can be decoded, the first: {NO_IMAGE}",
        files={"images/0.png": b"damaged"},
        warnings=(NO_IMAGE,),
    ),
)
