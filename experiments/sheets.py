"""Draws the README's two sheets from a trained workdir of synthetic faces.

    PYTHONPATH=. python experiments/sheets.py --workdir W --out docs/figures

faces.png shows 40 rendered faces; masks.png shows, for twelve attributes, test faces that have it
and are recognised, each beside its masks, weighted by importance, from least to greatest value.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from iamt_jax.data.dataset import Records
from iamt_jax.data.open import RENDERED, open_source
from iamt_jax.errors import InputError
from iamt_jax.inference.classifier import Classifier, load
from iamt_jax.report.figures import labelled_rows
from iamt_jax.report.overlays import laid_over, mask_map_png
from iamt_jax.synthetic import render, sample_attributes, sample_nuisance
from iamt_jax.xla_setup import prepare

SHOWN = (
    ("Eyeglasses", "Wearing_Hat", "Bangs", "Smiling", "Mouth_Slightly_Open", "Narrow_Eyes"),
    ("Arched_Eyebrows", "Big_Nose", "Wearing_Lipstick", "Goatee")
    + ("Wearing_Earrings", "Receding_Hairline"),
)
"""Attributes with a well-known place in the face, by column of the sheet."""

PAIRS = 3
"""Faces an attribute."""


@dataclass(frozen=True)
class Arguments:
    """Workdir and output folder."""

    workdir: Path
    """A run of the `faces` preset."""
    out: Path = Path("docs/figures")
    """Folder for the pictures."""


def main(arguments: Arguments) -> None:
    """Draws both sheets."""
    prepare()
    trained = load(arguments.workdir)
    dataset = open_source(trained.run.config.data)
    if dataset.layout != RENDERED:  # Photographs may not be distributed.
        raise InputError(f"--workdir {arguments.workdir}: trained on photographs, not on faces")
    arguments.out.mkdir(parents=True, exist_ok=True)

    rng = np.random.default_rng(0)
    faces = render(sample_attributes(rng, 40), sample_nuisance(rng, 40), 96)
    contact_sheet(faces, columns=10).save(arguments.out / "faces.png", optimize=True)

    records = dataset.split("test")
    found = {k for k, name in enumerate(trained.attributes) if records.labels[:, k].max() == 1}
    columns = [
        labelled_rows([(name, _looked_at(trained, records, name)) for name in names], 2)
        for column in SHOWN
        if (names := [name for name in column if trained.attributes.index(name) in found])
    ]
    beside(columns).save(arguments.out / "masks.png", optimize=True)
    print(f"wrote {arguments.out / 'faces.png'} and {arguments.out / 'masks.png'}")


def _looked_at(trained: Classifier, records: Records, name: str) -> np.ndarray:
    """Faces that have the attribute, those recognised first, each beside the map of its masks."""
    column = trained.attributes.index(name)
    having = np.flatnonzero(records.labels[:, column] == 1)[: 4 * PAIRS]
    size = trained.run.config.data.size
    images = records.pictures(having, size)
    missed = trained(images)[:, column] <= 0.5
    images = images[np.argsort(missed, kind="stable")][:PAIRS]
    maps = trained.explain(images, [name]).mask_map[:, 0]
    tiles = [
        laid_over(image, mask_map_png(places), 0.6, size)
        for image, places in zip(images, maps, strict=True)
    ]
    return np.stack([x for pair in zip(images, tiles, strict=True) for x in pair])


def beside(pictures: list[Image.Image]) -> Image.Image:
    """Puts pictures side by side, on white."""
    size = sum(picture.width for picture in pictures), max(picture.height for picture in pictures)
    sheet, left = Image.new("RGB", size, "white"), 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width
    return sheet


def contact_sheet(pictures: np.ndarray, columns: int, scale: int = 1) -> Image.Image:
    """Arranges pictures in rows of `columns`, each enlarged `scale` times without smoothing."""
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    return labelled_rows([("", row) for row in rows], scale)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
