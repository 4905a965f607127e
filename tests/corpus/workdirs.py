"""run.json and the calibration: absent, damaged, or of another network."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import cli
import layouts
import numpy as np
from conftest import TINY

from corpus import QUICKLY, Case, Place
from corpus.writing import QUOTA_PAGE
from iamt_jax.inference.classifier import load
from iamt_jax.robust import CALIBRATION_FILE
from iamt_jax.robust.calibration_file import CALIBRATION_VERSION, LEVEL_ARRAYS

RUN = "run.json"
SAME = ("--preset", "debug", *(f"--{flag}={value}" for flag, value in TINY.items()))
"""Flags of the finished run."""

CUT = '{\n  "config": {\n    "data": {\n      "name": "fa'
"""Content of a run.json that a full disk cut off."""


def damaged(damage: Callable[[Path], object], *arguments: object) -> Callable[[Place], Sequence]:
    """A damaged copy of the finished run, and its workdir as a flag."""

    def prepare(place: Place) -> Sequence[object]:
        shutil.copytree(place.finished, place.workdir)
        damage(place.workdir)
        return "--workdir", "{workdir}", *arguments

    return prepare


def rewritten(text: str) -> Callable[[Path], object]:
    """Replaces the content of run.json."""
    return lambda workdir: (workdir / RUN).write_text(text)


def edited(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Changes fields of run.json."""

    def damage(workdir: Path) -> None:
        fields = json.loads((workdir / RUN).read_text())
        change(fields)
        (workdir / RUN).write_text(json.dumps(fields))

    return damage


def record(name: str, damage: Callable[[Path], object], line: str) -> Case:
    """A fault of run.json, found by an evaluation."""
    return Case(f"run.json: {name}", damaged(damage, *QUICKLY), cli.evaluate, line)


def calibrated(
    content: bytes | None = None, own: bool = False, **others: object
) -> Callable[[Path], None]:
    """Writes a calibration with this content, or a small one with these arrays."""

    def damage(workdir: Path) -> None:
        arrays = {"version": CALIBRATION_VERSION, "identity": "another"} | others
        if own:
            arrays["identity"] = load(workdir).identity
        file = io.BytesIO()
        np.savez(file, **arrays, **{name: np.zeros(8) for name in LEVEL_ARRAYS})
        (workdir / CALIBRATION_FILE).write_bytes(file.getvalue() if content is None else content)

    return damage


