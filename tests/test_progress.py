"""Progress bars on a terminal and in a file."""

import io
import sys

import pytest
from tqdm import std

from iamt_jax import progress
from iamt_jax.progress import ProgressLines, Stages, progress_bar


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def monotonic(self):
        return self.now


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def lines(monkeypatch, capsys):
    """Lines on standard error, a file, so far; every update is looked at."""
    made = std.tqdm.__init__

    def eager(self, *arguments, **options):
        made(self, *arguments, **options | {"mininterval": 0, "miniters": 1})

    monkeypatch.setattr(std.tqdm, "__init__", eager)
    return lambda: capsys.readouterr().err.splitlines(keepends=True)


def test_a_file_gets_a_line_every_tenth(lines, clock):
    assert list(progress_bar(range(1000), desc="counting", unit="image")) == list(range(1000))
    found = lines()
    assert [line.split(", ")[0] for line in found] == [f"counting {10 * i} %" for i in range(1, 11)]
    assert all(line.endswith("image/s]\n") and "\r" not in line for line in found)


def test_a_slow_bar_has_a_line_every_30_s_as_long_as_there_is_progress(lines, clock):
    with progress_bar(total=1000, initial=500, desc="slow") as bar:
        for clock.now in range(0, 120, 10):
            bar.update()
        clock.now = 1000
        bar.refresh()
        bar.refresh()
    told = [line.split(" [")[0] for line in lines()]
    assert told == [f"slow {x / 10:.0f} %, {x}/1000" for x in (504, 507, 510, 512)]


def test_messages_stand_on_lines_of_their_own(lines, clock):
    with progress_bar(total=2, desc="two") as bar:
        bar.update()
        bar.set_postfix(loss=0.5)
        bar.write("message", file=sys.stderr)
        bar.update()
    first, second, third = lines()
    assert (first[:9], second, third[:9]) == ("two 50 %,", "message\n", "two 100 %")
    assert "loss=0.5]" in third


def test_a_bar_that_is_disabled_or_interrupted(lines, clock):
    with progress_bar(total=3, disable=True) as bar:
        bar.update(3)
    assert not lines()
    with pytest.raises(KeyboardInterrupt), progress_bar(total=100, desc="all") as bar:
        bar.update(7)
        raise KeyboardInterrupt
    (line,) = lines()
    assert line.startswith("all 7 %, 7/100")


def test_a_terminal_gets_a_bar(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    bar = progress_bar(range(3))
    assert not isinstance(bar, ProgressLines) and list(bar) == [0, 1, 2]
    assert "\r" in screen.getvalue() and "3/3" in screen.getvalue()


def test_planned_stages_are_numbered_with_an_estimate(capsys):
    stages = Stages({"accuracy": 3.2, "tone curves": 150})
    for name in ("accuracy", "something else", "tone curves"):
        stages.begin(name)
    Stages().begin("accuracy")
    told = capsys.readouterr()
    assert told.err == "[1/2] accuracy, about 3 s\n[2/2] tone curves, about 2 min\n"
    assert told.out == ""
