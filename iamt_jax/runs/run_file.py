"""The folder of a run: who owns it, and its config and data set facts as JSON."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from iamt_jax.checks import check
from iamt_jax.config import Config
from iamt_jax.errors import InputError
from iamt_jax.files import json_text, replace_text

RUN = "run.json"
METRICS = "metrics.jsonl"
LOCK = ".lock"


@dataclass(frozen=True)
class Run:
    """What evaluation must know of a training run."""

    config: Config
    attributes: tuple[str, ...]
    majority: tuple[bool, ...]
    """The commoner class of each attribute in the training split."""
    images: int = 0
    """Training images; 0 where an older version did not count them."""
    left_out: tuple[str, ...] = ()
    """Training images that were damaged (`data.damaged_limit`)."""
    history: tuple[str, ...] = ()
    """Changes of the config that were allowed on the way, as `train.steps 1000 -> 2000`."""


@contextlib.contextmanager
def owned(workdir: Path) -> Iterator[None]:
    """Within it, no other run on this machine may write into the workdir, which is made if absent.

    The lock is the operating system's: it ends with the process, however that ends.

    Raises:
      InputError: another run has it, or the folder cannot be made.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(workdir / LOCK, timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise InputError(
            f"--workdir {workdir}: another run is writing into it (it holds {LOCK}); stop it, wait "
            "for it, or name another folder"
        ) from None
    except OSError as error:
        raise _unwritable(workdir, error) from None
    try:
        yield
    finally:
        lock.release()


def write_run(workdir: Path, run: Run) -> None:
    """Writes run.json, whole or not at all.

    Raises:
      InputError: the folder cannot be made or written.
    """
    text = json_text(dataclasses.asdict(run), indent=2) + "\n"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        replace_text(workdir / RUN, text)
    except OSError as error:
        raise _unwritable(workdir, error) from None


def read_run(workdir: Path) -> Run:
    """Reads run.json. A field that it lacks, because it is older, has its default.

    Raises:
      InputError: there is none, or it is not one of ours.
    """
    path = workdir / RUN
    if workdir.is_file():
        raise InputError(f"--workdir {workdir}: is a file; name the folder that training wrote")
    if not path.is_file():
        raise InputError(
            f"--workdir {workdir}: holds no {RUN}; train first, "
            f"with python train.py --workdir {shlex.quote(str(workdir))}"
        )
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(fields, dict):
            raise TypeError(f"it holds {type(fields).__name__}, expected an object")
        run = Run(
            _from_json(Config, fields["config"]),
            _names(fields["attributes"]),
            _booleans(fields["majority"]),
            int(fields.get("images", 0)),
            tuple(map(str, fields.get("left_out", ()))),
            tuple(map(str, fields.get("history", ()))),
        )
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
        OSError,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: not a run of this version ({type(error).__name__}: {reason}); "
            "restore the file, or train again in another folder"
        ) from None
    try:
        check(run.config)
    except InputError as error:
        raise InputError(f"{path}: {error}; restore the file, or train again") from None
    if len(run.majority) != len(run.attributes):
        raise InputError(
            f"{path}: has {len(run.attributes)} attributes, but {len(run.majority)} majority "
            "classes; restore the file, or train again in another folder"
        )
    return run


def begin(workdir: Path, run: Run, allow: Sequence[str] = (), write: bool = True) -> None:
    """Makes the workdir this run's, or checks that it is this run's already.

    A run that never saved anything left nothing to protect: it is replaced.

    Args:
      workdir: of the run.
      run: what is to run.
      allow: fields of the config that may differ from those of the run that is continued.
      write: False only checks.

    Raises:
      InputError: it holds a run with other attributes, or with other settings than allowed.
    """
    allowed = _fields(allow)
    if (checkpoints := workdir / "checkpoints").exists() and not checkpoints.is_dir():
        raise InputError(f"{checkpoints}: is a file, expected a folder; move it away")
    if (workdir / RUN).exists() and any(checkpoints.glob("[0-9]*")):
        before = read_run(workdir)
        changed = differences(before.config, run.config)
        if refused := [text for name, text in changed.items() if name not in allowed]:
            raise InputError(
                f"--workdir {workdir}: holds a run with other settings ({'; '.join(refused)}); "
                "give the same flags to continue it, name the fields after --resume.allow, or "
                "give another folder"
            )
        if before.attributes != run.attributes:
            raise InputError(
                f"--workdir {workdir}: holds a run with other attributes; name another folder"
            )
        # Older runs did not count them.
        if before.images and (before.images, before.left_out) != (run.images, run.left_out):
            raise InputError(
                f"--workdir {workdir}: holds a run on {before.images:,} training images "
                f"({len(before.left_out)} left out), found {run.images:,} ({len(run.left_out)} "
                "left out); restore the data as it was, or name another folder"
            )
        run = dataclasses.replace(run, history=before.history + tuple(changed.values()))
        if run == before:
            return
    if write:
        write_run(workdir, run)


def differences(old: Config, new: Config) -> dict[str, str]:
    """Fields that differ: name -> `data.size 64 -> 128`."""
    before, after = _flat(dataclasses.asdict(old)), _flat(dataclasses.asdict(new))
    return {k: f"{k} {before[k]} -> {after[k]}" for k in before if before[k] != after[k]}


def _fields(allow: Sequence[str]) -> set[str]:
    """The config's fields that --resume.allow names, in either spelling."""
    known = _flat(dataclasses.asdict(Config()))
    names = [name.removeprefix("--").replace("-", "_") for name in allow]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "give names such as train.steps"
            raise InputError(f"--resume.allow {name}: is no field of the config; {hint}")
        if name.startswith("model."):
            raise InputError(
                f"--resume.allow {name}: a run keeps its network; start another with "
                "--train.init-from, or with fresh weights"
            )
    return set(names)


def _flat(fields: dict, prefix: str = "") -> dict[str, Any]:
    result = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            result |= _flat(value, f"{prefix}{name}.")
        else:
            result[prefix + name] = value
    return result


def _from_json(kind: type, fields: dict[str, Any]) -> Any:
    """A dataclass from nested dicts; a field too many, or of another type, is an error."""
    hints = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := sorted(set(fields) - set(hints)):
        raise KeyError(", ".join(unknown))
    values = {}
    for name, value in fields.items():
        field = hints[name]
        default = field.default_factory() if callable(field.default_factory) else field.default
        if dataclasses.is_dataclass(default):
            value = _from_json(type(default), value)
        elif not _alike(value, default):
            raise TypeError(f"{name} is {value!r}, expected something like {default!r}")
        values[name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def _alike(value: Any, default: Any) -> bool:
    if default is None:
        return value is None or isinstance(value, str)
    if isinstance(default, tuple):
        return isinstance(value, list) and all(_alike(x, default[0]) for x in value)
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(default)


def _names(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(x, str) for x in values):
        raise TypeError("attributes are not a list of names")
    if len(set(values)) < len(values):
        raise TypeError("attributes has a name twice")
    return tuple(values)


def _booleans(values: Any) -> tuple[bool, ...]:
    if not isinstance(values, list) or not all(isinstance(x, bool) for x in values):
        raise TypeError("majority is not a list of true and false")
    return tuple(values)


def _unwritable(workdir: Path, error: OSError) -> InputError:
    return InputError(
        f"--workdir {workdir}: cannot be written ({error.strerror}); name a folder of yours"
    )
