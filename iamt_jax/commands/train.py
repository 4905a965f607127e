"""`python train.py`: trains a network, or continues a run."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from iamt_jax import xla_setup
from iamt_jax.checks import check
from iamt_jax.commands.flags import absolute, parse, take_preset
from iamt_jax.config import PRESETS, Config, Processes


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


def run(arguments: Sequence[str]) -> int:
    """Trains by flags; returns the exit status.

    Raises:
      InputError: bad flags, no data, or a workdir that cannot be used.
    """
    preset, rest = take_preset(arguments)
    default = TrainArguments(**_fields(PRESETS[preset]), workdir=tyro.MISSING)
    chosen = parse(TrainArguments, rest, "train.py", default)
    config = absolute(Config(**_fields(chosen)))
    check(config)
    xla_setup.prepare()

    from iamt_jax import distributed
    from iamt_jax.data.damaged import without_damaged
    from iamt_jax.data.open import open_source
    from iamt_jax.training.loop import Diverged, Interrupted, train_network

    distributed.start(chosen.processes, notices=True)
    dataset = distributed.first_then_rest(lambda: open_source(config.data))
    (records, left_out), (validation, _) = (
        distributed.together(
            lambda split=split: without_damaged(
                dataset.split(split),
                config.data.size,
                config.data.damaged_limit,
                distributed.share,
                distributed.gathered,
            )
        )
        for split in (config.data.train_split, "validation")
    )
    distributed.say(
        f"{dataset.root}: {dataset.layout}, {len(records):,} images to train on, "
        f"{len(validation):,} to validate, {len(dataset.attributes)} attributes"
    )
    try:
        train_network(config, chosen.workdir, records, validation, chosen.resume.allow, left_out)
    except Interrupted as stop:
        distributed.say(f"stopped by {stop} and saved; the same command continues from there")
        return 128 + stop.signal
    except Diverged as failure:
        distributed.say(f"error: {failure}", file=sys.stderr)
        return 1
    distributed.say(
        f"trained; now: python evaluate.py --workdir {shlex.quote(str(chosen.workdir))}"
    )
    return 0


def _fields(config: Config) -> dict:
    """The parts of a config, by name."""
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(Config)}
