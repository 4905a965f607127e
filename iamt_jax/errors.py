"""The one error that users see: a single clear line, exit status 2, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 600
"""Longest message in characters; a longer one is cut in the middle."""


def printable(text: str) -> str:
    """The text in one line, with control characters escaped, so that no terminal obeys them."""
    return "".join(x if x.isprintable() else ascii(x)[1:-1] for x in text)


class InputError(Exception):
    """Bad input from outside: an argument, a file or a field.

    The message is one line that names the file, field or argument, what was found, what was
    expected, and what to do. Arguments and fields of the config are in backticks, such as
    `train.batch_size`; the command line prints them as flags and exits with status 2, the explorer
    shows the message on its page. Nothing else may catch it. Text from a file within the message
    is escaped (`printable`), and a long message is cut in the middle.

    Args:
      message: the line.

    Example:
      >>> import iamt_jax
      >>> iamt_jax.load("no-such-folder")
      Traceback (most recent call last):
      iamt_jax.errors.InputError: `workdir` no-such-folder: holds no run.json; train first, ...
    """

    def __init__(self, message: str):
        shown = printable(message)
        if len(shown) > _LONGEST:
            shown = f"{shown[: _LONGEST * 2 // 3]} ... {shown[-_LONGEST // 3 :]}"
        super().__init__(shown)


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """Returns "did you mean NEAREST?", or `otherwise` if no known name resembles `name`."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else otherwise


def attribute_hint(name: str, attributes: Iterable[str]) -> str:
    """Suggests the attribute nearest to an unknown name, or lists all of them."""
    return did_you_mean(name, attributes, f"it has {', '.join(attributes)}")


def cannot_write(subject: str, error: OSError, advice: str) -> InputError:
    """Returns the error for a file or folder that cannot be written.

    Args:
      subject: the path, after its argument if it is one, such as "`workdir` W".
      error: of the operating system.
      advice: what the user can do about it.
    """
    return InputError(f"{subject}: cannot be written ({error.strerror}); {advice}")
