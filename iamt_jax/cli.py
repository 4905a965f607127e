"""The command line: flags in, exit status out; it only orchestrates."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import math
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import tyro

from iamt_jax.config import PRESETS, Config, check
from iamt_jax.errors import InputError

Arguments = TypeVar("Arguments")


@dataclass(frozen=True)
class TrainArguments(Config):
    """Trains a network, or continues the run that the workdir holds.

    `--preset faces` (default), `small`, `celeba` or `debug` sets what the other flags change.
    """

    workdir: Path = tyro.MISSING
    """Folder for the config, metrics and checkpoints of the run."""


@dataclass(frozen=True)
class OtherData:
    """Where else to evaluate."""

    root: str | None = None
    """Another data set with the same attributes; by default the one trained on."""


@dataclass(frozen=True)
class EvaluateArguments:
    """Measures a trained network: a table, metrics.json, metrics.csv and metrics.md."""

    workdir: Path = tyro.MISSING
    """Folder that training wrote."""
    n: float = 1.0
    """Power of the tone curve, n >= 0; 1 with beta 0 leaves the masks as they are."""
    beta: float = 0.0
    """Offset of the tone curve, 0 <= beta <= 1."""
    sigma: float = 0.0
    """Standard deviation of Gaussian noise on the network's input, [0, 1] pixel units."""
    clip_noise: bool = False
    """Cut noisy images to [0, 1]."""
    split: str = "test"
    """train, validation, test or train+validation."""
    batch_size: int = 128
    """Images at a time; it changes nothing but the speed."""
    seed: int = 0
    """Seed of the noise and of the bootstrap."""
    bootstrap: int = 1000
    """Resamples of the 95 % intervals; 0 leaves the intervals out."""
    data: OtherData = OtherData()
    out: Path | None = None
    """Folder for the results; by default WORKDIR/evaluation."""


def train(arguments: Sequence[str] | None = None) -> int:
    """`python train.py`: returns the exit status."""
    return _guarded(_train, sys.argv[1:] if arguments is None else arguments)


def evaluate(arguments: Sequence[str] | None = None) -> int:
    """`python evaluate.py`: returns the exit status."""
    return _guarded(_evaluate, sys.argv[1:] if arguments is None else arguments)


def _train(arguments: Sequence[str]) -> int:
    preset, rest = take_preset(arguments)
    default = TrainArguments(**_fields(PRESETS[preset]), workdir=tyro.MISSING)
    chosen = parse(TrainArguments, rest, "train.py", default)
    config = absolute(Config(**_fields(chosen)))
    check(config)
    prepare_jax()

    from iamt_jax.data.source import open_source
    from iamt_jax.training.loop import Diverged, Interrupted, train

    dataset = open_source(config.data)
    records, validation = dataset.split(config.data.train_split), dataset.split("validation")
    print(
        f"{dataset.root}: {dataset.layout}, {len(records):,} images to train on, "
        f"{len(validation):,} to validate, {len(dataset.attributes)} attributes"
    )
    try:
        train(config, chosen.workdir, records, validation)
    except Interrupted as stop:
        print(f"stopped by {stop} and saved; the same command continues from there")
        return 128 + stop.signal
    except Diverged as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    print(f"trained; now: python evaluate.py --workdir {chosen.workdir}")
    return 0


def _evaluate(arguments: Sequence[str]) -> int:
    chosen = parse(EvaluateArguments, arguments, "evaluate.py")
    check_curve(chosen.n, chosen.beta)
    check_range("sigma", chosen.sigma, 0, 10)
    check_range("seed", chosen.seed, 0, math.inf)
    check_range("batch-size", chosen.batch_size, 1, math.inf)
    check_range("bootstrap", chosen.bootstrap, 0, math.inf)
    prepare_jax()

    from iamt_jax.data.attributes import CELEBA_ATTRIBUTES
    from iamt_jax.data.source import RENDERED
    from iamt_jax.evaluation.run import evaluate_workdir
    from iamt_jax.prediction import Setting
    from iamt_jax.report.paper import TABLE_4
    from iamt_jax.report.tables import print_table, write_tables

    out = chosen.out or chosen.workdir / "evaluation"
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is a file; name a folder")
    report = evaluate_workdir(
        chosen.workdir,
        Setting(chosen.n, chosen.beta, chosen.sigma, chosen.clip_noise, chosen.seed),
        split=chosen.split,
        root=chosen.data.root,
        batch_size=chosen.batch_size,
        bootstrap=chosen.bootstrap,
    )
    # Synthetic faces bear CelebA's attribute names too, but its published numbers say nothing
    # of them.
    photographs = report["provenance"]["layout"] != RENDERED
    beside = TABLE_4 if photographs and set(report["attributes"]) == set(CELEBA_ATTRIBUTES) else ()
    print_table(report, beside)
    try:
        written = write_tables(report, out, beside)
    except OSError as error:
        raise InputError(
            f"--out {out}: cannot be written ({error.strerror}); name a folder of yours"
        ) from None
    average = report["average"]
    print(
        f"average accuracy {percent(average['accuracy'])} (majority "
        f"{percent(average['majority_accuracy'])}), average precision "
        f"{percent(average['average_precision'])}; wrote {written[0].parent}"
    )
    return 0


