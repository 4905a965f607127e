"""Standard output and error of a command: a failed write never ends it, and messages of the package
name flags instead of arguments."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

from iamt_jax.commands.flags import as_flags

_READER_GONE = (errno.EPIPE, errno.EIO, errno.EBADF)
"""Errors of a closed pipe, a closed terminal and a closed descriptor."""

_STANDARD = (1, 2)
"""File descriptors of standard output and error."""


class TolerantStream:
    """A text stream whose write errors are not raised; everything else is the wrapped stream's.

    Characters that the encoding lacks are replaced. After the first failed write the descriptor
    is redirected to the null device, so that Python's flush at exit, C code and child processes do
    not fail either.

    Args:
      stream: the stream to write to; None if Python found the descriptor closed.
      replacement: error handler for characters that cannot be encoded, as for `str.encode`.
      edit: applied to each text before it is written.
    """

    def __init__(self, stream: TextIO | None, replacement: str, edit: Callable[[str], str] = str):
        self._stream = stream or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        self._replacement, self._edit, self._gone = replacement, edit, False

    def write(self, text: str) -> int:
        """Writes the text as far as the stream accepts it; returns the text's length."""
        written = self._edit(text)
        with self._tolerated():
            try:
                self._stream.write(written)
            except UnicodeEncodeError:
                encoding = self._stream.encoding
                self._stream.write(written.encode(encoding, self._replacement).decode(encoding))
        return len(text)

    def writelines(self, lines) -> None:
        """Writes each line."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flushes the stream, if it can be."""
        with self._tolerated():
            self._stream.flush()

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _tolerated(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:
            pass  # A full non-blocking pipe, whose reader may continue later.
        except (OSError, ValueError) as error:  # ValueError: the stream is closed.
            self._disconnect(error)

    def _disconnect(self, error: Exception) -> None:
        first, self._gone = not self._gone, True
        if (descriptor := self._descriptor()) in _STANDARD:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, descriptor)
            os.close(null)
        number = getattr(error, "errno", None)
        if first and number not in (None, *_READER_GONE):
            # If standard error is the stream that failed, this is dropped as well.
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
def tolerant_output() -> Iterator[None]:
    """Makes printing safe within the context: closed pipes and unknown characters raise nothing.

    Errors and warnings name flags: `flags.as_flags` edits what is written to standard error.

    A closed descriptor (`>&-`) is opened on the null device. Otherwise the next file to be opened
    would get its number, and printed text would be written into that file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # Takes the lowest free number, which is this one.
    with (
        contextlib.redirect_stdout(TolerantStream(sys.stdout, "replace")),
        contextlib.redirect_stderr(TolerantStream(sys.stderr, "backslashreplace", as_flags)),
    ):
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
