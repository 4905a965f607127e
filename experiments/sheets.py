"""Draws the README's two sheets, and Fig. 4, from a trained workdir of synthetic faces.

    PYTHONPATH=. python experiments/sheets.py --workdir W --out docs/figures

faces.png shows 40 rendered faces; masks.png shows, for twelve attributes, test faces that have it
and are recognised, each beside its masks, weighted by importance, from least to greatest value.
figure_4.png is Fig. 4 of the paper: each column has an attribute's masks of its top three channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from bench import run
from PIL import Image

from iamt_jax.data.dataset import Dataset, Records
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

COLUMNS = ("Eyeglasses", "Wearing_Hat", "Smiling", "Goatee", "Bangs", "Big_Nose")
"""Attributes of Fig. 4."""


@dataclass(frozen=True)
class Arguments:
    """Workdir and output folder."""

    workdir: Path
    """A run of the `faces` preset."""
    out: Path = Path("docs/figures")
    """Folder for the pictures."""


def main(arguments: Arguments) -> None:
    """Draws the sheets and the figure."""
    trained, dataset = open_rendered(arguments)

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
    figure_4(
        trained, records, [name for name in COLUMNS if trained.attributes.index(name) in found]
    )
    plt.savefig(arguments.out / "figure_4.png", dpi=80)
    print(f"wrote faces.png, masks.png and figure_4.png into {arguments.out}")


def open_rendered(arguments: Arguments) -> tuple[Classifier, Dataset]:
    """Loads the run and its faces, and makes the output folder.

    Raises:
      InputError: the run was trained on photographs, which may not be distributed.
    """
    prepare()
    trained = load(arguments.workdir)
    dataset = open_source(trained.run.config.data)
    if dataset.layout != RENDERED:
        raise InputError(f"--workdir {arguments.workdir}: trained on photographs, not on faces")
    arguments.out.mkdir(parents=True, exist_ok=True)
    return trained, dataset


def figure_4(trained: Classifier, records: Records, names: list[str]) -> None:
    """Draws a face that has each attribute, and the masks M of the top three channels."""
    figure, axes = plt.subplots(4, len(names), figsize=(1.45 * len(names), 6.4), squeeze=False)
    for column, name in zip(axes.T, names, strict=True):
        image = _having(trained, records, name)[:1]
        found = trained.explain(image, [name], n=1, beta=0, top=3)
        share = np.abs(found.contributions[0, 0])
        share /= share.sum()
        column[0].imshow(image[0])
        column[0].set_title(name.replace("_", " "), fontsize=9)
        for axis, channel, mask in zip(
            column[1:], found.channels[0, 0], found.masks[0, 0], strict=True
        ):
            axis.imshow(image[0], extent=(0, 1, 0, 1))
            axis.imshow(mask, extent=(0, 1, 0, 1), alpha=0.65, vmin=0, vmax=1, cmap="viridis")
            axis.set_xlabel(f"channel {channel} ({share[channel]:.0%})", fontsize=8)
        for axis in column:
            axis.set(xticks=[], yticks=[])
    figure.tight_layout()


def _having(trained: Classifier, records: Records, name: str) -> np.ndarray:
    """Faces that have the attribute, those recognised first."""
    column = trained.attributes.index(name)
    rows = np.flatnonzero(records.labels[:, column] == 1)[: 4 * PAIRS]
    images = records.pictures(rows, trained.run.config.data.size)
    missed = trained(images)[:, column] <= 0.5
    return images[np.argsort(missed, kind="stable")][:PAIRS]


def _looked_at(trained: Classifier, records: Records, name: str) -> np.ndarray:
    """Faces that have the attribute, each beside the map of its masks."""
    images, size = _having(trained, records, name), trained.run.config.data.size
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
    run(main, Arguments)
