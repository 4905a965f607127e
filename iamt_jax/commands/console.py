"""Standard output and error of a command: what they cannot take is dropped, and ends nothing."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

NOBODY_READS = (errno.EPIPE, errno.EIO, errno.EBADF)
"""Errors of a closed pipe, of a terminal that is gone, and of a closed descriptor."""

STANDARD = (1, 2)
"""Descriptors of standard output and error."""


class Forgiving:
    """A text stream whose failures do not reach the writer; the rest is the stream's own.

    A character that its encoding lacks is replaced. After the first failed write the descriptor
    leads to the null device, so that Python's flush at exit, C code and child processes do not
    fail either.

    Args:
      stream: what is written to; None where Python found the descriptor closed.
      replacement: how characters are replaced, as for `str.encode`.
    """

    def __init__(self, stream: TextIO | None, replacement: str):
        self._stream = stream or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        self._replacement, self._gone = replacement, False

    def write(self, text: str) -> int:
        """Writes what the stream can take."""
        with self._forgiven():
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding
                self._stream.write(text.encode(encoding, self._replacement).decode(encoding))
        return len(text)

    def writelines(self, lines) -> None:
        """Writes each of them."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flushes as far as the stream can."""
        with self._forgiven():
            self._stream.flush()

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _forgiven(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:
            pass  # A full pipe that does not wait for its reader, who may come back.
        except (OSError, ValueError) as error:  # ValueError: the stream is closed.
            self._let_go(error)

    def _let_go(self, error: Exception) -> None:
        first, self._gone = not self._gone, True
        if (descriptor := self._descriptor()) in STANDARD:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, descriptor)
            os.close(null)
        number = getattr(error, "errno", None)
        if first and number not in (None, *NOBODY_READS):
            # Of standard error nothing can be told; this is then dropped as well.
            print(
                f"warning: output cannot be written ({os.strerror(number)}); lines that were "
                "printed are lost, files are not",
                file=sys.stderr,
            )

    def _descriptor(self) -> int | None:
        with contextlib.suppress(OSError, ValueError, AttributeError, io.UnsupportedOperation):
            return self._stream.fileno()
        return None


@contextlib.contextmanager
def forgiving() -> Iterator[None]:
    """Within it, printing cannot fail: neither for a closed pipe, nor for a character.

    A descriptor that is closed (`>&-`) is opened on the null device; the next file that is opened
    would otherwise be standard output, and get what is printed into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # Takes the lowest number that is free: this one.
    with (
        contextlib.redirect_stdout(Forgiving(sys.stdout, "replace")),
        contextlib.redirect_stderr(Forgiving(sys.stderr, "backslashreplace")),
    ):
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
