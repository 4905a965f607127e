"""The folder of a run: its config and data set facts as JSON, its metrics as JSON lines."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iamt_jax.config import Config
from iamt_jax.errors import InputError
from iamt_jax.files import replace_text

RUN = "run.json"
METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class Run:
    """What evaluation must know of a training run."""

    config: Config
    attributes: tuple[str, ...]
    majority: tuple[bool, ...]
    """The commoner class of each attribute in the training split."""


def write_run(workdir: Path, run: Run) -> None:
    """Writes run.json, whole or not at all.

    Raises:
      InputError: the folder cannot be made or written.
    """
    text = json.dumps(dataclasses.asdict(run), indent=2) + "\n"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        replace_text(workdir / RUN, text)
    except OSError as error:
        raise InputError(
            f"--workdir {workdir}: cannot be written ({error.strerror}); name a folder of yours"
        ) from None


def read_run(workdir: Path) -> Run:
    """Reads run.json.

    Raises:
      InputError: there is none, or it is not one of ours.
    """
    path = workdir / RUN
    if not path.is_file():
        raise InputError(
            f"--workdir {workdir}: holds no {RUN}; train first, "
            f"with python train.py --workdir {workdir}"
        )
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return Run(
            _from_json(Config, fields["config"]),
            tuple(fields["attributes"]),
            tuple(bool(x) for x in fields["majority"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not a run of this version ({type(error).__name__}: {error}); "
            "restore the file, or train again in another folder"
        ) from None


def _from_json(kind: type, fields: dict[str, Any]) -> Any:
    """A dataclass from nested dicts; a field too many or too few is an error."""
    hints = {field.name: field for field in dataclasses.fields(kind)}
    if set(hints) != set(fields):
        raise KeyError(", ".join(sorted(set(hints) ^ set(fields))))
    values = {}
    for name, field in hints.items():
        default = field.default_factory() if callable(field.default_factory) else field.default
        value = fields[name]
        if dataclasses.is_dataclass(default):
            value = _from_json(type(default), value)
        values[name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def differences(old: Config, new: Config) -> list[str]:
    """Fields that differ, as `data.size 64 -> 128`."""

    def flat(fields: dict, prefix: str = "") -> dict[str, Any]:
        result = {}
        for name, value in fields.items():
            if isinstance(value, dict):
                result |= flat(value, f"{prefix}{name}.")
            else:
                result[prefix + name] = value
        return result

    before, after = flat(dataclasses.asdict(old)), flat(dataclasses.asdict(new))
    return [f"{k} {before[k]} -> {after[k]}" for k in before if before[k] != after[k]]
