"""Wrong flags, presets and commands, which are found before any file is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cli

from corpus import Case, Place, evaluated, plain, trained
from iamt_jax.degradation.severities import FAMILIES


def alone(*arguments: object) -> Callable[[Place], Sequence[object]]:
    """Flags of a multi-process run that are refused before the other processes are looked for."""
    return trained("--preset", "debug", *arguments)


CASES = (
    Case(
        "train: unknown flag",
        trained("--train.stps", 3),
        cli.train,
        "--train.stps: no such flag; did you mean --train.steps? (python train.py --help lists "
        "all)",
    ),
    Case(
        "train: a flag like no other",
        trained("--colour-scheme", "dark"),
        cli.train,
        "--colour-scheme: no such flag; no flag is like it (python train.py --help lists all)",
    ),
    Case(
        "train: a word too many",
        trained("celeba"),
        cli.train,
        "'celeba': unexpected argument; boolean flags take no value (--flag or --no-flag) (python "
        "train.py --help lists all)",
    ),
    Case(
        "train: a flag without a value",
        trained("--train.steps"),
        cli.train,
        "--train.steps: has no value; give one after it (python train.py --help lists all)",
    ),
    Case(
        "train: an empty workdir",
        plain("--workdir", ""),
        cli.train,
        "--workdir: its value is empty; give one",
    ),
    Case(
        "train: not a number",
        trained("--train.steps", "many"),
        cli.train,
        "--train.steps: found 'many', expected a whole number (python train.py --help lists all)",
    ),
    Case(
        "train: not a whole number",
        trained("--train.steps", "1e3"),
        cli.train,
        "--train.steps: found '1e3', expected a whole number (python train.py --help lists all)",
    ),
    Case(
        "train: not a choice",
        trained("--model.norm", "layer"),
        cli.train,
        "--model.norm: expected one of batch, group, found 'layer'; choose one of them (python "
        "train.py --help lists all)",
    ),
    Case(
        "train: a value for a switch",
        trained("--data.flip", "yes"),
        cli.train,
        "'yes': unexpected argument; boolean flags take no value (--flag or --no-flag) (python "
        "train.py --help lists all)",
    ),
    Case(
        "train: unknown preset",
        trained("--preset", "smal"),
        cli.train,
        "--preset: expected one of faces, small, celeba, paper, debug, found 'smal'; did you mean "
        "small?",
    ),
    Case(
        "train: a preset like no other",
        trained("--preset", "x"),
        cli.train,
        "--preset: expected one of faces, small, celeba, paper, debug, found 'x'; choose one of "
        "them",
    ),
    Case(
        "train: preset without a name",
        trained("--preset"),
        cli.train,
        "--preset: has no value; give one after it",
    ),
    Case(
        "train: no workdir",
        plain("--preset", "debug"),
        cli.train,
        "missing --workdir (python train.py --help lists all)",
    ),
    Case(
        "train: processes without a coordinator",
        trained("--processes.count", 2),
        cli.train,
        "--processes.coordinator: missing beside --processes.count and --processes.index; give "
        "HOST:PORT of process 0, or leave all three out",
    ),
    Case(
        "train: a coordinator without a port",
        alone("--processes.coordinator", "here"),
        cli.train,
        "--processes.coordinator here: expected HOST:PORT of process 0, such as 10.0.0.1:1234, "
        "or auto",
    ),
    Case(
        "train: a coordinator without a count",
        alone("--processes.coordinator", "here:1"),
        cli.train,
        "--processes.count: missing beside --processes.coordinator; give all three, or "
        "--processes.coordinator auto",
    ),
    Case(
        "train: a process beyond the count",
        alone("--processes.coordinator", "here:1", "--processes.count", 2, "--processes.index", 2),
        cli.train,
        "--processes.index 2: expected this process's number, from 0 to 1",
    ),
    Case(
        "evaluate: unknown flag",
        evaluated("--btea", 1),
        cli.evaluate,
        "--btea: no such flag; did you mean --beta? (python evaluate.py --help lists all)",
    ),
    Case(
        "evaluate: not a number",
        evaluated("--n", "four"),
        cli.evaluate,
        "--n: found 'four', expected a number (python evaluate.py --help lists all)",
    ),
    Case(
        "evaluate: no workdir",
        plain(),
        cli.evaluate,
        "missing --workdir (python evaluate.py --help lists all)",
    ),
    Case(
        "evaluate: an empty workdir",
        plain("--workdir", ""),
        cli.evaluate,
        "--workdir: its value is empty; give one",
    ),
    Case(
        "evaluate: an empty out",
        evaluated("--out", ""),
        cli.evaluate,
        "--out: its value is empty; give one",
    ),
    Case(
        "evaluate: explain in many processes",
        evaluated("--explain", "--processes.coordinator", "here:1"),
        cli.evaluate,
        "--processes.coordinator: --explain and --report run in one process; leave it out",
    ),
    Case(
        "evaluate: a batch larger than any memory",
        evaluated("--batch-size", 10**9),
        cli.evaluate,
        "",
        0,
    ),
    Case(
        "evaluate: unknown degradation",
        evaluated("--degrade", "motion"),
        cli.evaluate,
        f"--degrade: expected one of none, {', '.join(FAMILIES)}, found 'motion'; did you mean "
        "motion_blur? (python evaluate.py --help lists all)",
    ),
    Case(
        "evaluate: degradation and noise",
        evaluated("--degrade", "fog", "--sigma", 0.1),
        cli.evaluate,
        "--degrade: cannot be combined with --sigma or --clip-noise",
    ),
    Case(
        "evaluate: severity without a degradation",
        evaluated("--severity", 2),
        cli.evaluate,
        "--severity: has no effect without --degrade; name a family there",
    ),
    Case(
        "evaluate: auto and n",
        evaluated("--auto", "--n", 4),
        cli.evaluate,
        "--auto: cannot be combined with --n or --beta",
    ),
    Case(
        "evaluate: auto and beta",
        evaluated("--auto", "--beta", 0.5),
        cli.evaluate,
        "--auto: cannot be combined with --n or --beta",
    ),
    Case(
        "calibrate: no workdir",
        plain(),
        cli.calibrate,
        "missing --workdir (python -m iamt_jax calibrate --help lists all)",
    ),
    Case(
        "calibrate: an empty workdir",
        plain("--workdir", ""),
        cli.calibrate,
        "--workdir: its value is empty; give one",
    ),
    Case(
        "calibrate: unknown flag",
        trained("--image", 300),
        cli.calibrate,
        "--image: no such flag; did you mean --images? (python -m iamt_jax calibrate --help "
        "lists all)",
    ),
    Case(
        "main: no command",
        plain(),
        cli.main,
        "no command; give one of train, evaluate, calibrate, predict, explore, export",
    ),
    Case(
        "main: unknown command",
        plain("calibrat"),
        cli.main,
        "calibrat: no such command; did you mean calibrate?",
    ),
    Case(
        "main: a command like no other",
        plain("fly"),
        cli.main,
        "fly: no such command; expected one of train, evaluate, calibrate, predict, explore, "
        "export",
    ),
    Case(
        "main: a flag for a command",
        plain("--workdir", "W"),
        cli.main,
        "--workdir: no such command; expected one of train, evaluate, calibrate, predict, explore, "
        "export",
    ),
)
