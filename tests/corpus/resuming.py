"""Runs that are continued with other flags, after damage, or beside another process."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import cli
import filelock

from corpus import Case, Place
from corpus.checkpoints import FOLDER, NEW, OLD, a_file_for, cut, empty_step
from corpus.workdirs import CUT, SAME, damaged, edited, rewritten
from iamt_jax.runs.run_file import LOCK


def again(name: str, damage: Callable[[Path], object], line: str, *flags: object) -> Case:
    """A mistake that `train.py` finds when it should continue."""
    return Case(f"train again: {name}", damaged(damage, *SAME, *flags), cli.train, line)


def put_aside(name: str, damage: Callable[[Path], object], *warnings: str) -> Case:
    """A damaged checkpoint, found by a training that has no steps left."""
    return Case(f"continuing: {name}", damaged(damage, *SAME), cli.train, "", 0, warnings)


def locked(place: Place) -> Sequence[object]:
    """A finished run whose workdir is locked by another run."""
    shutil.copytree(place.finished, place.workdir)
    lock = filelock.FileLock(place.workdir / LOCK)
    lock.acquire()
    place.held.callback(lock.release)
    return "--workdir", "{workdir}", *SAME


CASES = (
    again(
        "other settings",
        lambda workdir: None,
        "--workdir {workdir}: holds a run with other settings (train.seed 0 -> 3); give the "
        "same flags to continue it, name the fields after --resume.allow, or give another "
        "folder",
        "--train.seed",
        3,
    ),
    again(
        "may not change",
        lambda workdir: None,
        "--resume.allow train.stps: is no field of the config; did you mean train.steps?",
        "--resume.allow",
        "train.stps",
    ),
    again(
        "may change the network",
        lambda workdir: None,
        "--resume.allow model.widths: a run keeps its network; start another with "
        "--train.init-from, or with fresh weights",
        "--resume.allow",
        "model.widths",
    ),
    again(
        "other attributes",
        edited(lambda run: run["attributes"].pop()),
        "{workdir}/run.json: has 39 attributes, but 40 majority classes; restore the file, or "
        "train again in another folder",
    ),
    again(
        "run.json cut short",
        rewritten(CUT),
        "{workdir}/run.json: not a run of this version (JSONDecodeError: Unterminated string "
        "starting at: line 4 column 15 (char 44)); restore the file, or train again in another "
        "folder",
    ),
    again(
        "nothing like a field",
        lambda workdir: None,
        "--resume.allow xyz: is no field of the config; give names such as train.steps",
        "--resume.allow",
        "xyz",
    ),
    again(
        "a file for the checkpoints",
        a_file_for(FOLDER),
        "{workdir}/checkpoints: is a file, expected a folder; move it away",
    ),
    Case(
        "train again: locked by another run",
        locked,
        cli.train,
        "--workdir {workdir}: another run is writing into it (it holds .lock); stop it, wait "
        "for it, or name another folder",
    ),
    Case(
        "continuing: an older run, which did not count its images",
        damaged(edited(lambda run: run.pop("images")), *SAME),
        cli.train,
        "",
        0,
    ),
    Case(
        "continuing: all cut short",
        damaged(cut(OLD, NEW), *SAME),
        cli.train,
        "{workdir}/checkpoints/4: state/manifest.ocdbt in it is not what was saved, and no "
        "other checkpoint can be read as the network that run.json describes; restore the "
        "matching files, or train again in another folder",
    ),
    put_aside(
        "the older cut short",
        cut(OLD),
        "{workdir}/checkpoints/2: state/manifest.ocdbt in it is not what was saved; put aside "
        "as {workdir}/damaged/2",
    ),
    put_aside(
        "an empty one",
        empty_step,
        "{workdir}/checkpoints/9: is not a complete checkpoint; put aside as {workdir}/damaged/9",
    ),
)
