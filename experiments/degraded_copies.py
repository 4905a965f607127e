"""Data to retrain a network with degradations: clean photographs and degraded copies of them.

    PYTHONPATH=. python experiments/degraded_copies.py --workdir W --out copies
    python train.py --preset small --data.name folder --data.root copies --workdir WD \\
        --train.init-from FACES

The first command writes the training and validation photographs of W's data at the size of the
network, the training photographs also degraded by a random family at a random severity, several
times each; FACES is the run that W itself started from. families.py --ceiling WD measures what
training with all degradations achieves.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from bench import BATCH, load_all, read_split, run
from PIL import Image

from iamt_jax.degradation.families import degrade
from iamt_jax.degradation.noise import degradation_keys
from iamt_jax.degradation.severities import FAMILIES, SEVERITIES
from iamt_jax.progress import progress_bar
from iamt_jax.xla_setup import prepare


@dataclass(frozen=True)
class Arguments:
    """Network and copies."""

    workdir: Path
    """Workdir of a run."""
    out: Path = Path("copies")
    """Folder for the images and labels.csv."""
    copies: int = 3
    """Degraded copies of each training photograph."""
    images: int | None = None
    """At most this many photographs of each split."""


def main(arguments: Arguments) -> None:
    """Writes the images, and at last their labels."""
    prepare()
    (trained,) = load_all((arguments.workdir,))
    (arguments.out / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    steps = [(family, severity) for family in FAMILIES for severity in SEVERITIES]
    rows = []
    for name in ("train", "validation"):
        split = read_split(trained, name, arguments.images)
        copies = 1 + (arguments.copies if name == "train" else 0)
        chosen = rng.integers(len(steps), size=(copies, len(split.names)))
        chosen[0] = -1  # Clean.
        groups = [(copy, step) for copy in range(copies) for step in range(-1, len(steps))]
        for copy, step in progress_bar(groups, unit="group", desc=name):
            at = np.flatnonzero(chosen[copy] == step)
            images = split.pictures[at].astype(np.float32) / 255
            if step >= 0 and len(at):
                filled = np.resize(at, len(at) + -len(at) % BATCH)  # One shape to compile for.
                keys = degradation_keys([split.names[i] for i in filled], *steps[step], copy)
                images = split.pictures[filled].astype(np.float32) / 255
                images = np.asarray(degrade(jnp.asarray(images), *steps[step], keys))[: len(at)]
            for i, image in zip(at, images, strict=True):
                file = f"{name}-{i}-{copy}.png"
                pixels = np.round(255 * image).astype(np.uint8)
                Image.fromarray(pixels).save(arguments.out / "images" / file)
                labels = ["" if label < 0 else int(label) for label in split.labels[i]]
                rows.append([file, *labels, name])
    with open(arguments.out / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([["image", *trained.attributes, "split"], *rows])


if __name__ == "__main__":
    run(main, Arguments)
