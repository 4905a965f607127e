"""The command `train`: trains a network, or continues a run."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from iamt_jax import xla_setup
from iamt_jax.commands.flags import parse, take_preset, with_absolute_paths
from iamt_jax.config import PRESETS, Config, Processes, check
from iamt_jax.errors import InputError


@dataclass(frozen=True)
class Resume:
    """Settings that may change when a run is continued."""

    allow: tuple[str, ...] = ()
    """Fields of the config, such as train.steps, that may differ; others are refused if they do."""


@dataclass(frozen=True)
class TrainArguments(Config):
    """Trains a network, or continues the run in the workdir."""

    workdir: Path = tyro.MISSING
    """Folder for the config, metrics and checkpoints of the run."""
    preset: tyro.extras.literal_type_from_choices(PRESETS) = "faces"
    """Sets the defaults of the other flags; --preset NAME --help shows them."""
    dry_run: bool = False
    """Train nothing: check every image's header, compile the step, and print what the run will be:
    images, steps, cache, parameters, memory, FLOP and an estimate of the time."""
    for_: Annotated[str | None, tyro.conf.arg(name="for")] = None
    """With --dry-run, compile for a TPU that is not there: v5e or v6e, or with the number of chips,
    v5e-4. It needs libtpu (pip install 'jax[tpu]')."""
    resume: Resume = Resume()
    processes: Processes = Processes()


def run_train(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    preset, rest = take_preset(arguments)
    default = TrainArguments(**_fields(PRESETS[preset]), workdir=tyro.MISSING, preset=preset)
    chosen = parse(TrainArguments, rest, "train.py", default)
    config = with_absolute_paths(Config(**_fields(chosen)))
    check(config)
    if chosen.for_ and not chosen.dry_run:
        raise InputError("--for: only --dry-run compiles for other devices; add it, or leave --for")
    if chosen.dry_run and chosen.processes != Processes():
        raise InputError("--dry-run: cannot be combined with --processes; it runs in one process")
    if chosen.for_:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")  # libtpu would look for a TPU of its own.
    xla_setup.prepare()

    from iamt_jax import distributed
    from iamt_jax.data.cache import cached
    from iamt_jax.data.open import open_source, without_damaged
    from iamt_jax.training.loop import Diverged, Interrupted, train_network

    distributed.initialize(chosen.processes, preemption_notices=True)
    if chosen.dry_run:
        from iamt_jax.training.dry_run import devices_here, devices_of, dry_run

        # A wrong name is refused before any data are read.
        target = devices_of(chosen.for_) if chosen.for_ else devices_here(config.model.dtype)
        dry_run(config, open_source(config.data), target)
        return 0
    dataset = distributed.run_on_first_then_rest(lambda: open_source(config.data))
    (records, left_out), (validation, _) = (
        distributed.run_on_all(
            lambda images=images: without_damaged(
                images,
                config.data.size,
                config.data.damaged_limit,
                distributed.shard_indices,
                distributed.gather,
            )
        )
        for images in distributed.run_on_first_then_rest(
            lambda: [
                cached(dataset.split(split), config.data)
                for split in (config.data.train_split, "validation")
            ]
        )
    )
    distributed.print_once(
        f"{dataset.root}: {dataset.layout}, {len(records):,} images to train on, "
        f"{len(validation):,} to validate, {len(dataset.attributes)} attributes"
    )
    places = config.data.size // config.model.stride
    distributed.print_once(
        f"features: {places} x {places} positions, {config.model.widths[-1]} channels; each "
        f"position depends on {config.model.receptive_field} of {config.data.size} px"
    )
    try:
        train_network(config, chosen.workdir, records, validation, chosen.resume.allow, left_out)
    except Interrupted as stop:
        distributed.print_once(
            f"stopped by {stop} and saved; the same command continues from there"
        )
        return 128 + stop.signal
    except Diverged as failure:
        distributed.print_once(f"error: {failure}", file=sys.stderr)
        return 1
    distributed.print_once(
        f"trained; now: python evaluate.py --workdir {shlex.quote(str(chosen.workdir))}"
    )
    return 0


def _fields(config: Config) -> dict:
    """The parts of a config, by name."""
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(Config)}
