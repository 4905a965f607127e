"""Draws degradations.png: a rendered face under each family of degradations, at severity 1 to 5.

PYTHONPATH=. python experiments/degradations.py --out docs/figures
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bench import run
from PIL import Image
from sheets import beside

from iamt_jax.degradation.families import degrade
from iamt_jax.degradation.noise import degradation_keys
from iamt_jax.degradation.severities import FAMILIES, SEVERITIES
from iamt_jax.report.figures import labelled_rows
from iamt_jax.synthetic import render, sample_attributes, sample_nuisance
from iamt_jax.xla_setup import prepare


@dataclass(frozen=True)
class Arguments:
    """The picture."""

    out: Path = Path("docs/figures")
    """Folder for it."""
    size: int = 64
    """Side of the face in pixels."""
    seed: int = 0
    """Seed of the face and the degradations."""


def main(arguments: Arguments) -> None:
    """Draws the picture, with the families in two columns."""
    prepare()
    rng = np.random.default_rng(arguments.seed)
    face = render(sample_attributes(rng, 1), sample_nuisance(rng, 1), arguments.size)
    rows = [(family, _row(face, family, arguments.seed)) for family in FAMILIES]
    half = (len(rows) + 1) // 2
    picture = beside([labelled_rows(part) for part in (rows[:half], rows[half:])])
    arguments.out.mkdir(parents=True, exist_ok=True)
    # A palette, because PNG compresses noise badly.
    picture = picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    picture.save(arguments.out / "degradations.png", optimize=True)
    print(f"wrote {arguments.out / 'degradations.png'}")


def _row(face: np.ndarray, family: str, seed: int) -> np.ndarray:
    """The face, uint8, before and after its degradation at each severity."""
    images = [face]
    for severity in SEVERITIES:
        keys = degradation_keys(["face"], family, severity, seed)
        degraded = degrade(face.astype(np.float32) / 255, family, severity, keys)
        images.append(np.asarray(degraded * 255).round().astype(np.uint8))
    return np.concatenate(images)


if __name__ == "__main__":
    run(main, Arguments)
