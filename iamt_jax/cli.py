"""The command line: flags in, exit status out; it only orchestrates."""

from __future__ import annotations

import dataclasses
import difflib
import math
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from iamt_jax import console, evaluating, exploring, exporting, platform, predicting
from iamt_jax.checks import check
from iamt_jax.config import FEWEST_IMAGES, PRESETS, Config, OtherData, Processes
from iamt_jax.errors import InputError
from iamt_jax.flags import absolute, check_range, parse, take_preset
from iamt_jax.signals import ENDING, handled


@dataclass(frozen=True)
class Resume:
    """What may differ where a run is continued."""

    allow: tuple[str, ...] = ()
    """Fields of the config, such as train.steps; any other that differs is refused."""


@dataclass(frozen=True)
class TrainArguments(Config):
    """Trains a network, or continues the run that the workdir holds.

    `--preset faces` (default), `small`, `celeba` or `debug` sets what the other flags change.
    """

    workdir: Path = tyro.MISSING
    """Folder for the config, metrics and checkpoints of the run."""
    resume: Resume = Resume()
    processes: Processes = Processes()


@dataclass(frozen=True)
class CalibrateArguments:
    """Makes a trained network robust to noise, from its unlabelled training images; no weight
    changes. evaluate.py --auto then uses what it writes, WORKDIR/calibration.npz."""

    workdir: Path = tyro.MISSING
    """Folder that training wrote."""
    images: int = 5000
    """Training images to learn from, at most; 64 are the fewest, thousands are better."""
    data: OtherData = OtherData()


def train(arguments: Sequence[str] | None = None) -> int:
    """`python train.py`: returns the exit status."""
    return _guarded(_train, sys.argv[1:] if arguments is None else arguments)


def evaluate(arguments: Sequence[str] | None = None) -> int:
    """`python evaluate.py`: returns the exit status."""
    return _guarded(evaluating.run, sys.argv[1:] if arguments is None else arguments)


def calibrate(arguments: Sequence[str] | None = None) -> int:
    """`python -m iamt_jax calibrate`: returns the exit status."""
    return _guarded(_calibrate, sys.argv[1:] if arguments is None else arguments)


def export(arguments: Sequence[str] | None = None) -> int:
    """`python -m iamt_jax export`: returns the exit status."""
    return _guarded(exporting.run, sys.argv[1:] if arguments is None else arguments)


def predict(arguments: Sequence[str] | None = None) -> int:
    """`python -m iamt_jax predict`: returns the exit status."""
    return _guarded(predicting.run, sys.argv[1:] if arguments is None else arguments)


def explore(arguments: Sequence[str] | None = None) -> int:
    """`python -m iamt_jax explore`: returns the exit status."""
    return _guarded(exploring.run, sys.argv[1:] if arguments is None else arguments)


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


def _train(arguments: Sequence[str]) -> int:
    preset, rest = take_preset(arguments)
    default = TrainArguments(**_fields(PRESETS[preset]), workdir=tyro.MISSING)
    chosen = parse(TrainArguments, rest, "train.py", default)
    config = absolute(Config(**_fields(chosen)))
    check(config)
    platform.prepare()

    from iamt_jax import processes
    from iamt_jax.data.damaged import without_damaged
    from iamt_jax.data.source import open_source
    from iamt_jax.training.loop import Diverged, train
    from iamt_jax.training.stopping import Interrupted

    processes.start(chosen.processes, notices=True)
    dataset = processes.first_then_rest(lambda: open_source(config.data))
    (records, left_out), (validation, _) = (
        processes.together(
            lambda split=split: without_damaged(
                dataset.split(split),
                config.data.size,
                config.data.damaged_limit,
                processes.share,
                processes.gathered,
            )
        )
        for split in (config.data.train_split, "validation")
    )
    processes.say(
        f"{dataset.root}: {dataset.layout}, {len(records):,} images to train on, "
        f"{len(validation):,} to validate, {len(dataset.attributes)} attributes"
    )
    try:
        train(config, chosen.workdir, records, validation, chosen.resume.allow, left_out)
    except Interrupted as stop:
        processes.say(f"stopped by {stop} and saved; the same command continues from there")
        return 128 + stop.signal
    except Diverged as failure:
        processes.say(f"error: {failure}", file=sys.stderr)
        return 1
    processes.say(f"trained; now: python evaluate.py --workdir {shlex.quote(str(chosen.workdir))}")
    return 0


def _calibrate(arguments: Sequence[str]) -> int:
    chosen = parse(CalibrateArguments, arguments, "-m iamt_jax calibrate")
    check_range("images", chosen.images, FEWEST_IMAGES, math.inf)
    platform.prepare()
    platform.start()

    from iamt_jax.calibration import calibrate_workdir
    from iamt_jax.transformation.file import members

    path, transformation = calibrate_workdir(chosen.workdir, chosen.images, chosen.data)
    print(
        f"calibrated {', '.join(members(transformation))}; wrote {path}\n"
        f"now: python evaluate.py --workdir {shlex.quote(str(chosen.workdir))} --auto"
    )
    return 0


def _fields(config: Config) -> dict:
    """The parts of a config, by name."""
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(Config)}


@console.forgiving()
def _guarded(command: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Runs a command; bad input becomes one line and exit status 2.

    Signals that end a process unwind like Ctrl-C, so that half-written files are removed; during
    training all of them save first.
    """
    unwinding = [number for number in ENDING if number != signal.SIGINT]
    unwound = handled(lambda number, _: sys.exit(128 + number), unwinding)
    with unwound, platform.default_numbers():
        try:
            _check_current_folder()
            return command(arguments)
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
        from iamt_jax import processes

        processes.leave(status)


def _of_several(error: Exception) -> int:
    """What an unforeseen error means where other processes of the run wait for this one.

    Raises:
      Exception: it again, where this process is alone.
    """
    from iamt_jax import processes

    if not processes.several():
        raise error
    if processes.lost(error):
        words = " ".join(str(error).split())[:200]
        print(
            f"error: another process of this run is gone ({words}); start the same command on all "
            "again: it continues from the last checkpoint",
            file=sys.stderr,
        )
    else:
        traceback.print_exception(error)
    return 1
