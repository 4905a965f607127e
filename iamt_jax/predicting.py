"""`python -m iamt_jax predict`: probabilities of any images, in one table."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from iamt_jax import platform
from iamt_jax.errors import InputError
from iamt_jax.flags import check_curve, check_range, parse

if TYPE_CHECKING:
    from iamt_jax.deployment.artefact import Artefact
    from iamt_jax.deployment.journal import Journal, Row
    from iamt_jax.inference import Classifier

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""What is an image in a folder; a file that is named itself may be called anything."""

SHOWN = 10
"""Damaged images that are named on the way; the table names all."""


@dataclass(frozen=True)
class PredictArguments:
    """Writes the probabilities of all attributes of any number of images into one table.

    A stopped or killed run loses nothing: the same command goes on where it was.
    """

    images: tyro.conf.Positional[tuple[Path, ...]]
    """Image files, and folders, which are searched through and through."""
    model: Path = tyro.MISSING
    """A workdir, or a file that `python -m iamt_jax export` wrote."""
    out: Path = tyro.MISSING
    """The table: a file that ends in .csv or .parquet."""
    n: float = 1.0
    """Power of the tone curve, n >= 0; 1 with beta 0 leaves the masks as they are."""
    beta: float = 0.0
    """Offset of the tone curve, 0 <= beta <= 1."""
    auto: bool = False
    """Estimate each image's noise, and apply the calibrated transformation; excludes n and beta."""
    decide: bool = False
    """Write 1 and 0 instead of probabilities: by the file's thresholds, by 0.5 for a workdir."""
    batch_size: int = 128
    """Images at a time."""


def run(arguments: Sequence[str]) -> int:
    """Flags in, exit status out.

    Raises:
      InputError: bad flags, no model, no image, or a table that cannot be written.
    """
    chosen = parse(PredictArguments, arguments, "-m iamt_jax predict")
    _check(chosen)
    images = list(_found(chosen.images))
    platform.prepare()

    from iamt_jax.deployment.journal import Journal
    from iamt_jax.deployment.results import write_results

    model, size, thresholds = _model(chosen.model)
    try:
        settings = {"model": model.identity, "n": chosen.n, "beta": chosen.beta}
        journal = Journal(chosen.out, settings | {"auto": chosen.auto})
        damaged = _predict(chosen, model, size, images, journal)
        if len(damaged) == len(images):
            journal.close()
            raise InputError(
                f"none of the {len(images):,} images can be decoded, the first: {damaged[0]}"
            )
        rows = [journal[image] for image in images]
        decided = thresholds if chosen.decide else None
        write_results(chosen.out, model.attributes, [str(x) for x in images], rows, decided)
    except OSError as error:
        raise InputError(
            f"--out {chosen.out}: cannot be written ({error.strerror}); name another file"
        ) from None
    journal.close()
    told = f"; {len(damaged):,} cannot be decoded, column error says why" if damaged else ""
    print(f"wrote {chosen.out}: {len(images):,} images, {len(model.attributes)} attributes{told}")
    return 0


def _check(chosen: PredictArguments) -> None:
    from iamt_jax.deployment.results import KINDS

    check_curve(chosen.n, chosen.beta)
    check_range("batch-size", chosen.batch_size, 1, float("inf"))
    if chosen.auto and (chosen.n, chosen.beta) != (1, 0):
        raise InputError("--auto: excludes --n and --beta; leave it or them out")
    if chosen.out.suffix not in KINDS:
        raise InputError(f"--out {chosen.out}: must end in {' or '.join(KINDS)}")
    if chosen.out.is_dir() or not chosen.out.parent.is_dir():
        found = "is a folder" if chosen.out.is_dir() else "lies in a folder that does not exist"
        raise InputError(f"--out {chosen.out}: {found}; name a file in a folder that exists")
    if not chosen.images:
        raise InputError("IMAGES: none were given; name image files or folders")


def _found(given: Sequence[Path]) -> Iterator[Path]:
    """Every image once: files as named, those in folders in the order of their names.

    Raises:
      InputError: a name is nothing, or a folder holds no image.
    """
    seen: set[Path] = set()
    for place in given:
        if place.is_dir():
            inside = [
                Path(folder, name)
                for folder, folders, names in os.walk(place)
                if folders.sort() is None  # In place: the walk then goes in this order.
                for name in sorted(names)
                if name.lower().endswith(SUFFIXES) and not name.startswith(".")
            ]
            if not inside:
                raise InputError(f"{place}: holds no image ({', '.join(SUFFIXES)}); name another")
        elif place.exists():
            inside = [place]
        else:
            raise InputError(f"{place}: does not exist; name image files or folders")
        for image in inside:
            if image not in seen:
                seen.add(image)
                yield image


def _model(place: Path) -> tuple[Classifier | Artefact, int, Sequence[float]]:
    """The model, the side of its input, and its thresholds."""
    if place.is_file():
        from iamt_jax.deployment.artefact import Artefact

        artefact = Artefact(place)
        return artefact, artefact.size, artefact.thresholds
    if not place.exists():
        raise InputError(f"--model {place}: does not exist; name a workdir, or an exported file")

    from iamt_jax.evaluation.thresholds import HALF
    from iamt_jax.inference import load

    classifier = load(place)
    return classifier, classifier.run.config.data.size, [HALF] * len(classifier.attributes)


def _predict(
    chosen: PredictArguments,
    model: Classifier | Artefact,
    size: int,
    images: Sequence[Path],
    journal: Journal,
) -> list[str]:
    """Fills the journal, one batch being decoded while another is judged; returns what is wrong
    with the images that cannot be decoded."""
    import numpy as np
    from tqdm.auto import tqdm

    from iamt_jax.data.pipeline import THREADS
    from iamt_jax.deployment.journal import Row

    waiting = [image for image in images if image not in journal]
    batches = [waiting[i:][: chosen.batch_size] for i in range(0, len(waiting), chosen.batch_size)]
    told = 0
    with (
        ThreadPoolExecutor(THREADS) as pool,
        tqdm(
            total=len(images), initial=len(images) - len(waiting), unit="image", desc="predicting"
        ) as bar,
    ):
        ahead = [pool.map(lambda x: _decoded(x, size), batch) for batch in batches[:1]]
        for i, batch in enumerate(batches):
            if i + 1 < len(batches):
                ahead.append(pool.map(lambda x: _decoded(x, size), batches[i + 1]))
            found: dict[Path, Row | np.ndarray] = dict(zip(batch, ahead.pop(0), strict=True))
            pictures = {x: y for x, y in found.items() if isinstance(y, np.ndarray)}
            if pictures:
                given = np.stack(list(pictures.values()))
                said = model(given, n=chosen.n, beta=chosen.beta, auto=chosen.auto)
                found |= {x: Row(row) for x, row in zip(pictures, said, strict=True)}
            for row in (found[image] for image in batch):
                if row.error and told < SHOWN:
                    bar.write(f"warning: {row.error}", file=sys.stderr)
                    told += 1
            journal.add(found)
            bar.update(len(batch))
    return [journal[image].error for image in images if journal[image].error]


def _decoded(image: Path, size: int):
    """Its pixels, or a row that says why there are none."""
    from iamt_jax.data.image import decode
    from iamt_jax.data.storage import read_file
    from iamt_jax.deployment.journal import Row

    try:
        return decode(read_file(str(image)), size, str(image))
    except InputError as error:
        return Row(None, str(error))
