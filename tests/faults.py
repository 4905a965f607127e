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
