"""Signals that end a process, and a context manager that handles them."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator

ENDING = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    if hasattr(signal, name)
)
"""Signals that end a process and can be caught: Ctrl-C, `kill`, a closed terminal, Ctrl-backslash,
notices of batch systems (Slurm, LSF, Grid Engine), a CPU time limit."""


@contextlib.contextmanager
def handled(
    handler: Callable[[int, object], None], numbers: Iterable[signal.Signals] = ENDING
) -> Iterator[None]:
    """Handles these signals by `handler(number, replaced handler)` within the context.

    Only the main thread can set handlers; in any other thread this does nothing. A SIGHUP
    that is ignored stays ignored (`nohup`), and signals that C code handles are left to it.
    """
    before: dict[int, object] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in numbers:
                found = signal.getsignal(number)
                nohup = number == getattr(signal, "SIGHUP", None) and found == signal.SIG_IGN
                if found is not None and not nohup:
                    before[number] = found
                    signal.signal(number, lambda came, _frame: handler(came, before[came]))
        yield
    finally:
        for number, found in before.items():
            signal.signal(number, found)
