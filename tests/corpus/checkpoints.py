"""Checkpoints: absent, damaged, of another network; an older one is used where there is one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import cli as main

from corpus import QUICKLY, Case, Place, trained
from corpus.workdirs import damaged, edited

FOLDER = "checkpoints"
OLD, NEW = "2", "4"
"""Steps of the finished run's two checkpoints."""

INDEX = "state/manifest.ocdbt"
"""A file of a checkpoint whose name is always the same."""


def without(name: str) -> Callable[[Path], object]:
    """Removes a part of the workdir."""
    return lambda workdir: shutil.rmtree(workdir / name)


def a_file_for(name: str) -> Callable[[Path], object]:
    """Puts a file in the place of a folder."""

    def damage(workdir: Path) -> None:
        shutil.rmtree(workdir / name)
        (workdir / name).write_text("mine")

    return damage


def emptied(workdir: Path) -> None:
    """Empties the folder of checkpoints."""
    without(FOLDER)(workdir)
    (workdir / FOLDER).mkdir()


def cut(*steps: str) -> Callable[[Path], None]:
    """Truncates weights, as an interrupted copy does."""

    def damage(workdir: Path) -> None:
        for step in steps:
            path = workdir / FOLDER / step / INDEX
            path.write_bytes(path.read_bytes()[:50])

    return damage


def one_bit(step: str) -> Callable[[Path], None]:
    """Flips one bit of the weights."""

    def damage(workdir: Path) -> None:
        path = workdir / FOLDER / step / INDEX
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    return damage


def unfinished(workdir: Path) -> None:
    """Removes the checksums of both checkpoints, as if the run had been killed."""
    for step in (OLD, NEW):
        (workdir / FOLDER / step / "seal.json").unlink()


def empty_step(workdir: Path) -> None:
    """Adds an empty folder named as a checkpoint, beside a complete one."""
    without(f"{FOLDER}/{OLD}")(workdir)
    (workdir / FOLDER / "9").mkdir()


def own_text(workdir: Path) -> None:
    """Adds other files and folders, which are ignored."""
    (workdir / FOLDER / "notes.txt").write_text("mine")
    (workdir / FOLDER / "0x4").mkdir()


def edited_checksums(workdir: Path) -> None:
    """Checksums with an edited metric."""
    path = workdir / FOLDER / OLD / "seal.json"
    path.write_text(path.read_text().replace('"accuracy": 0', '"accuracy": 1'))


def other_network(run: dict) -> None:
    """Describes a wider network."""
    run["config"]["model"]["widths"] = [8, 16, 32]


def checkpoint(name: str, damage: Callable[[Path], object], line: str) -> Case:
    """Case of an evaluation without another checkpoint to use."""
    return Case(f"checkpoint: {name}", damaged(damage, *QUICKLY), main.evaluate, line)


def passed_over(name: str, damage: Callable[[Path], object], *warnings: str) -> Case:
    """Case of an evaluation that uses another checkpoint."""
    command = damaged(damage, *QUICKLY)
    return Case(f"checkpoint: {name}", command, main.evaluate, "", 0, warnings)


def started(name: str, other: str, line: str, *flags: object) -> Case:
    """Case of initial weights that cannot be read."""
    arguments = ("--preset", "debug", "--train.init-from", other, *flags)
    return Case(f"init from: {name}", trained(*arguments), main.train, line)


def from_nothing(place: Place) -> Sequence[object]:
    """Initial weights from a workdir without checkpoints."""
    other = place.root / "other"
    other.mkdir()
    shutil.copy(place.finished / "run.json", other)
    return "--preset", "debug", "--workdir", "{workdir}", "--train.init-from", "{root}/other"


CASES = (
    checkpoint(
        "none",
        without(FOLDER),
        "{workdir}/checkpoints: no checkpoint found; train first, with python train.py "
        "--workdir {workdir}",
    ),
    checkpoint(
        "an empty folder",
        emptied,
        "{workdir}/checkpoints: no checkpoint found; train first, with python train.py "
        "--workdir {workdir}",
    ),
    checkpoint(
        "a file for the folder",
        a_file_for(FOLDER),
        "{workdir}/checkpoints: no checkpoint found; train first, with python train.py "
        "--workdir {workdir}",
    ),
    checkpoint(
        "another network's",
        edited(other_network),
        "{workdir}/checkpoints/4: holds another network, and no other checkpoint can be read "
        "as the network that run.json describes; restore the matching files, or train again in "
        "another folder",
    ),
    checkpoint(
        "all cut short",
        cut(OLD, NEW),
        "{workdir}/checkpoints/4: state/manifest.ocdbt in it is not what was saved, and no "
        "other checkpoint can be read as the network that run.json describes; restore the "
        "matching files, or train again in another folder",
    ),
    checkpoint(
        "all without their checksums",
        unfinished,
        "{workdir}/checkpoints/4: is not a complete checkpoint, and no other checkpoint can be "
        "read as the network that run.json describes; restore the matching files, or train "
        "again in another folder",
    ),
    passed_over(
        "the older cut short",
        cut(OLD),
        "{workdir}/checkpoints/2: state/manifest.ocdbt in it is not what was saved; step 4 is used",
    ),
    passed_over(
        "the newer cut short",
        cut(NEW),
        "{workdir}/checkpoints/4: state/manifest.ocdbt in it is not what was saved; step 2 is used",
    ),
    passed_over(
        "one bit wrong",
        one_bit(NEW),
        "{workdir}/checkpoints/4: state/manifest.ocdbt in it is not what was saved; step 2 is used",
    ),
    passed_over(
        "no state",
        without(f"{FOLDER}/{NEW}/state"),
        "{workdir}/checkpoints/4: lacks state/_METADATA; step 2 is used",
    ),
    passed_over(
        "a file for the state",
        a_file_for(f"{FOLDER}/{NEW}/state"),
        "{workdir}/checkpoints/4: cannot be read (Not a directory); step 2 is used",
    ),
    passed_over(
        "edited checksums",
        edited_checksums,
        "{workdir}/checkpoints/2: its seal.json is not what was written; step 4 is used",
    ),
    passed_over(
        "an empty one",
        empty_step,
        "{workdir}/checkpoints/9: is not a complete checkpoint; step 4 is used",
    ),
    passed_over("other files beside it", own_text),
    started(
        "nowhere",
        "{root}/other",
        "--train.init-from {root}/other: holds no run.json; train first, with python train.py "
        "--workdir {root}/other",
    ),
    started(
        "a file",
        "{finished}/run.json",
        "--train.init-from {finished}/run.json: is a file; name the folder that training wrote",
    ),
    started(
        "another network",
        "{finished}",
        "--train.init-from {finished}: holds an extractor of another shape; train with its "
        "--model.widths, --model.blocks, --model.dilations, --model.coordinates and --model.norm; "
        "only a dilation of 0 may become larger, and more dilations follow",
        "--model.widths",
        16,
        16,
        16,
    ),
    Case(
        "init from: no checkpoint",
        from_nothing,
        main.train,
        "--train.init-from {root}/other/checkpoints: no checkpoint found; train first, with "
        "python train.py --workdir {root}/other",
    ),
)
