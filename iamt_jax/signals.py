"""Signals that ask a process to end, and a handler for all of them."""

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
"""Signals that end a process and can be caught: Ctrl-C, an orderly end, a terminal that is gone,
Ctrl-backslash, notices of batch systems (Slurm, LSF, Grid Engine), a limit of CPU time."""


@contextlib.contextmanager
def handled(
    handler: Callable[[int, object], None], numbers: Iterable[signal.Signals] = ENDING
) -> Iterator[None]:
    """Within it, `handler(number, the handler that it replaced)` takes these signals.

    Only the main thread can set handlers: called in another, it leaves them as they are. A SIGHUP
    that is ignored stays ignored (`nohup`), and so does what C code handles.
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
