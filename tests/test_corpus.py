"""Every fault of the corpus ends a command with its status, its one line, and nothing written."""

import hashlib
import re
import warnings

import cli as main
import pytest
from corpus import (
    Place,
    archives,
    checkpoints,
    deploying,
    flags,
    folders,
    images,
    lists,
    numbers,
    own_data,
    partitions,
    resuming,
    workdirs,
)

PARTS = (
    flags,
    numbers,
    own_data,
    folders,
    lists,
    partitions,
    images,
    archives,
    workdirs,
    checkpoints,
    deploying,
    resuming,
)
CASES = [case for part in PARTS for case in part.CASES]
BAR = re.compile(r"[^\r\n]*\d+/\d+ \[[^]\r\n]*\]|step \d+: validation accuracy [^\r\n]*")
"""A drawing of a progress bar, but not what follows it on its line; or a validation's result."""

MINE = {main.train: "/case/W/", main.evaluate: "/case/E/"}
"""Where a command writes that succeeds, or comes half the way."""

SILENT = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
"""Warnings that Python shows to nobody who has not asked."""


def tree(folder):
    """Path -> digest of everything below the folder; None for folders."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


def said(text):
    """The lines of standard error without what tells of progress."""
    return [line for line in BAR.sub("", text).splitlines() if line.strip()]


@pytest.fixture
def place(tmp_path, finished, monkeypatch):
    # Two folders deep: a name that leads out of the case's folder stays in the test's.
    root = tmp_path / "outer" / "case"
    root.mkdir(parents=True)
    monkeypatch.chdir(root)
    place = Place(root, root / "W", finished)
    with place.held:
        yield place


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_command_answers_with_one_line(case, place, tmp_path, capfd):
    arguments = [place.filled(str(x)) for x in case.prepare(place)]
    before, run = tree(tmp_path), tree(place.finished)
    capfd.readouterr()
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        status = case.command(arguments)
    after = tree(tmp_path)
    lines = said(capfd.readouterr().err)
    assert lines == [place.filled(line) for line in case.lines]
    assert status == case.status
    assert not [w for w in shown if not issubclass(w.category, SILENT)]
    assert tree(place.finished) == run
    if case.status == 0 or case.begins:
        mine = MINE[case.command]
        before, after = (
            {k: v for k, v in x.items() if mine not in f"{k}/"} for x in (before, after)
        )
    assert after == before


def test_the_corpus_is_large_and_its_names_are_unique():
    assert len(CASES) >= 75
    assert len({case.name for case in CASES}) == len(CASES)
