"""The command `predict`: prints or writes the probabilities of any images."""

from __future__ import annotations

import functools
import hashlib
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import tyro

from iamt_jax import xla_setup
from iamt_jax.commands.flags import check_curve, check_range, check_workdir, parse
from iamt_jax.errors import InputError, cannot_write, printable

if TYPE_CHECKING:
    import numpy as np

    from iamt_jax.inference.classifier import Classifier
    from iamt_jax.inference.exported import ExportedClassifier
    from iamt_jax.progress import Progress
    from iamt_jax.report.predictions import PredictionRow

_SHOWN = 10
"""Largest number of damaged images that are printed; the table names all."""


@dataclass(frozen=True)
class PredictArguments:
    """Predicts the attributes of any images: prints the most probable, or writes one table.

    If a table is interrupted or killed, the same command continues without any loss.
    """

    images: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGES")]
    """Image files of any name, and folders, which are searched recursively, following links."""
    model: Annotated[Path, tyro.conf.arg(aliases=("--workdir",))] = tyro.MISSING
    """A workdir, or a file written by `python -m iamt_jax export`."""
    out: Path | None = None
    """The table with all probabilities, a file that ends in .csv or .parquet; by default, the most
    probable attributes of each image are printed instead."""
    top: int = 5
    """Number of attributes to print of each image."""
    n: float | None = None
    """Power of the tone curve, n >= 0; by default 1."""
    beta: float | None = None
    """Offset of the tone curve, 0 <= beta <= 1; by default the network's own: 1 if it was trained
    with a curve share above 0, else 0. n 1 and beta 0 leave the masks as they are."""
    auto: bool = False
    """Recognise what each image suffers from, noise or another degradation, and treat it as
    calibrated, instead of --n and --beta."""
    decide: bool = False
    """Write 1 and 0 instead of probabilities, by the file's thresholds, or 0.5 for a workdir."""
    batch_size: int = 128
    """Images in a batch, at most 128; affects the speed only."""


