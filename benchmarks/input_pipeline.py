"""Measures whether the input pipeline feeds the training step: images/s of both, in one run.

    python benchmarks/input_pipeline.py --preset small --data.root DIR [--json PATH]

Prints images a second of the pipeline alone (second epoch, when what fits is decoded; and the
first, which decodes), of the training step alone on all devices, and their ratio, which must be
at least 2.
"""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter

import jax
import measure

from iamt_jax.commands.flags import take_option, take_preset, train_config
from iamt_jax.data.batches import Batch, training_batches
from iamt_jax.data.open import open_source
from iamt_jax.training.step import create, pmapped, train_step
from iamt_jax.xla_setup import prepare

REPEATS = 20
"""Timed training steps; the median is taken."""


def main(arguments: list[str]) -> None:
    """Times both sides."""
    path, arguments = take_option(arguments, "--json")
    preset, arguments = take_preset(arguments)
    config = train_config(preset, arguments, "benchmarks/input_pipeline.py")
    prepare()
    records = open_source(config.data).split("train")
    size = config.train.batch_size
    epoch = len(records) // size

    batches = training_batches(records, config.data.size, config.train)
    first = rate(batches, epoch, size)
    later = rate(batches, epoch, size)

    definition, state = create(config, len(records.attributes))
    step = pmapped(train_step(definition, config))
    batch = next(batches)
    batch = Batch(*(x.reshape(jax.device_count(), -1, *x.shape[1:]) for x in batch))
    del batches  # its threads would compete with the step
    times = measure.take_turns({"step": measure.steps(step, state, batch)}, REPEATS)
    training = size / times["step"]
    figures = {
        "pipeline_first_epoch": first,
        "pipeline": later,
        "step": training,
        "ratio_vs_step_first_epoch": first / training,
        "ratio_vs_step": later / training,
    }
    sizes = {"preset": preset, "batch_size": size, "size": config.data.size, "images": len(records)}
    measure.report(sizes, figures, path and Path(path))


def rate(batches, count: int, size: int) -> float:
    """Images a second over `count` batches."""
    start = perf_counter()
    for _ in range(count):
        next(batches)
    return count * size / (perf_counter() - start)


if __name__ == "__main__":
    main(sys.argv[1:])
