"""Command-line flags: dataclasses filled by tyro, presets, one-line errors and bounds."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar, get_type_hints

import tyro

from iamt_jax.config import LARGEST_N, PRESETS, Config
from iamt_jax.errors import InputError, did_you_mean
from iamt_jax.files import expanded

_REWORDINGS = (
    (r"Error parsing (\S+): invalid literal .*: ('.*')", r"\1: found \2, expected a whole number"),
    (r"Error parsing (\S+): could not convert .*: ('.*')", r"\1: found \2, expected a number"),
    (
        r"Error parsing (\S+): no type matching \S+INT could be .*: '(.*?)'.*",
        r"\1: found '\2', expected a whole number",
    ),
    (
        r"Error parsing (\S+): no type matching \S+FLOAT could be .*: '(.*?)'.*",
        r"\1: found '\2', expected a number",
    ),
    (r"Missing value for argument '(\S+)'\. .*", r"\1: has no value; give one after it"),
)
"""Pattern of a message of tyro -> the message that replaces it."""

Arguments = TypeVar("Arguments")


def take_preset(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Separates `--preset NAME` from the other arguments; the default is `faces`.

    Raises:
      InputError: no such preset; the line names the most similar one.
    """
    name, rest = take_option(arguments, "--preset")
    name = "faces" if name is None else name
    if name not in PRESETS:
        hint = did_you_mean(name, PRESETS, "choose one of them")
        raise InputError(f"--preset: expected one of {', '.join(PRESETS)}, found {name!r}; {hint}")
    return name, rest


def take_option(arguments: Sequence[str], flag: str) -> tuple[str | None, list[str]]:
    """Separates `flag VALUE` or `flag=VALUE` from the other arguments; None if it is absent.

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
    """The config of a preset after flags are applied."""
    return parse(Config, arguments, program, PRESETS[preset])


def parse(
    kind: type[Arguments], arguments: Sequence[str], program: str, default: Arguments | None = None
) -> Arguments:
    """Fills a dataclass from flags by tyro, whose error boxes become one line.

    Raises:
      InputError: a flag is unknown (the line names the most similar one) or has a wrong value.
    """
    _refuse_mistakes(arguments, program)
    arguments = list(map(_expanded, arguments))
    if {"-h", "--help"} & set(arguments):
        return tyro.cli(kind, args=list(arguments), prog=program, default=default)
    # With an encoding, or tyro would draw its boxes in ASCII.
    errors = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True)
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(errors):
            return tyro.cli(kind, args=list(arguments), prog=program, default=default)
    except SystemExit:
        raise InputError(one_line(errors.buffer.getvalue().decode(), program)) from None


def _refuse_mistakes(arguments: Sequence[str], program: str) -> None:
    """Refuses empty values, URLs and tyro's own flags, which tyro would accept."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if argument.startswith("--tyro-"):
            raise InputError(f"{argument}: no such flag (python {program} --help lists all)")
        if argument.startswith("--") and argument.endswith("="):
            raise InputError(f"{argument}: its value is empty; give one")
        if not argument:
            raise InputError(
                f"{before}: its value is empty; give one"
                if before.startswith("--")
                else "'': an empty argument; leave it out"
            )
        if address := re.search(r"^(--\S+=)?([a-z0-9]+://.*)", argument):
            flag = (address[1] or before).rstrip("=").strip() or "argument"
            raise InputError(
                f"{flag} {address[2]}: is an address, expected a folder; mount the bucket and name "
                "the folder where it then lies (docs/reliability.md says what it keeps)"
            )


def _expanded(argument: str) -> str:
    """Expands `~` at the start of an argument or of the value after its `=`. Shells expand only the
    former; of all values only paths start with `~`."""
    flag, path = re.fullmatch(r"(--[^=]+=)?(.*)", argument, re.DOTALL).groups("")
    try:
        return flag + expanded(path)
    except InputError as error:
        raise InputError(f"{flag}{error}") from None


def one_line(box: str, program: str) -> str:
    """One line from tyro's error box: the problem, the most similar flag, the command for help."""
    rows = [row.strip("│ ").strip() for row in box.splitlines() if row.startswith("│")]
    rules = [i for i, row in enumerate(rows) if row and not row.strip("─")] + [len(rows)]
    problem = " ".join(rows[: rules[0]])
    if problem.startswith("Unrecognized options:"):
        flag = problem.removeprefix("Unrecognized options:").split(",")[0].strip()
        near = [row for row in rows[rules[0] :] if row.startswith("--")]
        hint = f"did you mean {near[0].split()[0]}?" if near else "no flag is like it"
        problem = f"{flag}: no such flag; {hint}"
        if not flag.startswith("-"):
            problem = (
                f"{flag!r}: unexpected argument; boolean flags take no value (--flag or --no-flag)"
            )
    elif problem.startswith("Missing from"):
        problem = "missing " + " ".join(w for w in problem.split() if w.startswith("--"))
    for pattern, better in _REWORDINGS:
        problem = re.sub(pattern, better, problem)
    return f"{problem.rstrip('.')} (python {program} --help lists all)"


def with_absolute_paths(config: Config) -> Config:
    """The config with absolute paths, since it may be read from another folder."""

    def absolute(path: str | None) -> str | None:
        return None if path is None else str(Path(path).resolve())

    return dataclasses.replace(
        config,
        data=dataclasses.replace(
            config.data, root=absolute(config.data.root), cache=absolute(config.data.cache)
        ),
        train=dataclasses.replace(config.train, init_from=absolute(config.train.init_from)),
    )


def as_flags(message: str) -> str:
    """Writes the arguments that a message names as flags: `train.batch_size` becomes
    --train.batch-size. Other words in backticks stay as they are."""

    def flag(found: re.Match) -> str:
        return f"--{found[1].replace('_', '-')}" if found[1] in _flag_names() else found[0]

    return re.sub(r"`([a-z0-9_.]+)`", flag, message)


@functools.cache
def _flag_names() -> frozenset[str]:
    """Names of the flags of all commands, such as train.batch_size."""
    from iamt_jax.commands.main import commands

    flags = (name for command in commands().values() for name in _field_names(command.flags))
    return frozenset({"preset", *flags})


def _field_names(kind: type, prefix: str = "") -> Iterator[str]:
    """Names of the fields of a dataclass and, dotted, of the dataclasses in it."""
    for name, hint in get_type_hints(kind, include_extras=False).items():
        if dataclasses.is_dataclass(hint):
            yield from _field_names(hint, f"{prefix}{name}.")
        else:
            yield prefix + name.rstrip("_")


def check_range(flag: str, value: float, low: float, high: float) -> None:
    """Refuses a number outside of [low, high], an infinity, or NaN."""
    if not (low <= value <= high and math.isfinite(value)):
        expected = f"at least {low}" if math.isinf(high) else f"from {low} to {high:.10g}"
        raise InputError(f"--{flag} {value}: must be a number {expected}")


def check_curve(n: float | None, beta: float | None, auto: bool) -> None:
    """Refuses a tone curve that Eq. 7 and 8 do not define, or one given beside --auto."""
    if n is not None:
        check_range("n", n, 0, LARGEST_N)
    if beta is not None:
        check_range("beta", beta, 0, 1)
    if auto and (n, beta) != (None, None):
        raise InputError("--auto: cannot be combined with --n or --beta")
