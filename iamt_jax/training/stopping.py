"""How a run is asked to stop, and stops where it can be continued."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import jax

from iamt_jax import distributed
from iamt_jax.signals import ENDING, handled


class Interrupted(Exception):
    """The run was asked to stop, and saved; `signal` says by what."""

    def __init__(self, number: int, step: int):
        super().__init__(f"{signal.Signals(number).name} at step {step}")
        self.signal, self.step = number, step


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[int], int]]:
    """Within it, a signal that ends a process only leaves a note: the function given takes the
    step and says which came, or 0.

    A second one of the same kind acts as usual, so that nobody is ever locked in. Where several
    processes are one run, JAX passes SIGTERM on to all, and says at which step all stop. In a
    thread other than the main one, signals are the program's, and none is noted.
    """
    several = jax.process_count() > 1
    came = [0]

    def note(number, former):
        came[0] = number
        signal.signal(number, former)
        if several:  # JAX knows of SIGTERM alone.
            os.kill(os.getpid(), signal.SIGTERM)

    numbers = [number for number in ENDING if not several or number != signal.SIGTERM]
    with handled(note, numbers):
        if several:
            yield lambda step: (came[0] or signal.SIGTERM) if distributed.stop_agreed(step) else 0
        else:
            yield lambda _: came[0]
