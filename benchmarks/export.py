"""How long an exported file takes over the workdir that it was made from, and how much memory.

    python benchmarks/export.py --workdir W --model model.iamt [--onnx model.onnx]

Interleaved batches of noise; the medians' ratio is the answer. Start-up and compilation are left
out. Memory is what the compiled program's temporary buffers hold, over the images of its batch.
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

from iamt_jax.export.artefact import AUTOMATIC, CURVE, read_artefact
from iamt_jax.inference.classifier import load
from iamt_jax.xla_setup import prepare


@dataclass(frozen=True)
class Arguments:
    """What is timed."""

    workdir: Path
    """A run."""
    model: Path
    """What `python -m iamt_jax export` made of it."""
    onnx: Path | None = None
    """The same as ONNX, to be timed too."""
    batches: tuple[int, ...] = (1, 32, 128)
    """Images at a time."""
    repeats: int = 5
    """Rounds."""


def main(arguments: Arguments) -> None:
    """Times all on each batch, prints medians, ratios and memory."""
    prepare()
    classifier, artefact = load(arguments.workdir), read_artefact(arguments.model)
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
