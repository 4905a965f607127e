"""Draws the README's two sheets from a trained workdir of synthetic faces.

    PYTHONPATH=. python experiments/sheets.py --workdir W --out docs/figures

faces.png shows 40 rendered faces; masks.png shows inputs, reconstructions, and masks of a few
attributes (mean over channels, each scaled from its minimum to its maximum).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib import colormaps
from PIL import Image

from iamt_jax.data.batches import Decoded
from iamt_jax.data.open import RENDERED, open_source
from iamt_jax.errors import InputError
from iamt_jax.inference.classifier import load
from iamt_jax.report.figures import labelled_rows
from iamt_jax.report.overlays import MASKS
from iamt_jax.synthetic import render, sample_attributes, sample_nuisance
from iamt_jax.xla_setup import prepare

SHOWN = ("Eyeglasses", "Wearing_Hat", "Smiling", "Wearing_Lipstick", "Bangs", "Wearing_Earrings")
"""Attributes with a well-known place in the face."""


@dataclass(frozen=True)
class Arguments:
    """Workdir and output folder."""

    workdir: Path
    """A run of the `faces` preset."""
    out: Path = Path("docs/figures")
    """Folder for the pictures."""
    images: int = 8
    """Faces on the sheet of masks."""


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
    attributes = list(trained.run.attributes)
    # One face with each shown attribute, then the first ones of the split.
    chosen = [int(np.argmax(records.labels[:, attributes.index(name)] == 1)) for name in SHOWN]
    chosen = list(dict.fromkeys(chosen + list(range(arguments.images))))[: arguments.images]
    size = trained.run.config.data.size
    decoded = Decoded(records, size)
    images = np.stack([decoded.picture(i) for i in chosen])

    network = trained.predictor.network()
    features = network.extractor(jnp.asarray(images, jnp.float32) / 255)
    shown = np.array([attributes.index(name) for name in SHOWN])
    masks = np.asarray(network.heads.masks(features, shown)).mean(axis=-1)
    rows = [("input", images)]
    if network.reconstructor is not None:
        painted = np.clip(np.asarray(network.reconstructor(features)), 0, 1)
        rows.append(("reconstruction", (painted * 255).astype(np.uint8)))
    rows += [(f"mask: {name}", heat(mask, size)) for name, mask in zip(SHOWN, masks, strict=True)]
    labelled_rows(rows, scale=2).save(arguments.out / "masks.png", optimize=True)
    print(f"wrote {arguments.out / 'faces.png'} and {arguments.out / 'masks.png'}")


def contact_sheet(pictures: np.ndarray, columns: int, scale: int = 1) -> Image.Image:
    """Arranges pictures in rows of `columns`, each enlarged `scale` times without smoothing."""
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    return labelled_rows([("", row) for row in rows], scale)


def heat(maps: np.ndarray, size: int) -> np.ndarray:
    """Colours maps at `size` pixels, each scaled from its minimum (dark) to its maximum (light)."""
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    scaled = (maps - low) / np.maximum(high - low, 1e-12)
    colours = (colormaps[MASKS](scaled)[..., :3] * 255).astype(np.uint8)
    return np.stack(
        [
            np.asarray(Image.fromarray(c).resize((size, size), Image.Resampling.BICUBIC))
            for c in colours
        ]
    )


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