def run_predict(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    chosen = parse(PredictArguments, arguments, "-m iamt_jax predict")
    _check(chosen)
    images, left_out = _list_images(chosen.images)
    xla_setup.prepare()
    model = _open(chosen)
    (_print_top if chosen.out is None else _write_table)(chosen, model, images)
    for line in left_out:
        print(f"warning: {printable(line)}", file=sys.stderr)
    return 0


def _print_top(
    chosen: PredictArguments, model: Classifier | ExportedClassifier, images: Sequence[Path]
) -> None:
    """Prints the most probable attributes of each image."""
    from iamt_jax.progress import progress_bar

    width = max(map(len, model.attributes))
    errors = []
    with progress_bar(disable=True) as bar:  # The printed lines show the progress.
        for rows in _predict(chosen, model, images, bar):
            for image, row in rows.items():
                if row.error:
                    errors.append(row.error)
                    continue
                print(printable(str(image)))
                for k in (-row.probabilities).argsort(kind="stable")[: chosen.top]:
                    print(f"  {printable(model.attributes[k]):{width}}  {row.probabilities[k]:.3f}")
    _refuse_only_damaged(images, errors)


def _write_table(
    chosen: PredictArguments, model: Classifier | ExportedClassifier, images: Sequence[Path]
) -> None:
    """Writes the table; predicts the images that the journal of an earlier run lacks."""
    from iamt_jax.progress import progress_bar
    from iamt_jax.report.predictions import Journal, write_predictions

    try:
        settings = {"model": _identity(chosen, model), **_curve(chosen)}
        journal = Journal(chosen.out, settings)
        waiting = [image for image in images if image not in journal]
        done = len(images) - len(waiting)
        with progress_bar(total=len(images), initial=done, unit="image", desc="predicting") as bar:
            for rows in _predict(chosen, model, waiting, bar):
                journal.add(rows)
                bar.update(len(rows))
        rows = [journal[image] for image in images]
        errors = [row.error for row in rows if row.error]
        if len(errors) == len(rows):
            journal.close()
        _refuse_only_damaged(images, errors)
        decided = model.thresholds if chosen.decide else None
        write_predictions(chosen.out, model.attributes, list(map(str, images)), rows, decided)
    except OSError as error:
        raise cannot_write(f"--out {chosen.out}", error, "name another file") from None
    journal.close()
    damaged = f"; {len(errors):,} cannot be decoded, column error says why" if errors else ""
    print(
        f"wrote {chosen.out}: {len(images):,} images, {len(model.attributes)} attributes{damaged}"
    )


def _refuse_only_damaged(images: Sequence[Path], errors: Sequence[str]) -> None:
    """Raises InputError if no image can be decoded."""
    if len(errors) == len(images):
        raise InputError(
            f"none of the {len(images):,} images can be decoded, the first: {errors[0]}"
        )


def _check(chosen: PredictArguments) -> None:
    """Refuses mistakes before JAX starts."""
    from iamt_jax.report.predictions import TABLE_SUFFIXES
    from iamt_jax.runs.run_file import RUN

    check_curve(chosen.n, chosen.beta, chosen.auto)
    check_range("batch-size", chosen.batch_size, 1, math.inf)
    check_range("top", chosen.top, 1, math.inf)
    if chosen.out is None:
        if chosen.decide:
            raise InputError("--decide: is for the table; give --out")
    elif chosen.out.suffix not in TABLE_SUFFIXES:
        raise InputError(f"--out {chosen.out}: must end in {' or '.join(TABLE_SUFFIXES)}")
    elif chosen.out.is_dir() or not chosen.out.parent.is_dir():
        found = "is a folder" if chosen.out.is_dir() else "lies in a folder that does not exist"
        raise InputError(f"--out {chosen.out}: {found}; name a file in a folder that exists")
    if not chosen.images:
        raise InputError("IMAGES: none were given; name image files or folders")
    if chosen.model.is_file():
        return
    if not (chosen.model / RUN).is_file():
        found = f"holds no {RUN}" if chosen.model.exists() else "does not exist"
        raise InputError(f"--model {chosen.model}: {found}; name a workdir, or an exported file")
    check_workdir(chosen.model, chosen.auto)


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


def _open(chosen: PredictArguments) -> Classifier | ExportedClassifier:
    """Opens the model; a file is checked before JAX's devices start."""
    if chosen.model.is_file():
        from iamt_jax.inference.exported import read_exported

        exported = read_exported(chosen.model)
        if chosen.auto:
            exported.require_automatic()
        xla_setup.start_devices()
        return exported
    xla_setup.start_devices()

    from iamt_jax.inference.classifier import load_workdir

    return load_workdir(chosen.model)


def _identity(chosen: PredictArguments, model: Classifier | ExportedClassifier) -> str:
    """Digest of the network and, with --auto, of its calibration, which a file contains."""
    if not chosen.auto or chosen.model.is_file():
        return model.identity

    import jax
    import numpy as np

    parts = jax.tree.leaves(model.transformation)
    content = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
    return model.identity + hashlib.sha256(content).hexdigest()[:16]


def _curve(chosen: PredictArguments) -> dict[str, float | bool]:
    """Arguments of a call beside the images."""
    return {"n": chosen.n, "beta": chosen.beta, "auto": chosen.auto}


def _predict(
    chosen: PredictArguments,
    model: Classifier | ExportedClassifier,
    images: Sequence[Path],
    bar: Progress,
) -> Iterator[dict[Path, PredictionRow]]:
    """Predicts images in batches; a batch is decoded while another is predicted."""
    from iamt_jax.data.decode import DECODE_THREADS
    from iamt_jax.inference.inputs import SHAPES

    step = min(chosen.batch_size, SHAPES[-1])
    batches = [images[i : i + step] for i in range(0, len(images), step)]
    decode = functools.partial(_decode, size=model.size)
    predict = functools.partial(model, **_curve(chosen))
    shown = 0
    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        ahead = pool.map(decode, batches[0] if batches else [])
        for batch, following in zip(batches, [*batches[1:], []], strict=True):
            decoded = dict(zip(batch, ahead, strict=True))
            ahead = pool.map(decode, following)
            rows = _predict_batch(predict, decoded)
            for error in [row.error for row in rows.values() if row.error][: _SHOWN - shown]:
                bar.write(f"warning: {error}", file=sys.stderr)
                shown += 1
            yield rows


def _predict_batch(
    predict: Callable, decoded: Mapping[Path, np.ndarray | PredictionRow]
) -> dict[Path, PredictionRow]:
    """Replaces pixels by rows of probabilities; keeps the order, and the rows of damaged images."""
    import numpy as np

    from iamt_jax.report.predictions import PredictionRow

    pictures = {image: x for image, x in decoded.items() if not isinstance(x, PredictionRow)}
    if not pictures:
        return dict(decoded)
    probabilities = predict(np.stack(list(pictures.values())))
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
