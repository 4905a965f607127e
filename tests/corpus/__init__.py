"""Faults that users make, each with the line that the command answers with (test_corpus.py)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """Where a case is tried out."""

    root: Path
    """An empty folder of the case's own."""
    workdir: Path
    """A folder in it that is not there yet."""
    finished: Path
    """The workdir of a whole run; a case that damages one copies it first."""
    held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    """What is released when the case is over."""

    def filled(self, text: str) -> str:
        """The text with real paths for {root}, {workdir} and {finished}."""
        for name in ("root", "workdir", "finished"):
            text = text.replace(f"{{{name}}}", str(getattr(self, name)))
        return text


@dataclass(frozen=True)
class Case:
    """A fault, or an oddity that is none (`status` 0)."""

    name: str
    prepare: Callable[[Place], Sequence[object]]
    """Builds what the command meets; returns its arguments, in which paths are filled in."""
    command: Callable[[Sequence[str]], int]
    line: str
    """What standard error says after "error: ", with {root}, {workdir} and {finished} for paths;
    empty where the command succeeds."""
    status: int = 2
    warnings: Sequence[str] = ()
    """Lines before it, likewise, after "warning: "; there are no others."""
    begins: bool = False
    """The fault is only met in the middle: the command's own folder is there by then."""

    @property
    def lines(self) -> list[str]:
        """All that standard error may hold."""
        told = [f"warning: {text}" for text in self.warnings]
        return told + ([f"error: {self.line}"] if self.line else [])


def plain(*arguments: object) -> Callable[[Place], Sequence[object]]:
    """Prepares nothing."""
    return lambda place: arguments


def trained(*arguments: object) -> Callable[[Place], Sequence[object]]:
    """A workdir that is not there yet."""
    return plain("--workdir", "{workdir}", *arguments)


def evaluated(*arguments: object) -> Callable[[Place], Sequence[object]]:
    """The finished run, looked at quickly."""
    return plain("--workdir", "{finished}", *QUICKLY, *arguments)


QUICKLY = ("--out", "{root}/E", "--bootstrap", 0, "--batch-size", 8)
