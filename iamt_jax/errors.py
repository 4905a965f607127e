"""The one error that users see: a single clear line, exit status 2, no traceback."""

LONGEST = 600
"""Characters of a message; what is cut goes out of its middle."""


def printable(text: str) -> str:
    """The text in one line that no terminal reads a command in."""
    return "".join(x if x.isprintable() else ascii(x)[1:-1] for x in text)


class InputError(Exception):
    """Bad input from outside: a flag, a file, a field.

    The message is one line that names the file, field or flag, what was found, what was
    expected, and what to do. The command line prints it and exits with status 2, the explorer shows
    it on its page; nothing else may catch it. Whatever a file held that stands in it is made
    printable, and cut if long.

    Args:
      message: the line.

    Example:
      >>> import iamt_jax
      >>> iamt_jax.load("no-such-folder")
      Traceback (most recent call last):
      iamt_jax.errors.InputError: --workdir no-such-folder: holds no run.json; train first, ...
    """

    def __init__(self, message: str):
        shown = printable(message)
        if len(shown) > LONGEST:
            shown = f"{shown[: LONGEST * 2 // 3]} ... {shown[-LONGEST // 3 :]}"
        super().__init__(shown)
