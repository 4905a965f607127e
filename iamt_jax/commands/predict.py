"""The command `predict`: writes the probabilities of any images into one table."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import tyro

from iamt_jax import xla_setup
from iamt_jax.commands.flags import check_curve, check_range, parse
from iamt_jax.errors import InputError, cannot_write, printable

if TYPE_CHECKING:
    import numpy as np

    from iamt_jax.report.predictions import Journal, PredictionRow

_SHOWN = 10
"""Largest number of damaged images that are printed; the table names all."""


@dataclass(frozen=True)
class PredictArguments:
    """Writes the probabilities of all attributes of any images into one table.

    If it is interrupted or killed, the same command continues without any loss.
    """

    images: tyro.conf.Positional[tuple[Path, ...]]
    """Image files of any name, and folders, which are searched recursively, following links."""
    model: Path = tyro.MISSING
    """A workdir, or a file written by `python -m iamt_jax export`."""
    out: Path = tyro.MISSING
    """The table, a file that ends in .csv or .parquet."""
    n: float | None = None
    """Power of the tone curve, n >= 0; by default 1."""
    beta: float | None = None
    """Offset of the tone curve, 0 <= beta <= 1; by default the network's own: 1 if it was trained
    with a curve share above 0, else 0. n 1 and beta 0 leave the masks as they are."""
    auto: bool = False
    """Estimate each image's noise, and apply the calibrated transformation, instead of
    --n and --beta."""
    decide: bool = False
    """Write 1 and 0 instead of probabilities, by the file's thresholds, or 0.5 for a workdir."""
    batch_size: int = 128
    """Images in a batch, at most 128; affects the speed only."""


class Model(NamedTuple):
    """A network, from a workdir or an exported file."""

    predict: Callable
    """images -> probabilities."""
    attributes: Sequence[str]
    size: int
    """Height and width of its input, in pixels."""
    thresholds: Sequence[float]
    identity: str
    """Digest of the network and, with --auto, of its calibration."""


