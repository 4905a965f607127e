"""How a test states what a user reads when the input is bad."""

import pytest

from iamt_jax.errors import InputError


def one_line(fault, *parts):
    """Runs `fault`; its message must be one line that holds every part."""
    with pytest.raises(InputError) as caught:
        fault()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    for part in parts:
        assert str(part) in message
    return message


def refused(capsys, command, arguments, *parts):
    """Exit status 2 and one line on standard error that holds every part."""
    assert command(list(map(str, arguments))) == 2
    error = capsys.readouterr().err
    line = error.strip().splitlines()[-1]
    assert error.strip() == line and line.startswith("error: ") and len(line) < 500, error
    for part in parts:
        assert str(part) in line