def percent(fraction: float | None) -> str:
    """A fraction for people; undefined is a dash."""
    return "-" if fraction is None else f"{fraction:.2%}"


def take_preset(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Splits `--preset NAME` off the arguments; `faces` without one.

    Raises:
      InputError: no such preset; the line names the nearest.
    """
    name, rest = take_option(arguments, "--preset")
    if name is None:
        name = "faces"
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {near[0]}?" if near else "choose one of them"
        raise InputError(f"--preset: expected one of {', '.join(PRESETS)}, found {name!r}; {hint}")
    return name, rest


def take_option(arguments: Sequence[str], flag: str) -> tuple[str | None, list[str]]:
    """Splits `flag VALUE`, or `flag=VALUE`, off the arguments; None without it.

    Raises:
      InputError: the flag has no value.
    """
    value, rest, waiting = None, [], False
    for argument in arguments:
        if waiting:
            value, waiting = argument, False
        elif argument == flag:
            waiting = True
        elif argument.startswith(f"{flag}="):
            value = argument.removeprefix(f"{flag}=")
        else:
            rest.append(argument)
    if waiting:
        raise InputError(f"{flag}: has no value; give one after it")
    return value, rest


def train_config(preset: str, arguments: Sequence[str], program: str) -> Config:
    """A preset changed by flags.

    Raises:
      InputError: as `parse`.
    """
    return parse(Config, arguments, program, PRESETS[preset])


def parse(
    kind: type[Arguments], arguments: Sequence[str], program: str, default: Arguments | None = None
) -> Arguments:
    """Flags to a dataclass by tyro, whose error boxes become one line.

    Raises:
      InputError: an unknown flag (the line names the nearest), or a value that does not fit.
    """
    if {"-h", "--help"} & set(arguments):
        return tyro.cli(kind, args=list(arguments), prog=program, default=default)
    # An encoding, or tyro draws its boxes in ASCII.
    errors = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(errors):
            return tyro.cli(kind, args=list(arguments), prog=program, default=default)
    except SystemExit:
        raise InputError(one_line(errors.buffer.getvalue().decode(), program)) from None


def one_line(box: str, program: str) -> str:
    """The gist of tyro's error box: what is wrong, the nearest flag, where to look."""
    rows = [row.strip("│ ").strip() for row in box.splitlines() if row.startswith("│")]
    rules = [i for i, row in enumerate(rows) if row and not row.strip("─")] + [len(rows)]
    problem = " ".join(rows[: rules[0]])
    if problem.startswith("Unrecognized options:"):
        flag = problem.removeprefix("Unrecognized options:").split(",")[0].strip()
        near = [row for row in rows[rules[0] :] if row.startswith("--")]
        hint = f"did you mean {near[0].split()[0]}?" if near else "no flag is like it"
        problem = f"{flag}: no such flag; {hint}"
        if not flag.startswith("-"):
            problem = f"{flag}: belongs to no flag; a switch takes no value (--flag or --no-flag)"
    elif problem.startswith("Missing from"):
        problem = "missing " + " ".join(w for w in problem.split() if w.startswith("--"))
    return f"{problem.rstrip('.')} (python {program} --help lists all)"


def absolute(config: Config) -> Config:
    """The config with whole paths: it is read again from other folders."""

    def whole(path: str | None) -> str | None:
        return None if path is None else str(Path(path).expanduser().resolve())

    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, root=whole(config.data.root)),
        train=dataclasses.replace(config.train, init_from=whole(config.train.init_from)),
    )


def check_range(flag: str, value: float, low: float, high: float) -> None:
    """Refuses a number outside [low, high], infinity, or NaN."""
    if not (low <= value <= high and math.isfinite(value)):
        expected = f"at least {low}" if math.isinf(high) else f"from {low} to {high}"
        raise InputError(f"--{flag} {value}: must be a number {expected}")


def check_curve(n: float, beta: float) -> None:
    """Refuses a tone curve that Eq. 7 and 8 do not define."""
    check_range("n", n, 0, math.inf)
    check_range("beta", beta, 0, 1)


def prepare_jax() -> None:
    """Settings that must stand before JAX starts."""
    from iamt_jax import platform

    platform.prepare()


def _fields(config: Config) -> dict:
    """The parts of a config, by name."""
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(Config)}


def _guarded(command: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Runs a command; bad input becomes one line and exit status 2.

    SIGTERM unwinds like Ctrl-C, so that half-written files are removed; during training both
    save first.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        return command(arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; what was saved before stays", file=sys.stderr)
        return 130
