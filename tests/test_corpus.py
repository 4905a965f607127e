"""Every fault of the corpus ends a command with its status, one line of error, and nothing written.

The cases in `EXACT` are compared with the whole sentence. Any other line may be reworded, but must
begin with the same flag or file and keep every word that a user acts on (`key_words`).
"""

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
    hugging_face,
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
    hugging_face,
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

EXACT = frozenset(
    re.findall(
        r"\S.*",
        """
        train: unknown flag
        train: not a number
        train: unknown preset
        train: no workdir
        train: a coordinator without a port
        evaluate: auto and n
        main: no command
        main: unknown command
        train: train.batch-size 0
        train: train.ema 1
        train: data.size 62
        train: a batch larger than the data
        evaluate: n nan
        own: the name was forgotten
        own: two csv files
        own: no csv
        own: semicolons
        own: an attribute twice
        own: a typing error
        own: a damaged image
        own: another suffix
        train: a folder without data
        train: workdir is a file
        train: TFRecord
        labels: saved as UTF-16
        labels: too few rows
        labels: no header
        partitions: a web page
        partitions: a value of no partition
        partitions: nobody to validate
        parquet: a pointer of Git LFS
        parquet: only training images
        parquet: no images
        parquet: a null image
        evaluate: unknown split
        image: truncated
        image: a bit that fell over
        image: more than may be left out
        archive: absent
        archive: interrupted download
        archive: one bit
        archive: a bomb that lies
        run.json: cut short
        run.json: absent
        calibration: another network's
        checkpoint: all without their checksums
        checkpoint: one bit wrong
        export: a file of no kind
        predict: a folder without images
        predict: begun otherwise
        train again: other settings
        train again: locked by another run
        continuing: the older cut short
        """,
    )
)
"""Names of the cases whose lines are compared whole, some of every kind."""

REMEDIES = frozenset(
    re.findall(
        r"\w+",
        """
        add choose convert correct delete download evaluate excludes expected finish give leave make
        missing move must name prepare put raise remove restore run save start stop take train
        unpack unzip wait write
        """,
    )
)
"""Plain words of an error that say what to do, or what was expected."""

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


def key_words(line):
    """The words of a line that must survive a rewording.

    These are flags, files, numbers, quoted values, suggestions, and whatever else is more than
    lower-case letters; and the words in `REMEDIES`.
    """
    quoted = re.findall(r"(?<!\w)'([^']+)'(?!\w)", line)
    suggested = re.findall(r"did you mean (\S+)\?", line)
    words = (word.strip(".,:;?!()'\"`") for word in line.split())
    plain = re.compile(r"[a-z]*([-'][a-z]+)*")
    return {
        *quoted,
        *suggested,
        *(word for word in words if word in REMEDIES or not plain.fullmatch(word)),
    }


def same_meaning(found, expected):
    """Whether two lines name the same things in any words, beginning with the same one."""
    kinds = [line.partition(" ")[0] for line in (found, expected)]
    begins = [line.split()[1].rstrip(":,") for line in (found, expected)]
    return (
        kinds[0] == kinds[1]
        and (begins[0] == begins[1] or not key_words(begins[1]))
        and key_words(expected) <= key_words(found)
    )


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
    expected = [place.filled(line) for line in case.lines]
    if case.name in EXACT:
        assert lines == expected
    else:
        assert len(lines) == len(expected), lines
        for found, line in zip(lines, expected, strict=True):
            assert same_meaning(found, line), f"{found}\nexpected, in other words:\n{line}"
    assert status == case.status
    assert not [w for w in shown if not issubclass(w.category, SILENT)]
    assert tree(place.finished) == run
    if case.status == 0 or case.begins:
        mine = MINE[case.command]
        before, after = (
            {k: v for k, v in x.items() if mine not in f"{k}/"} for x in (before, after)
        )
    assert after == before


def test_names_of_cases_are_unique():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) and set(names) >= EXACT


LINE = (
    "error: --data.name folders: found 'folders', did you mean folder? 1 was expected (see --help)"
)


@pytest.mark.parametrize(
    "reworded, same",
    [
        (LINE, True),
        (
            "error: --data.name folders: 1 is expected, not 'folders': did you mean folder? --help",
            True,
        ),
        (LINE.replace("error", "warning"), False),
        (LINE.replace("--data.name folders: ", ""), False),
        (LINE.replace("'folders'", "'folder'").replace("folders:", "folder:"), False),
        (LINE.replace("1 was expected", ""), False),
        (LINE.replace("mean folder?", "mean it?"), False),
        (LINE.replace(" (see --help)", ""), False),
    ],
)
def test_a_line_may_be_reworded_but_loses_nothing(reworded, same):
    assert same_meaning(reworded, LINE) == same
