"""The command `evaluate`: measures a trained network, explains it, and writes a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from iamt_jax import xla_setup
from iamt_jax.commands.flags import Workdir, check_curve, check_range, check_workdir, parse
from iamt_jax.config import LARGEST_SEED, OtherData, Processes
from iamt_jax.data.dataset import SPLITS
from iamt_jax.degradation.severities import FAMILIES
from iamt_jax.errors import InputError, cannot_write
from iamt_jax.progress import Stages

if TYPE_CHECKING:
    from iamt_jax.evaluation.measure import EvaluationData

_NONE = "none"
"""Value of --degrade for images as they are."""


@dataclass(frozen=True)
class EvaluateArguments:
    """Measures a trained network; optionally explains it and writes a report.

    Prints a table and writes it as metrics.json, metrics.csv and metrics.md.
    """

    workdir: Workdir = tyro.MISSING
    """Folder that training wrote."""
    n: float | None = None
    """Power of the tone curve, n >= 0; by default 1."""
    beta: float | None = None
    """Offset of the tone curve, 0 <= beta <= 1; by default the network's own: 1 if it was trained
    with a curve share above 0, else 0. n 1 and beta 0 leave the masks as they are."""
    sigma: float = 0.0
    """Standard deviation of Gaussian noise on the network's input, [0, 1] pixel units."""
    clip_noise: bool = False
    """Clip noisy images to [0, 1]."""
    degrade: tyro.extras.literal_type_from_choices((_NONE, *FAMILIES)) = _NONE
    """Degrade the images instead, by a family of ImageNet-C."""
    severity: int | None = None
    """Strength of --degrade, from 1 to 5; by default 3."""
    auto: bool = False
    """Recognise what each image suffers from, noise or another degradation, and treat it as
    calibrated, instead of --n and --beta."""
    explain: bool = False
    """Also write explanation/: the most important channels, their maps, correlations, and a test of
    the maps' faithfulness; always with the network's own tone curve, without noise."""
    report: bool = False
    """Also do everything that --explain does, measure tone curves over the noise, and write one
    page, by default WORKDIR/report/index.html."""
    groups: tuple[str, ...] = ()
    """Attributes to split the images by, such as Male Young; reports each group's metrics and the
    largest gaps."""
    split: tyro.extras.literal_type_from_choices(SPLITS) = "test"
    """The images to measure."""
    batch_size: int = 128
    """Images in a batch; affects the speed only."""
    seed: int = 0
    """Seed of the noise, the degradation and the bootstrap."""
    bootstrap: int = 1000
    """Number of resamples for the 95 % intervals; 0 leaves the intervals out."""
    data: OtherData = OtherData()
    out: Path | None = None
    """Folder for the results; by default WORKDIR/evaluation."""
    processes: Processes = Processes()


