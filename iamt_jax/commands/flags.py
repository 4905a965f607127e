"""Command-line flags: dataclasses filled by tyro, presets, one-line errors and bounds."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import inspect
import io
import itertools
import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, TypeVar, get_type_hints

import tyro

from iamt_jax.config import LARGEST_N, PRESETS, Config
from iamt_jax.errors import InputError, did_you_mean
from iamt_jax.files import expanded
from iamt_jax.robust import require_calibration
from iamt_jax.runs.run_file import Run, read_run

_WIDTH = 80
"""Columns of the help texts."""

Workdir = Annotated[Path, tyro.conf.arg(aliases=("--model",))]
"""A workdir that a command reads; predict calls it a model, so that this name works everywhere."""


def _choice(found: re.Match) -> str:
    """Message for a value that is none of the choices, with the most similar one."""
    value, flag, choices = found[1], found[2], re.findall(r"'(.*?)'", found[3])
    hint = did_you_mean(value, choices, "choose one of them")
    return f"{flag}: expected one of {', '.join(choices)}, found {value!r}; {hint}"


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
    (r"invalid choice '(.*)' for argument '(\S+)'\. Expected one of \((.*)\)", _choice),
    (r"Missing value for argument '(\S+)'\. .*", r"\1: has no value; give one after it"),
)
"""Pattern of a message of tyro -> the message that replaces it, or a function that makes it."""

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
        _unwrap_docstrings(kind)
        # An indented line is not joined with the one before it.
        text = " ".join(inspect.getdoc(kind).split())
        indents = {"initial_indent": "  ", "subsequent_indent": "  "}
        about = textwrap.fill(text, _WIDTH, break_on_hyphens=False, **indents)
        name = f"python {program}"
        return tyro.cli(kind, args=arguments, prog=name, default=default, description=about)
    # With an encoding, or tyro would draw its boxes in ASCII.
    errors = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True)
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(errors):
            return tyro.cli(kind, args=arguments, prog=program, default=default)
    except SystemExit:
        box = errors.buffer.getvalue().decode()
        raise InputError(one_line(box, program, list(_field_names(kind)))) from None


def _unwrap_docstrings(kind: type) -> None:
    """Gives tyro the docstring of each field in one line; it keeps line breaks of the source."""
    texts = {}
    for part in reversed(kind.__mro__[:-1]):  # Without `object`.
        body = ast.parse(textwrap.dedent(inspect.getsource(part))).body[0].body
        for field, after in itertools.pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr):
                texts[field.target.id] = " ".join(ast.literal_eval(after.value).split())
    for field in dataclasses.fields(kind):
        if field.name in texts:
            field.metadata = {"help": texts[field.name]}
    for hint in get_type_hints(kind).values():
        if dataclasses.is_dataclass(hint):
            _unwrap_docstrings(hint)


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


def one_line(box: str, program: str, known: Sequence[str]) -> str:
    """One line from tyro's error box: the problem, the most similar flag, the command for help.

    Args:
      box: output of tyro.
      program: the command, for the hint at its help.
      known: names of its flags, such as train.batch_size.
    """
    rows = [row.strip("│ ").strip() for row in box.splitlines() if row.startswith("│")]
    rules = [i for i, row in enumerate(rows) if row and not row.strip("─")] + [len(rows)]
    problem = " ".join(rows[: rules[0]])
    if problem.startswith("Unrecognized options:"):
        flag = problem.removeprefix("Unrecognized options:").split(",")[0].strip()
        near = _abbreviated(flag, known)
        near += [row.split()[0] for row in rows[rules[0] :] if row.startswith("--")]
        hint = f"did you mean {near[0]}?" if near else "no flag is like it"
        problem = f"{flag}: no such flag; {hint}"
        if not flag.startswith("-"):
            problem = (
                f"{flag!r}: unexpected argument; boolean flags take no value (--flag or --no-flag)"
            )
    elif problem.startswith("Missing from"):
        flags = {f"--{name.replace('_', '-')}" for name in known}  # Without their other names.
        problem = "missing " + " ".join(word for word in problem.split() if word in flags)
    for pattern, better in _REWORDINGS:
        problem = re.sub(pattern, better, problem)
    return f"{problem.rstrip('.')} (python {program} --help lists all)"


def _abbreviated(flag: str, known: Sequence[str]) -> list[str]:
    """Flags that an unknown one may stand for: --lr for --train.learning-rate, --steps for
    --train.steps."""
    last = flag.removeprefix("--").replace("-", "_").rpartition(".")[2]

    def names(field: str) -> set[str]:
        words = field.split("_")
        return {field, "".join(word[0] for word in words)} if len(words) > 1 else {field}

    return [
        f"--{name.replace('_', '-')}" for name in known if last in names(name.rpartition(".")[2])
    ]


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
    return frozenset(flags)


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


def check_workdir(workdir: Path, auto: bool = False) -> Run:
    """Reads run.json, without starting JAX or loading a checkpoint; returns its content.

    Args:
      workdir: folder of the run.
      auto: whether the command needs its calibration.

    Raises:
      InputError: there is no run, or no calibration.
    """
    run = read_run(workdir)
    if auto:
        require_calibration(workdir)
    return run


def check_curve(n: float | None, beta: float | None, auto: bool) -> None:
    """Refuses a tone curve that Eq. 7 and 8 do not define, or one given beside --auto."""
    if n is not None:
        check_range("n", n, 0, LARGEST_N)
    if beta is not None:
        check_range("beta", beta, 0, 1)
    if auto and (n, beta) != (None, None):
        raise InputError("--auto: cannot be combined with --n or --beta")