def halved(workdir: Path) -> None:
    """A calibration as an interrupted copy leaves it."""
    calibrated()(workdir)
    data = (workdir / CALIBRATION_FILE).read_bytes()
    (workdir / CALIBRATION_FILE).write_bytes(data[: len(data) // 2])


def eight_images(place: Place) -> Sequence[object]:
    """Fewer to learn from than noise can be learnt from."""
    layouts.write_official(place.root / "celeba")
    return "--workdir", "{finished}", "--data.root", "{root}/celeba"


def calibration(name: str, damage: Callable[[Path], object], line: str) -> Case:
    """A fault of the calibration, met by `--auto`."""
    command = damaged(damage, "--auto", *QUICKLY)
    return Case(f"calibration: {name}", command, cli.evaluate, line)


CASES = (
    record(
        "cut short",
        rewritten(CUT),
        "{workdir}/run.json: not a run of this version (JSONDecodeError: Unterminated string "
        "starting at: line 4 column 15 (char 44)); restore the file, or train again in another "
        "folder",
    ),
    record(
        "empty",
        rewritten(""),
        "{workdir}/run.json: not a run of this version (JSONDecodeError: Expecting value: line "
        "1 column 1 (char 0)); restore the file, or train again in another folder",
    ),
    record(
        "a web page",
        rewritten(QUOTA_PAGE),
        "{workdir}/run.json: not a run of this version (JSONDecodeError: Expecting value: line "
        "1 column 1 (char 0)); restore the file, or train again in another folder",
    ),
    record(
        "a list",
        rewritten("[]"),
        "{workdir}/run.json: not a run of this version (TypeError: it holds list, expected an "
        "object); restore the file, or train again in another folder",
    ),
    record(
        "null",
        rewritten("null"),
        "{workdir}/run.json: not a run of this version (TypeError: it holds NoneType, expected "
        "an object); restore the file, or train again in another folder",
    ),
    record(
        "no config",
        edited(lambda run: run.pop("config")),
        "{workdir}/run.json: not a run of this version (KeyError: 'config'); restore the file, "
        "or train again in another folder",
    ),
    record(
        "an unknown field",
        edited(lambda run: run["config"]["model"].update(colour=3)),
        "{workdir}/run.json: not a run of this version (KeyError: 'colour'); restore the file, "
        "or train again in another folder",
    ),
    record(
        "a field missing",
        edited(lambda run: run["config"]["model"].pop("widths")),
        "{workdir}/checkpoints/4: holds another network, and no other checkpoint can be read "
        "as the network that run.json describes; restore the matching files, or train again in "
        "another folder",
    ),
    record(
        "binary",
        lambda w: (w / RUN).write_bytes(b"\x89\xff\xfe\0" * 9),
        "{workdir}/run.json: not a run of this version (UnicodeDecodeError: 'utf-8' codec "
        "can't decode byte 0x89 in position 0: invalid start byte); restore the file, or train "
        "again in another folder",
    ),
    record(
        "attributes for another network",
        edited(lambda run: run["attributes"].pop()),
        "{workdir}/run.json: has 39 attributes, but 40 majority classes; restore the file, or "
        "train again in another folder",
    ),
    record(
        "attributes cut",
        edited(lambda run: (run["attributes"].pop(), run["majority"].pop())),
        "{workdir}/checkpoints/4: holds another network, and no other checkpoint can be read "
        "as the network that run.json describes; restore the matching files, or train again in "
        "another folder",
    ),
    record(
        "a number for a name",
        edited(lambda run: run["attributes"].append(3)),
        "{workdir}/run.json: not a run of this version (TypeError: attributes are not a list "
        "of names); restore the file, or train again in another folder",
    ),
    record(
        "text for a number",
        edited(lambda run: run["config"]["data"].update(size="64")),
        "{workdir}/run.json: not a run of this version (TypeError: size is '64', expected "
        "something like 64); restore the file, or train again in another folder",
    ),
    record(
        "a norm that there is not",
        edited(lambda run: run["config"]["model"].update(norm="layer")),
        "{workdir}/run.json: --model.norm layer: must be one of batch, group; restore the file, "
        "or train again",
    ),
    record(
        "groups that do not divide",
        edited(lambda run: run["config"]["model"].update(norm="group")),
        "{workdir}/run.json: --model.widths (8, 16, 16): must be multiples of 16 with groups; "
        "restore the file, or train again",
    ),
    record(
        "absent",
        lambda w: (w / RUN).unlink(),
        "--workdir {workdir}: holds no run.json; train first, with python train.py --workdir "
        "{workdir}",
    ),
    record(
        "a folder",
        lambda w: ((w / RUN).unlink(), (w / RUN).mkdir()),
        "--workdir {workdir}: holds no run.json; train first, with python train.py --workdir "
        "{workdir}",
    ),
    calibration(
        "absent",
        lambda workdir: None,
        "{workdir}/calibration.npz: does not exist, and --auto needs it; run python -m "
        "iamt_jax calibrate --workdir {workdir}",
    ),
    calibration(
        "empty",
        calibrated(b""),
        "{workdir}/calibration.npz: not a calibration of this version (it is not an npz file); "
        "run python -m iamt_jax calibrate --workdir {workdir}",
    ),
    calibration(
        "a damaged archive",
        calibrated(b"PK\3\4" + bytes(50)),
        "{workdir}/calibration.npz: not a calibration of this version (it is not an npz file); "
        "run python -m iamt_jax calibrate --workdir {workdir}",
    ),
    calibration(
        "a web page",
        calibrated(QUOTA_PAGE.encode()),
        "{workdir}/calibration.npz: not a calibration of this version (it is not an npz file); "
        "run python -m iamt_jax calibrate --workdir {workdir}",
    ),
    calibration(
        "cut short",
        halved,
        "{workdir}/calibration.npz: not a calibration of this version (it is not an npz file); "
        "run python -m iamt_jax calibrate --workdir {workdir}",
    ),
    Case(
        "calibrate: eight images",
        eight_images,
        cli.calibrate,
        "{root}/celeba: has 8 training images, expected at least 64 to calibrate on: give "
        "--data.root with more",
    ),
    calibration(
        "another version",
        calibrated(version=CALIBRATION_VERSION - 1),
        "{workdir}/calibration.npz: not a calibration of this version "
        f"(version {CALIBRATION_VERSION - 1}, expected {CALIBRATION_VERSION}); "
        "run python -m iamt_jax calibrate --workdir {workdir}",
    ),
    calibration(
        "another network's",
        calibrated(),
        "{workdir}/calibration.npz: made for another network than the best checkpoint; run "
        "python -m iamt_jax calibrate --workdir {workdir}",
    ),
    calibration(
        "an array missing",
        calibrated(**{"prior/mean": np.zeros(3)}),
        "{workdir}/calibration.npz: not a calibration of this version ('prior/basis'); run "
        "python -m iamt_jax calibrate --workdir {workdir}",
    ),
)
