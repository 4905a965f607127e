"""How a run is asked to stop, and stops where it can be continued."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import jax

from iamt_jax import processes


class Interrupted(Exception):
    """The run was asked to stop, and saved; `signal` says by what."""

    def __init__(self, number: int, step: int):
        super().__init__(f"{signal.Signals(number).name} at step {step}")
        self.signal, self.step = number, step


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[int], int]]:
    """Within it, SIGINT and SIGTERM only leave a note: the function given takes the step and says
    which came, or 0.

    A second one of the same kind acts as usual, so that nobody is ever locked in. Where several
    processes are one run, JAX passes SIGTERM on to all, and says at which step all stop.
    """
    several = jax.process_count() > 1
    came = [0]

    def note(number, _frame):
        came[0] = number
        signal.signal(number, before[number])
        if several:  # JAX knows of SIGTERM alone.
            os.kill(os.getpid(), signal.SIGTERM)

    numbers = (signal.SIGINT,) if several else (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        if several:
            yield lambda step: signal.SIGTERM if processes.stop_agreed(step) else 0
        else:
            yield lambda _: came[0]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