def run_evaluate(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    chosen = parse(EvaluateArguments, arguments, "evaluate.py")
    _check(chosen)
    xla_setup.prepare()

    from iamt_jax import distributed
    from iamt_jax.evaluation import mask_statistics, schedule
    from iamt_jax.evaluation.curve_grid import GRID_SIGMAS, measure_curve_grid
    from iamt_jax.evaluation.measure import open_evaluation
    from iamt_jax.robust import CALIBRATION_FILE

    distributed.initialize(chosen.processes)
    opened = open_evaluation(chosen.workdir, chosen.split, chosen.data)
    calibrated = chosen.report and (chosen.workdir / CALIBRATION_FILE).is_file()
    transformation = opened.classifier.transformation if calibrated else None
    stages = Stages()
    if chosen.explain or chosen.report:
        stages = Stages(schedule.seconds(opened, chosen.report, calibrated))
    # Everything is measured before anything is written, so that a failure keeps old results.
    stages.begin(schedule.ACCURACY)
    metrics, plane, explained = _measure(chosen, opened), None, None
    if chosen.report:
        stages.begin(schedule.CURVES)
        plane = measure_curve_grid(
            opened.classifier,
            opened.records,
            GRID_SIGMAS,
            chosen.batch_size,
            chosen.clip_noise,
            chosen.seed,
            transformation,
        ).as_json()
    if chosen.explain or chosen.report:
        found = mask_statistics.explain_split(opened, chosen.seed, stages)
        explained = (
            mask_statistics.explanation_findings(found),
            mask_statistics.explanation_arrays(found),
        )
    if distributed.is_first():
        stages.begin(schedule.FILES)
        _write(chosen, metrics, plane, explained)
    return 0


def _write(
    chosen: EvaluateArguments, metrics: dict, plane: dict | None, explained: tuple | None
) -> None:
    """Writes all results, prints the table and names the files."""
    from iamt_jax.metrics.classification import percent
    from iamt_jax.report.tables import print_table, write_tables

    beside = _published(metrics)
    try:
        wrote = [write_tables(metrics, _out(chosen), beside)[0].parent]
        if explained is not None:
            from iamt_jax.report.explanation_files import write_explanations

            wrote.append(write_explanations(*explained, _out(chosen) / "explanation")[0].parent)
        if plane is not None:
            from iamt_jax.report.page import write_page

            write_page(metrics, plane, *explained, _page(chosen))
            wrote.append(_page(chosen))
    except OSError as error:
        folder = error.filename or _out(chosen)
        raise cannot_write(f"--out {folder}", error, "name a folder of yours") from None
    print_table(metrics, beside)
    average = metrics["average"]
    print(
        f"average accuracy {percent(average['accuracy'], 2)} (majority "
        f"{percent(average['majority_accuracy'], 2)}), average precision "
        f"{percent(average['average_precision'], 2)}; wrote {', '.join(map(str, wrote))}"
    )


def _check(chosen: EvaluateArguments) -> None:
    check_curve(chosen.n, chosen.beta, chosen.auto)
    check_range("sigma", chosen.sigma, 0, 10)
    if chosen.degrade != _NONE and (chosen.sigma or chosen.clip_noise):
        raise InputError("--degrade: cannot be combined with --sigma or --clip-noise")
    if chosen.severity is not None:
        check_range("severity", chosen.severity, 1, 5)
        if chosen.degrade == _NONE:
            raise InputError("--severity: has no effect without --degrade; name a family there")
    check_range("seed", chosen.seed, 0, LARGEST_SEED)
    check_range("batch-size", chosen.batch_size, 1, math.inf)
    check_range("data.damaged-limit", chosen.data.damaged_limit, 0, math.inf)
    check_range("bootstrap", chosen.bootstrap, 0, 1_000_000)
    if chosen.processes.coordinator is not None and (chosen.explain or chosen.report):
        raise InputError(
            "--processes.coordinator: --explain and --report run in one process; leave it out"
        )
    folders = {_out(chosen): f"--out {_out(chosen)}"}
    if chosen.explain or chosen.report:
        folders[_out(chosen) / "explanation"] = str(_out(chosen) / "explanation")
    if chosen.report:
        folders[_page(chosen).parent] = str(_page(chosen).parent)
    for folder, name in folders.items():
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{name}: is a file; name a folder")
    if chosen.processes.coordinator is None:  # Several processes find the same fault together.
        from iamt_jax.metrics.groups import group_columns

        group_columns(chosen.groups, check_workdir(chosen.workdir, chosen.auto).attributes)


def _out(chosen: EvaluateArguments) -> Path:
    return chosen.out or chosen.workdir / "evaluation"


def _page(chosen: EvaluateArguments) -> Path:
    return (chosen.out or chosen.workdir) / "report" / "index.html"


def _measure(chosen: EvaluateArguments, opened: EvaluationData) -> dict:
    from iamt_jax.evaluation.measure import evaluate_split
    from iamt_jax.inference.predictor import Degradation, Noise
    from iamt_jax.robust.treatment import ToneCurve

    noise = Noise(chosen.sigma, chosen.clip_noise, chosen.seed)
    if chosen.degrade != _NONE:
        noise = Degradation(chosen.degrade, chosen.severity or 3, chosen.seed)
    return evaluate_split(
        opened,
        None if chosen.auto else ToneCurve(chosen.n, chosen.beta),
        noise,
        batch_size=chosen.batch_size,
        bootstrap=chosen.bootstrap,
        groups=chosen.groups,
    )


def _published(metrics: Mapping) -> Sequence:
    """Published results on CelebA, to print beside ours; none for rendered faces, although
    they have the same attributes."""
    from iamt_jax.attributes import CELEBA_ATTRIBUTES
    from iamt_jax.data.open import RENDERED
    from iamt_jax.report.published import TABLE_4

    photographs = metrics["provenance"]["layout"] != RENDERED
    same = set(metrics["attributes"]) == set(CELEBA_ATTRIBUTES)
    return TABLE_4 if photographs and same else ()
