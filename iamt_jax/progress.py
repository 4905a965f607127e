"""Progress bars: drawn in place on a terminal or in a notebook, as lines in a file or a pipe."""

from __future__ import annotations

import contextlib
import contextvars
import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from tqdm import auto, notebook, std

_SECONDS = 30
"""Longest time between two lines, as long as there is progress."""

_LINE = (
    "{desc} {percentage:.0f} %, {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
)


Progress = std.tqdm
"""Type of all bars."""


class ProgressLines(Progress):
    """A bar for a file or a pipe: prints a line every tenth of the way, and at least every 30 s.

    tqdm would redraw its bar several times a second, and separate the drawings by carriage
    returns, so that a log file of a night has one line of megabytes.
    """

    def __init__(self, *arguments: Any, **options: Any):
        self._line_tenth = self._line_n = -1
        self._line_time = time.monotonic()
        super().__init__(*arguments, **options, mininterval=1, bar_format=_LINE)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Prints a line if one is due; tqdm calls this to draw the bar."""
        tenth = 10 * self.n // self.total if self.total else 0
        late = time.monotonic() - self._line_time >= _SECONDS and self.n > self._line_n
        # The first call is that of `__init__`.
        if self._line_tenth >= 0 and (tenth > self._line_tenth or late):
            self._print()
        self._line_tenth = tenth

    def clear(self, nolock: bool = False) -> None:
        """Does nothing: a printed line is never redrawn."""

    def close(self) -> None:
        """Prints the last state, if it has not been printed."""
        if not self.disable and self.n > self._line_n:
            self._print()
        self.delay = float("inf")  # tqdm draws nothing at the end of a bar that was delayed.
        super().close()

    def _print(self) -> None:
        self._line_n, self._line_time = self.n, time.monotonic()
        self.fp.write(f"{str(self).strip()}\n")
        self.fp.flush()


class ProgressReports(Progress):
    """A bar that is reported to a function (`progress_reports`) and drawn nowhere."""

    def __init__(self, *arguments: Any, **options: Any):
        self._report = _report.get()
        # At its end, tqdm writes a line break into its file.
        super().__init__(*arguments, **options, mininterval=0.2, file=io.StringIO())

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Reports the state; tqdm calls this to draw the bar."""
        if self.total:
            self._report(str(self.desc).removesuffix(": "), self.n / self.total)

    def clear(self, nolock: bool = False) -> None:
        """Does nothing: nothing was drawn."""


_report: contextvars.ContextVar[Callable[[str, float], None] | None]
_report = contextvars.ContextVar("report", default=None)


@contextlib.contextmanager
def progress_reports(report: Callable[[str, float], None]) -> Iterator[None]:
    """Within the context, and this thread, bars are reported to a function instead of drawn.

    Args:
      report: called with the bar's description and the share that is done, from 0 to 1.
    """
    before = _report.set(report)
    try:
        yield
    finally:
        _report.reset(before)


class Stages:
    """Announces the parts of a long command on standard error: `[3/7] tone curves, about 25 s`.

    Args:
      seconds: name of each stage, in order -> estimated seconds. A stage that is not among them is
        not announced; without any, nothing is printed.
    """

    def __init__(self, seconds: Mapping[str, float] = MappingProxyType({})):
        self._seconds = seconds

    def begin(self, name: str) -> None:
        """Prints the line of a stage, if it is planned."""
        if name in self._seconds:
            number, seconds = [*self._seconds].index(name) + 1, self._seconds[name]
            about = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
            print(f"[{number}/{len(self._seconds)}] {name}, about {about}", file=sys.stderr)


def progress_bar(iterable: Iterable | None = None, **options: Any) -> Progress:
    """Returns a progress bar on standard error, or one of `progress_reports`, with the methods of
    tqdm.

    Args:
      iterable: items to count; without it the caller calls `update`.
      options: of `tqdm.tqdm`, such as `total`, `desc`, `unit`.
    """
    if _report.get():
        return ProgressReports(iterable, **options)
    in_notebook = issubclass(auto.tqdm, notebook.tqdm_notebook)
    drawn = in_notebook or (sys.stderr is not None and sys.stderr.isatty())
    return (auto.tqdm if drawn else ProgressLines)(iterable, dynamic_ncols=True, **options)
