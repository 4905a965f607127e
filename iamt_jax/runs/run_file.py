"""The workdir of a run: its lock, and run.json with the config and facts about the data."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from iamt_jax.config import Config, check
from iamt_jax.errors import InputError, cannot_write, did_you_mean
from iamt_jax.files import json_text, replace_text

RUN = "run.json"
METRICS_FILE = "metrics.jsonl"
LOCK = ".lock"

_REMOVED = (("data", "erase"), ("train", "label_smoothing"))
"""Fields of earlier versions, which are read if they have their default, 0."""

_SPEED_ONLY = ("data.cache", "data.cache_gib")
"""Fields of the config that may change when a run is continued."""

_ADVICE = "name a folder of yours"
"""Advice where a workdir cannot be written."""


@dataclass(frozen=True)
class Run:
    """Settings and data of a training run, as run.json keeps them."""

    config: Config
    attributes: tuple[str, ...]
    majority: tuple[bool, ...]
    """More frequent class of each attribute in the training split."""
    images: int = 0
    """Number of training images; 0 in files of older versions, which did not count them."""
    left_out: tuple[str, ...] = ()
    """Training images that were left out because they are damaged (`data.damaged_limit`)."""
    history: tuple[str, ...] = ()
    """Changes of the config that `resume.allow` permitted, such as `train.steps 1000 -> 2000`."""


@contextlib.contextmanager
def workdir_lock(workdir: Path) -> Iterator[None]:
    """Makes the workdir if absent, and keeps other runs on this machine out of it.

    The operating system releases the lock when the process ends, in whatever way.

    Raises:
      InputError: another run holds the lock, or the folder cannot be made.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(workdir / LOCK, timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise InputError(
            f"`workdir` {workdir}: another run is writing into it (it holds {LOCK}); stop it, wait "
            "for it, or name another folder"
        ) from None
    except OSError as error:
        raise cannot_write(f"`workdir` {workdir}", error, _ADVICE) from None
    try:
        yield
    finally:
        lock.release()


def write_run(workdir: Path, run: Run) -> None:
    """Writes run.json atomically.

    Raises:
      InputError: the folder cannot be made or written.
    """
    text = json_text(dataclasses.asdict(run), indent=2) + "\n"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        replace_text(workdir / RUN, text)
    except OSError as error:
        raise cannot_write(f"`workdir` {workdir}", error, _ADVICE) from None


def read_run(workdir: Path) -> Run:
    """Reads run.json of this version or an earlier one; fields that it lacks get their defaults.

    Raises:
      InputError: the file is missing or invalid.
    """
    path = workdir / RUN
    if workdir.is_file():
        raise InputError(f"`workdir` {workdir}: is a file; name the folder that training wrote")
    if not path.is_file():
        raise InputError(
            f"`workdir` {workdir}: holds no {RUN}; train first, "
            f"with python train.py --workdir {shlex.quote(str(workdir))}"
        )
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(fields, dict):
            raise TypeError(f"it holds {type(fields).__name__}, expected an object")
        run = Run(
            _from_json(Config, _without_removed(fields["config"])),
            _list_of("", fields["attributes"], "attributes are not a list of names"),
            _list_of(True, fields["majority"], "majority is not a list of true and false"),
            int(fields.get("images", 0)),
            tuple(map(str, fields.get("left_out", ()))),
            tuple(map(str, fields.get("history", ()))),
        )
        if len(set(run.attributes)) < len(run.attributes):
            raise TypeError("attributes has a name twice")
    except Exception as error:  # Any JSON may be found in the place of any other.
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


def start_or_continue(
    workdir: Path, run: Run, allow: Sequence[str] = (), write: bool = True
) -> None:
    """Writes run.json of a new run, or checks that the workdir holds the same run and continues it.

    The run.json of a run without any checkpoint is replaced. Fields of the config that `allow`
    names may differ from those of the run that is continued. Without `write`, it only checks.

    Raises:
      InputError: the workdir holds a run with other attributes, images or settings than allowed.
    """
    allowed = _allowed_fields(allow)
    if (checkpoints := workdir / "checkpoints").exists() and not checkpoints.is_dir():
        raise InputError(f"{checkpoints}: is a file, expected a folder; move it away")
    if (workdir / RUN).exists() and any(checkpoints.glob("[0-9]*")):
        before = read_run(workdir)
        changed = differences(before.config, run.config)
        if refused := [text for name, text in changed.items() if name not in allowed]:
            raise InputError(
                f"`workdir` {workdir}: holds a run with other settings ({'; '.join(refused)}); "
                "give the same flags to continue it, name the fields after `resume.allow`, or "
                "give another folder"
            )
        if before.attributes != run.attributes:
            raise InputError(
                f"`workdir` {workdir}: holds a run with other attributes; name another folder"
            )
        # Older versions did not count images.
        if before.images and (before.images, before.left_out) != (run.images, run.left_out):
            raise InputError(
                f"`workdir` {workdir}: holds a run on {before.images:,} training images "
                f"({len(before.left_out)} left out), found {run.images:,} ({len(run.left_out)} "
                "left out); restore the data as it was, or name another folder"
            )
        run = dataclasses.replace(run, history=before.history + tuple(changed.values()))
        if run == before:
            return
    if write:
        write_run(workdir, run)


def differences(old: Config, new: Config) -> dict[str, str]:
    """Fields that differ: name -> change, such as `data.size 64 -> 128`."""
    before, after = _flat(dataclasses.asdict(old)), _flat(dataclasses.asdict(new))
    return {
        k: f"{k} {before[k]} -> {after[k]}"
        for k in before
        if before[k] != after[k] and k not in _SPEED_ONLY
    }


def _allowed_fields(allow: Sequence[str]) -> set[str]:
    """Fields of the config that `resume.allow` names, with hyphens or underscores."""
    known = _flat(dataclasses.asdict(Config()))
    names = [name.removeprefix("--").replace("-", "_") for name in allow]
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known, "give names such as train.steps")
            raise InputError(f"`resume.allow` {name}: is no field of the config; {hint}")
        if name.startswith("model."):
            raise InputError(
                f"`resume.allow` {name}: a run keeps its network; start another with "
                "`train.init_from`, or with fresh weights"
            )
    return set(names)


def _flat(fields: dict, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, with dotted names."""
    result = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            result |= _flat(value, f"{prefix}{name}.")
        else:
            result[prefix + name] = value
    return result


def _without_removed(config: dict[str, dict]) -> dict[str, dict]:
    """The config without fields of earlier versions that have their default, or that only changed
    the speed.

    Raises:
      ValueError: a field that changed results has another value.
    """
    config.get("data", {}).pop("workers", None)
    for part, name in _REMOVED:
        if value := config.get(part, {}).pop(name, 0):
            raise ValueError(f"{part}.{name} is {value!r}, a setting that was removed")
    return config


def _from_json(kind: type, fields: dict[str, Any]) -> Any:
    """A dataclass from nested dicts; an unknown field, or one of another type, is an error."""
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
    """Returns True if a JSON value has the type of a field's default."""
    if default is None:
        return value is None or isinstance(value, str)
    if isinstance(default, tuple):
        return isinstance(value, list) and all(_alike(x, default[0]) for x in value)
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(default)


def _list_of(example: Any, values: Any, otherwise: str) -> tuple:
    """The values if they are a list of the type of `example`; else a TypeError says `otherwise`."""
    if not _alike(values, (example,)):
        raise TypeError(otherwise)
    return tuple(values)
