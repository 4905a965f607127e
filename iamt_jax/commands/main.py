"""The command line: finds the command and turns its outcome into an exit status."""

from __future__ import annotations

import inspect
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from iamt_jax import xla_setup
from iamt_jax.commands import console
from iamt_jax.errors import InputError, did_you_mean
from iamt_jax.signals import ENDING, handled
from iamt_jax.version import package_version

_WIDTH = 80
"""Columns of the list of commands."""


class Command(NamedTuple):
    """One of the six commands."""

    run: Callable[[Sequence[str]], int]
    """Flags -> exit status; raises `InputError` if the command refuses its input."""
    flags: type
    """Dataclass of the flags; the first paragraph of its docstring describes the command."""

    @property
    def summary(self) -> str:
        """One sentence, for the list of commands."""
        return " ".join(inspect.getdoc(self.flags).split("\n\n")[0].split())


def commands() -> dict[str, Command]:
    """The commands by name, in the order of their use."""
    from iamt_jax.commands import calibrate, evaluate, explore, export, predict, train

    return {
        "train": Command(train.run_train, train.TrainArguments),
        "evaluate": Command(evaluate.run_evaluate, evaluate.EvaluateArguments),
        "calibrate": Command(calibrate.run_calibrate, calibrate.CalibrateArguments),
        "predict": Command(predict.run_predict, predict.PredictArguments),
        "explore": Command(explore.run_explore, explore.ExploreArguments),
        "export": Command(export.run_export, export.ExportArguments),
    }


@console.tolerant_output()
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `python -m iamt_jax COMMAND ...`; bad input becomes one line and exit status 2.

    Signals that end a process raise SystemExit, as Ctrl-C raises KeyboardInterrupt, so that
    half-written files are removed. Training handles these signals itself, and saves first.

    Args:
      arguments: the command and its flags; by default those of this process.

    Returns:
      The exit status.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    numbers = [number for number in ENDING if number != signal.SIGINT]
    with handled(lambda number, _: sys.exit(128 + number), numbers), xla_setup.default_numbers():
        try:
            status = _dispatch(arguments)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            status = 2
        except OSError as error:
            if error.filename is None:  # It concerns no file of the user: an error of ours.
                status = _unexpected(error)
            else:
                words = f"{error.filename}: cannot be used ({error.strerror}); name another"
                print(f"error: {words}", file=sys.stderr)
                status = 2
        except KeyboardInterrupt:
            print("interrupted; files that were saved are kept", file=sys.stderr)
            status = 130
        except SystemExit as end:  # By a signal, or after --help.
            _exit_if_multiprocess(end.code)
            raise
        except Exception as error:
            status = _unexpected(error)
        _exit_if_multiprocess(status)
        return status


def _dispatch(arguments: list[str]) -> int:
    """Runs the command that the first argument names."""
    known, name = commands(), arguments[0] if arguments else None
    if name == "--version":
        print(package_version())
        return 0
    if name in (None, "-h", "--help"):
        print(_usage(known))
        if name is None:
            raise InputError(f"no command; give one of {', '.join(known)}")
        return 0
    if name not in known:
        hint = did_you_mean(name, known, f"expected one of {', '.join(known)}")
        raise InputError(f"{name or repr('')}: no such command; {hint}")
    try:
        Path.cwd()
    except FileNotFoundError:
        raise InputError(
            "the current folder does not exist any more; cd to one that does"
        ) from None
    return known[name].run(arguments[1:])


def _usage(known: dict[str, Command]) -> str:
    """The list of commands."""
    width = max(map(len, known))
    lines = [
        textwrap.fill(
            command.summary,
            _WIDTH,
            initial_indent=f"  {name:{width}}  ",
            subsequent_indent=" " * (width + 4),
        )
        for name, command in known.items()
    ]
    return "\n".join(
        [
            "usage: python -m iamt_jax COMMAND ...\n\ncommands:",
            *lines,
            "\nCOMMAND --help lists the flags of a command; --version prints the version.",
        ]
    )


def _exit_if_multiprocess(status: int) -> None:
    if "jax" in sys.modules:
        from iamt_jax import distributed

        distributed.exit_without_waiting(status)


def _unexpected(error: Exception) -> int:
    """Reports an unexpected error if other processes of the run wait for this one.

    Raises:
      Exception: the error again, in a run of one process.
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
