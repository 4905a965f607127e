"""The one error that users see: a single clear line, exit status 2, no traceback."""


class InputError(Exception):
    """Bad input from outside: a flag, a file, a field.

    The message is one line that names the file, field or flag, what was found, what was
    expected, and what to do. `iamt_jax.cli` prints it and exits with status 2; nothing else
    may catch it.
    """
