"""The command `export`: writes a trained network into one file, which runs without this package."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from iamt_jax import xla_setup
from iamt_jax.commands.flags import Workdir, check_range, check_workdir, parse
from iamt_jax.config import OtherData
from iamt_jax.errors import InputError, cannot_write
from iamt_jax.files import replace_bytes

if TYPE_CHECKING:
    from iamt_jax.inference.classifier import Classifier

_TOLERANCE = {".iamt": 1e-5, ".onnx": 1e-4}
"""Suffix -> largest difference of probabilities between the file and its workdir, in float32."""

_CURVES = {"n and beta": [{"n": 1, "beta": 0}, {"n": 4, "beta": 0.5}]}
"""Way of calling the file -> settings that it is tested with."""


@dataclass(frozen=True)
class ExportArguments:
    """Writes a trained network into one file, which runs without this package.

    The file takes batches of any size, n and beta, and `auto` if the workdir is calibrated. It
    needs only jax, numpy and flatbuffers, on CPU, GPU or TPU; an ONNX file, an ONNX runtime.
    """

    workdir: Workdir = tyro.MISSING
    """Folder that training wrote."""
    out: Path | None = None
    """The file; by default WORKDIR/model.iamt. With the suffix .onnx it is an ONNX model, which
    takes n and beta but not `auto`; writing one needs the extra iamt-jax[onnx]."""
    thresholds: Literal["half", "accuracy", "balanced", "f1"] = "half"
    """Probability above which an attribute counts as present: 0.5, as in evaluate.py, or the one
    with the best accuracy, balanced accuracy or F1 on the validation split."""
    batch_size: int = 128
    """Validation images in a batch; affects the speed only."""
    data: OtherData = OtherData()


def run_export(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    chosen = parse(ExportArguments, arguments, "-m iamt_jax export")
    out = chosen.out or chosen.workdir / "model.iamt"
    _check(chosen, out)
    xla_setup.prepare()
    xla_setup.start_devices()

    from iamt_jax.inference.classifier import load_workdir

    classifier = load_workdir(chosen.workdir)
    thresholds = _thresholds(classifier, chosen)
    make = _onnx if out.suffix == ".onnx" else _artefact
    content, exported, ways = make(classifier, _metadata(classifier) | {"thresholds": thresholds})
    difference = _difference(classifier, exported, ways)
    if not difference <= _TOLERANCE[out.suffix] and classifier.run.config.model.dtype == "float32":
        raise RuntimeError(f"the exported network's probabilities differ by {difference}")
    try:
        replace_bytes(out, content)
    except OSError as error:
        raise cannot_write(f"--out {out}", error, "name another") from None
    size = classifier.run.config.data.size
    print(
        f"wrote {out} ({len(content) / 1e6:.1f} MB): {len(classifier.attributes)} attributes of "
        f"{size} x {size} images, by {' and by '.join(ways)}; probabilities differ from the "
        f"workdir's by at most {difference:.1e}"
    )
    if make is _artefact:
        model = shlex.quote(str(out))
        print(f"now: python -m iamt_jax predict --model {model} IMAGES --out probabilities.csv")
    return 0


def _check(chosen: ExportArguments, out: Path) -> None:
    check_range("batch-size", chosen.batch_size, 1, float("inf"))
    check_range("data.damaged-limit", chosen.data.damaged_limit, 0, float("inf"))
    if out.suffix not in _TOLERANCE:
        raise InputError(f"--out {out}: must end in {' or '.join(_TOLERANCE)}")
    if out.is_dir():
        raise InputError(f"--out {out}: is a folder; name a file such as model.iamt")
    if chosen.out and not out.parent.is_dir():
        raise InputError(f"--out {out}: lies in a folder that does not exist; make it first")
    if chosen.thresholds == "half" and chosen.data != OtherData():
        raise InputError(
            "--data: only thresholds are chosen on data; give --thresholds accuracy, balanced or "
            "f1, or leave it out"
        )
    check_workdir(chosen.workdir)


def _artefact(classifier: Classifier, metadata: dict) -> tuple[bytes, Callable, dict[str, list]]:
    """The file's content, a function that calls it, and settings to test each way of calling it."""
    from iamt_jax.export.programs import PLATFORMS, automatic_program, curve_program
    from iamt_jax.inference.exported import AUTOMATIC, CURVE, ExportedClassifier, pack

    network, size = classifier.network, classifier.run.config.data.size
    programs = {CURVE: curve_program(network, size)}
    signatures = {CURVE: "(images, n, beta) -> probabilities (batch, attribute)"}
    ways = _CURVES
    if classifier.is_calibrated:
        programs[AUTOMATIC] = automatic_program(network, size, classifier.transformation)
        signatures[AUTOMATIC] = "images -> (probabilities, sigma, state)"
        ways = _CURVES | {"auto": [{"auto": True}]}
    content = pack(metadata | {"programs": signatures, "platforms": list(PLATFORMS)}, programs)
    return content, ExportedClassifier(content, "the new file"), ways


def _onnx(classifier: Classifier, metadata: dict) -> tuple[bytes, Callable, dict[str, list]]:
    """The same as `_artefact`, for ONNX."""
    from iamt_jax.export.programs import OnnxModel, onnx_program

    config = classifier.run.config
    if config.model.dtype != "float32":
        raise InputError(
            f"--out: the network computes in {config.model.dtype}, which ONNX runtimes do not; "
            "name a file that ends in .iamt"
        )
    try:
        content = onnx_program(classifier.network, config.data.size, metadata)
    except ImportError:
        raise InputError(
            "--out: a file that ends in .onnx needs jax2onnx, which is not installed; install "
            "it with pip install 'iamt-jax[onnx]', or name a file that ends in .iamt"
        ) from None
    return content, OnnxModel(content), _CURVES


def _metadata(classifier: Classifier) -> dict:
    """Description of inputs, attributes and origin for users of the file, in JSON types."""
    from iamt_jax.config import LARGEST_N
    from iamt_jax.evaluation.measure import environment

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
        "beta": {
            "range": [0, 1],
            "dtype": "float32",
            "identity": 0,
            "default": classifier.own_beta,
        },
        "network": {
            "identity": classifier.identity,
            "step": classifier.step,
            "data": run.config.data.name,
            "images": run.images,
        },
        "made_with": {key: produced[key] for key in ("versions", "commit")},
    }


def _thresholds(classifier: Classifier, chosen: ExportArguments) -> list[float]:
    from iamt_jax.metrics.classification import HALF, thresholds

    if chosen.thresholds == "half":
        return [HALF] * len(classifier.attributes)

    from iamt_jax.evaluation.measure import open_evaluation, predict_records
    from iamt_jax.inference.predictor import probability

    opening = open_evaluation(chosen.workdir, "validation", chosen.data)
    config = classifier.run.config
    answer = predict_records(classifier.predictor, opening.records, config, chosen.batch_size)
    return thresholds(
        probability(answer.logits), opening.records.labels, chosen.thresholds
    ).tolist()


def _difference(classifier: Classifier, exported: Callable, ways: dict[str, list]) -> float:
    """Largest difference of probabilities between the file and the workdir, on random images."""
    import numpy as np

    size = classifier.run.config.data.size
    images = np.random.default_rng(0).random((2, size, size, 3), np.float32)
    settings = [setting for tested in ways.values() for setting in tested]
    differences = [exported(images, **s) - classifier(images, **s) for s in settings]
    return float(np.abs(differences).max())
