"""Measures whether the input pipeline feeds the training step, and what accelerators would need.

    python benchmarks/input_pipeline.py --preset celeba --data.root DIR [--no-step] [--json PATH]

Prints the CPU time an image takes to be decoded into the cache, once, and in each step after it,
when a batch is copied out of the cache; the images a second that one core can then supply; and the
cores that a TPU v5e and an H100 would need, if the step reached the share of their data sheets that
a dry run assumes. Without --no-step, also images a second of the training step on the devices at
hand, and the ratio, which must be at least 2.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from pathlib import Path

import jax
import measure

from iamt_jax.commands.flags import take_option, take_preset, train_config
from iamt_jax.data.batches import Batch, training_batches
from iamt_jax.data.cache import cached
from iamt_jax.data.open import open_source
from iamt_jax.training.dry_run import CHIPS, SHARE, products
from iamt_jax.training.step import create, pmapped, train_step
from iamt_jax.xla_setup import prepare

REPEATS = 20
"""Timed training steps; the median is taken."""

MOST = 4096
"""Largest number of images that are decoded."""

EPOCHS = 4
"""Timed passes over the cache."""

PEAKS = {"v5e": CHIPS["v5e"].flops, "h100": 989e12}
"""Accelerator -> bfloat16 FLOP/s of its data sheet."""


def main(arguments: list[str]) -> None:
    """Times both sides."""
    path, arguments = take_option(arguments, "--json")
    steps, arguments = "--no-step" not in arguments, [x for x in arguments if x != "--no-step"]
    preset, arguments = take_preset(arguments)
    config = train_config(preset, arguments, "benchmarks/input_pipeline.py")
    prepare()
    records = open_source(config.data).split("train").first(MOST)
    size = config.train.batch_size
    count = EPOCHS * len(records) // size

    with tempfile.TemporaryDirectory() as folder:
        data = dataclasses.replace(config.data, cache=folder)
        start = time.process_time()
        records = cached(records, data)
        decoding = (time.process_time() - start) / len(records)
        batches = training_batches(records, data.size, config.train)
        batch = next(batches)
        start, begun = time.process_time(), time.perf_counter()
        for _ in range(count):
            batch = next(batches)
        copying = (time.process_time() - start) / (count * size)
        rate = count * size / (time.perf_counter() - begun)
        batches.close()  # Its thread would compete with the step.

    definition, state = create(config, len(records.attributes))
    step = pmapped(train_step(definition, config))
    batch = Batch(*(x.reshape(jax.device_count(), -1, *x.shape[1:]) for x in batch))
    each = products(step, state, batch) * jax.device_count() / size
    figures = {
        "decoding_ms_an_image": 1e3 * decoding,
        "cached_ms_an_image": 1e3 * copying,
        "images_per_second_a_core": 1 / copying,
        "gflop_an_image": each / 1e9,
    }
    for name, peak in PEAKS.items():
        figures[f"cores_for_{name}"] = SHARE * peak / each * copying
    if steps:
        times = measure.take_turns({"step": measure.steps(step, state, batch)}, REPEATS)
        figures |= {"step": size / times["step"], "ratio_vs_step": rate * times["step"] / size}
    sizes = {"preset": preset, "batch_size": size, "size": config.data.size, "images": len(records)}
    measure.report(sizes, figures, path and Path(path))


if __name__ == "__main__":
    main(sys.argv[1:])
