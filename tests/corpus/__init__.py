"""Faults that users make, each with the line that the command answers with (test_corpus.py)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """The folders of a case."""

    root: Path
    """An empty folder for this case only."""
    workdir: Path
    """A folder in `root` that does not exist yet."""
    finished: Path
    """The workdir of a finished run; a case that damages it makes a copy first."""
    held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    """Resources that are released at the end of the case."""

    def filled(self, text: str) -> str:
        """The text with real paths for {root}, {workdir} and {finished}."""
        for name in ("root", "workdir", "finished"):
            text = text.replace(f"{{{name}}}", str(getattr(self, name)))
        return text


@dataclass(frozen=True)
class Case:
    """A mistake, or unusual input that is valid (`status` 0)."""

    name: str
    prepare: Callable[[Place], Sequence[object]]
    """Prepares files; returns the command's arguments, in which placeholders are filled in."""
    command: Callable[[Sequence[str]], int]
    line: str
    """Line on standard error after "error: ", with {root}, {workdir} and {finished} for paths;
    empty if the command succeeds."""
    status: int = 2
    warnings: Sequence[str] = ()
    """Lines before it after "warning: ", with the same placeholders; there may be no others."""
    begins: bool = False
    """The mistake is found late, when the command has already made its own folder."""

    @property
    def lines(self) -> list[str]:
        """All lines that standard error may hold."""
        told = [f"warning: {text}" for text in self.warnings]
        return told + ([f"error: {self.line}"] if self.line else [])


def plain(*arguments: object) -> Callable[[Place], Sequence[object]]:
    """Prepares no file."""
    return lambda place: arguments


def trained(*arguments: object) -> Callable[[Place], Sequence[object]]:
    """Arguments with a workdir that does not exist yet."""
    return plain("--workdir", "{workdir}", *arguments)


def evaluated(*arguments: object) -> Callable[[Place], Sequence[object]]:
    """Arguments for a quick evaluation of the finished run."""
    return plain("--workdir", "{finished}", *QUICKLY, *arguments)


QUICKLY = ("--out", "{root}/E", "--bootstrap", 0, "--batch-size", 8)
