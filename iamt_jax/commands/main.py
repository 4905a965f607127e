"""The command line: finds the command, and turns whatever ends it into an exit status."""

from __future__ import annotations

import difflib
import importlib
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from iamt_jax import xla_setup
from iamt_jax.commands import console
from iamt_jax.errors import InputError
from iamt_jax.signals import ENDING, handled


def train(arguments: Sequence[str] | None = None) -> int:
    """`python train.py`: returns the exit status."""
    return _run("train", arguments)


def evaluate(arguments: Sequence[str] | None = None) -> int:
    """`python evaluate.py`: returns the exit status."""
    return _run("evaluate", arguments)


def calibrate(arguments: Sequence[str] | None = None) -> int:
    """`python -m iamt_jax calibrate`: returns the exit status."""
    return _run("calibrate", arguments)


def predict(arguments: Sequence[str] | None = None) -> int:
    """`python -m iamt_jax predict`: returns the exit status."""
    return _run("predict", arguments)


def explore(arguments: Sequence[str] | None = None) -> int:
    """`python -m iamt_jax explore`: returns the exit status."""
    return _run("explore", arguments)


def export(arguments: Sequence[str] | None = None) -> int:
    """`python -m iamt_jax export`: returns the exit status."""
    return _run("export", arguments)


@console.forgiving()
def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m iamt_jax COMMAND`: returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    name, rest = arguments[:1], arguments[1:]
    if name and name[0] in ("-h", "--help"):
        print(f"usage: python -m iamt_jax {{{','.join(COMMANDS)}}} ...; --help after one for more")
        return 0
    if not name:
        print(f"error: no command; give one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    if name[0] not in COMMANDS:
        near = difflib.get_close_matches(name[0], COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(COMMANDS)}"
        print(f"error: {name[0] or repr('')}: no such command; {hint}", file=sys.stderr)
        return 2
    return COMMANDS[name[0]](rest)


COMMANDS = {
    "train": train,
    "evaluate": evaluate,
    "calibrate": calibrate,
    "predict": predict,
    "explore": explore,
    "export": export,
}
"""What `python -m iamt_jax` runs."""


@console.forgiving()
def _run(name: str, arguments: Sequence[str] | None) -> int:
    """Runs a command; bad input becomes one line and exit status 2.

    Signals that end a process unwind like Ctrl-C, so that half-written files are removed; during
    training all of them save first.
    """
    unwinding = [number for number in ENDING if number != signal.SIGINT]
    unwound = handled(lambda number, _: sys.exit(128 + number), unwinding)
    with unwound, xla_setup.default_numbers():
        try:
            _check_current_folder()
            command = importlib.import_module(f"iamt_jax.commands.{name}")
            return command.run(sys.argv[1:] if arguments is None else arguments)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            status = 2
        except OSError as error:
            if error.filename is None:  # No file of the user's: a fault of ours.
                status = _of_several(error)
            else:
                words = f"{error.filename}: cannot be used ({error.strerror}); name another"
                print(f"error: {words}", file=sys.stderr)
                status = 2
        except KeyboardInterrupt:
            print("stopped; what was saved before stays", file=sys.stderr)
            status = 130
        except SystemExit as end:  # By a signal, or after --help.
            _leave(end.code)
            raise
        except Exception as error:
            status = _of_several(error)
        _leave(status)
        return status


def _check_current_folder() -> None:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise InputError(
            "the current folder does not exist any more; cd to one that does"
        ) from None


def _leave(status: int) -> None:
    if "jax" in sys.modules:
        from iamt_jax import distributed

        distributed.exit_without_waiting(status)


def _of_several(error: Exception) -> int:
    """What an unforeseen error means where other processes of the run wait for this one.

    Raises:
      Exception: it again, where this process is alone.
    """
    from iamt_jax import distributed

    if not distributed.is_multiprocess():
        raise error
    if distributed.is_lost_peer(error):
        words = " ".join(str(error).split())[:200]
        print(
            f"error: another process of this run is gone ({words}); start the same command on all "
            "again: it continues from the last checkpoint",
            file=sys.stderr,
        )
    else:
        traceback.print_exception(error)
    return 1