def run_predict(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    chosen = parse(PredictArguments, arguments, "-m iamt_jax predict")
    _check(chosen)
    images, left_out = _list_images(chosen.images)
    xla_setup.prepare()
    xla_setup.start_devices()

    from iamt_jax.report.predictions import Journal, write_predictions

    model = _artefact(chosen) if chosen.model.is_file() else _workdir(chosen)
    try:
        journal = Journal(chosen.out, {"model": model.identity, **_curve(chosen)})
        _fill_journal(chosen, model, images, journal)
        rows = [journal[image] for image in images]
        errors = [row.error for row in rows if row.error]
        if len(errors) == len(rows):
            journal.close()
            raise InputError(
                f"none of the {len(images):,} images can be decoded, the first: {errors[0]}"
            )
        decided = model.thresholds if chosen.decide else None
        write_predictions(chosen.out, model.attributes, list(map(str, images)), rows, decided)
    except OSError as error:
        raise cannot_write(f"--out {chosen.out}", error, "name another file") from None
    journal.close()
    for line in left_out:
        print(f"warning: {printable(line)}", file=sys.stderr)
    damaged = f"; {len(errors):,} cannot be decoded, column error says why" if errors else ""
    print(
        f"wrote {chosen.out}: {len(images):,} images, {len(model.attributes)} attributes{damaged}"
    )
    return 0


def _check(chosen: PredictArguments) -> None:
    from iamt_jax.report.predictions import TABLE_SUFFIXES

    check_curve(chosen.n, chosen.beta, chosen.auto)
    check_range("batch-size", chosen.batch_size, 1, float("inf"))
    if chosen.out.suffix not in TABLE_SUFFIXES:
        raise InputError(f"--out {chosen.out}: must end in {' or '.join(TABLE_SUFFIXES)}")
    if chosen.out.is_dir() or not chosen.out.parent.is_dir():
        found = "is a folder" if chosen.out.is_dir() else "lies in a folder that does not exist"
        raise InputError(f"--out {chosen.out}: {found}; name a file in a folder that exists")
    if not chosen.images:
        raise InputError("IMAGES: none were given; name image files or folders")


def _list_images(given: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Lists the image files, and describes the other files of each folder in one line.

    Files keep the order of the arguments, those of a folder the order of their names; each is
    listed once.

    Raises:
      InputError: a path does not exist, or a folder holds no image or cannot be listed.
    """
    from iamt_jax.data.file_names import SUFFIXES
    from iamt_jax.data.image_files import find_images, summary_of_others

    def refuse(error: OSError) -> NoReturn:
        raise InputError(f"{error.filename}: cannot be listed ({error.strerror}); give rights")

    images, lines = [], []
    for place in given:
        if place.is_dir():
            inside, left_out = find_images(place, refuse)
            others = f", left out {summary_of_others(left_out)}" if left_out else ""
            if not inside:
                raise InputError(
                    f"{place}: holds no image ({', '.join(SUFFIXES)}){others}; name another"
                )
            images += inside
            lines += [f"{place}: {others.removeprefix(', ')}"] if others else []
        elif place.exists():
            images.append(place)
        else:
            raise InputError(f"{place}: does not exist; name image files or folders")
    return list(dict.fromkeys(images)), lines


def _artefact(chosen: PredictArguments) -> Model:
    from iamt_jax.inference.exported import read_exported

    artefact = read_exported(chosen.model)
    if chosen.auto:
        artefact.require_automatic()
    predict = functools.partial(artefact, **_curve(chosen))
    return Model(
        predict, artefact.attributes, artefact.size, artefact.thresholds, artefact.identity
    )


def _workdir(chosen: PredictArguments) -> Model:
    import jax
    import numpy as np

    from iamt_jax.inference.classifier import load
    from iamt_jax.metrics.classification import HALF
    from iamt_jax.runs.run_file import RUN

    if not (chosen.model / RUN).is_file():
        found = f"holds no {RUN}" if chosen.model.exists() else "does not exist"
        raise InputError(f"--model {chosen.model}: {found}; name a workdir, or an exported file")
    classifier = load(chosen.model)
    identity, attributes = classifier.identity, classifier.attributes
    if chosen.auto:
        parts = jax.tree.leaves(classifier.transformation)
        content = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
        identity += hashlib.sha256(content).hexdigest()[:16]
    predict = functools.partial(classifier, **_curve(chosen))
    size = classifier.run.config.data.size
    return Model(predict, attributes, size, [HALF] * len(attributes), identity)


def _curve(chosen: PredictArguments) -> dict[str, float | bool]:
    """Arguments of `Classifier` and `ExportedClassifier` beside the images."""
    return {"n": chosen.n, "beta": chosen.beta, "auto": chosen.auto}


def _fill_journal(
    chosen: PredictArguments, model: Model, images: Sequence[Path], journal: Journal
) -> None:
    """Predicts all images that the journal lacks; a batch is decoded while another is predicted."""
    from tqdm.auto import tqdm

    from iamt_jax.data.decode import DECODE_THREADS
    from iamt_jax.inference.inputs import SHAPES

    waiting = [image for image in images if image not in journal]
    step = min(chosen.batch_size, SHAPES[-1])
    batches = [waiting[i : i + step] for i in range(0, len(waiting), step)]
    decode = functools.partial(_decode, size=model.size)
    shown = 0
    with (
        ThreadPoolExecutor(DECODE_THREADS) as pool,
        tqdm(
            total=len(images), initial=len(images) - len(waiting), unit="image", desc="predicting"
        ) as bar,
    ):
        ahead = pool.map(decode, batches[0] if batches else [])
        for batch, following in zip(batches, [*batches[1:], []], strict=True):
            decoded = dict(zip(batch, ahead, strict=True))
            ahead = pool.map(decode, following)
            rows = _predict_batch(model, decoded)
            for error in [row.error for row in rows.values() if row.error][: _SHOWN - shown]:
                bar.write(f"warning: {error}", file=sys.stderr)
                shown += 1
            journal.add(rows)
            bar.update(len(batch))


def _predict_batch(
    model: Model, decoded: Mapping[Path, np.ndarray | PredictionRow]
) -> dict[Path, PredictionRow]:
    """Replaces pixels by rows of probabilities; keeps the order, and the rows of damaged images."""
    import numpy as np

    from iamt_jax.report.predictions import PredictionRow

    pictures = {image: x for image, x in decoded.items() if not isinstance(x, PredictionRow)}
    if not pictures:
        return dict(decoded)
    probabilities = model.predict(np.stack(list(pictures.values())))
    return decoded | dict(zip(pictures, map(PredictionRow, probabilities), strict=True))


def _decode(image: Path, size: int) -> np.ndarray | PredictionRow:
    """The image's pixels, or a row with the error if it cannot be decoded."""
    from iamt_jax.data.decode import decode
    from iamt_jax.data.image_files import read_file
    from iamt_jax.report.predictions import PredictionRow

    try:
        return decode(read_file(str(image)), size, str(image))
    except InputError as error:
        return PredictionRow(None, str(error))
