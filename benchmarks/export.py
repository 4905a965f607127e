"""Time and memory of an exported file, relative to the workdir that it was made from.

    python benchmarks/export.py --workdir W --model model.iamt [--onnx model.onnx]

Both are timed alternately on batches of random images; the result is the ratio of the medians.
Start-up and compilation are not included. Memory is the size of the compiled program's temporary
buffers, divided by the images in the batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import measure
import numpy as np
import tyro

from iamt_jax.inference.classifier import load
from iamt_jax.inference.exported import AUTOMATIC, CURVE, read_exported
from iamt_jax.xla_setup import prepare


@dataclass(frozen=True)
class Arguments:
    """Options of the benchmark."""

    workdir: Path
    """A run."""
    model: Path
    """File that `python -m iamt_jax export` made of the run."""
    onnx: Path | None = None
    """ONNX file of the same run, to be timed too."""
    batches: tuple[int, ...] = (1, 32, 128)
    """Numbers of images in a batch."""
    repeats: int = 5
    """Rounds."""


def main(arguments: Arguments) -> None:
    """Times all on each batch, prints medians, ratios and memory."""
    prepare()
    classifier, artefact = load(arguments.workdir), read_exported(arguments.model)
    print(measure.machine())
    settings = {CURVE: {"n": 4, "beta": 0.5}}
    if AUTOMATIC in artefact.metadata["programs"]:
        settings[AUTOMATIC] = {"auto": True}
    for name, setting in settings.items():
        rivals = {"workdir": classifier, "iamt": artefact}
        if arguments.onnx and name == CURVE:
            from iamt_jax.export.programs import OnnxModel

            rivals["onnx"] = OnnxModel(arguments.onnx.read_bytes())
        for batch in arguments.batches:
            shape = batch, artefact.size, artefact.size, 3
            images = np.random.default_rng(0).random(shape, np.float32)
            ways = {
                who: functools.partial(rival, images, **setting) for who, rival in rivals.items()
            }
            times = measure.take_turns(ways, arguments.repeats)
            each = ", ".join(f"{who} {1000 * time / batch:.2f}" for who, time in times.items())
            own = times.pop("workdir")
            ratios = ", ".join(f"{who} {time / own:.2f}" for who, time in times.items())
            held = memory(artefact.program(name), shape, setting) / batch / 1e6
            print(f"{name}, batch {batch}: ms an image {each}; ratio {ratios}; {held:.2f} MB")


def memory(program: Callable, shape: tuple[int, ...], setting: dict) -> int:
    """Bytes of the program's temporary buffers for a batch."""
    images = jax.ShapeDtypeStruct(shape, np.float32)
    curve = () if "auto" in setting else (np.float32(setting["n"]), np.float32(setting["beta"]))
    return measure.temporary(program.lower(images, *curve).compile())


if __name__ == "__main__":
    main(tyro.cli(Arguments))
