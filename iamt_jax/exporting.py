"""`python -m iamt_jax export`: one file that runs without this package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from iamt_jax import platform
from iamt_jax.config import OtherData
from iamt_jax.errors import InputError
from iamt_jax.flags import check_range, parse

if TYPE_CHECKING:
    from iamt_jax.deployment.artefact import Artefact
    from iamt_jax.inference import Classifier

TOLERANCE = 1e-5
"""Between probabilities of the file and of the workdir that it was made from."""


@dataclass(frozen=True)
class ExportArguments:
    """Writes a trained network into one file, which runs with jax, numpy and flatbuffers alone, on
    CPU, GPU and TPU, for any batch and any n and beta; where the workdir is calibrated, `auto` too.
    """

    workdir: Path = tyro.MISSING
    """Folder that training wrote."""
    out: Path | None = None
    """The file; by default WORKDIR/model.iamt."""
    thresholds: Literal["half", "accuracy", "balanced", "f1"] = "half"
    """From which probability on an attribute is present: 0.5, as evaluate.py decides, or what
    gives the best accuracy, balanced accuracy or F1 on the validation split."""
    batch_size: int = 128
    """Validation images at a time; it changes nothing but the speed."""
    data: OtherData = OtherData()


def run(arguments: Sequence[str]) -> int:
    """Flags in, exit status out.

    Raises:
      InputError: bad flags, no run, no data for thresholds, or a file that cannot be written.
    """
    chosen = parse(ExportArguments, arguments, "-m iamt_jax export")
    check_range("batch-size", chosen.batch_size, 1, float("inf"))
    out = chosen.out or chosen.workdir / "model.iamt"
    if out.is_dir() or not out.parent.is_dir() and chosen.out is not None:
        found = "is a folder" if out.is_dir() else "lies in no folder"
        raise InputError(f"--out {out}: {found}; name a file such as model.iamt")
    platform.prepare()

    from iamt_jax.deployment.artefact import AUTOMATIC, CURVE, write_artefact
    from iamt_jax.deployment.programs import automatic_program, curve_program
    from iamt_jax.inference import load
    from iamt_jax.transformation.file import FILE

    classifier = load(chosen.workdir)
    network, size = classifier.network, classifier.run.config.data.size
    calibrated = (chosen.workdir / FILE).exists()
    programs = {CURVE: curve_program(network, size)}
    if calibrated:
        programs[AUTOMATIC] = automatic_program(network, size, classifier.transformation)
    metadata = _metadata(classifier, calibrated) | {"thresholds": _thresholds(classifier, chosen)}
    try:
        write_artefact(out, metadata, programs)
    except OSError as error:
        raise InputError(
            f"--out {out}: cannot be written ({error.strerror}); name another"
        ) from None
    apart = _checked(classifier, out, calibrated)
    how = "n, beta and auto" if calibrated else "n and beta (not calibrated: no auto)"
    print(
        f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB): {len(classifier.attributes)} attributes "
        f"of {size} x {size} images, with {how}; probabilities differ from the workdir's by at "
        f"most {apart:.1e}\n"
        f"now: python -m iamt_jax predict --model {out} IMAGES --out probabilities.csv"
    )
    return 0


def _metadata(classifier: Classifier, calibrated: bool) -> dict:
    """What a user of the file must know, in JSON's types."""
    from iamt_jax.config import LARGEST_N
    from iamt_jax.deployment.programs import PLATFORMS
    from iamt_jax.evaluation.run import environment

    size, run = classifier.run.config.data.size, classifier.run
    produced = environment()
    return {
        "attributes": list(classifier.attributes),
        "input": {
            "size": size,
            "shape": ["batch", size, size, 3],
            "dtype": "float32",
            "colour": "RGB, as stored (sRGB)",
            "range": [0, 1],
            "crop": "the centred square, turned upright",
            "resize": "bicubic, antialiased (Pillow's)",
        },
        "n": {"range": [0, LARGEST_N], "dtype": "float32", "identity": 1},
        "beta": {"range": [0, 1], "dtype": "float32", "identity": 0},
        "programs": {
            "curve": "(images, n, beta) -> probabilities (batch, attribute)",
            **({"automatic": "images -> (probabilities, sigma)"} if calibrated else {}),
        },
        "platforms": list(PLATFORMS),
        "network": {
            "identity": classifier.identity,
            "step": classifier.step,
            "data": run.config.data.name,
            "images": run.images,
        },
        "made_with": {key: produced[key] for key in ("versions", "commit")},
    }


def _thresholds(classifier: Classifier, chosen: ExportArguments) -> list[float]:
    from iamt_jax.evaluation.thresholds import HALF, thresholds

    if chosen.thresholds == "half":
        return [HALF] * len(classifier.attributes)

    import numpy as np

    from iamt_jax.evaluation.run import opened, predict
    from iamt_jax.prediction import Setting

    opening = opened(chosen.workdir, "validation", chosen.data)
    config = classifier.run.config
    answer = predict(classifier.predictor, opening.records, config, chosen.batch_size, Setting())
    probabilities = 1 / (1 + np.exp(-answer.logits))
    found = thresholds(probabilities, opening.records.labels, chosen.thresholds)
    return found.round(6).tolist()


def _checked(classifier: Classifier, out: Path, calibrated: bool) -> float:
    """The greatest difference of probabilities between the file and the workdir.

    Raises:
      RuntimeError: it is greater than `TOLERANCE`; the file is then removed.
    """
    import numpy as np

    from iamt_jax.deployment.artefact import Artefact

    artefact: Artefact = Artefact(out)
    size = classifier.run.config.data.size
    images = np.random.default_rng(0).random((2, size, size, 3), np.float32)
    settings = [{"n": 1, "beta": 0}, {"n": 4, "beta": 0.5}] + [{"auto": True}] * calibrated
    pairs = [(artefact(images, **how), classifier(images, **how)) for how in settings]
    apart = max(float(abs(ours - theirs).max()) for ours, theirs in pairs)
    if not apart <= TOLERANCE and classifier.run.config.model.dtype == "float32":
        out.unlink()
        raise RuntimeError(f"the exported network differs by {apart}")
    return apart
