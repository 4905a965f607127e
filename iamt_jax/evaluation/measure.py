"""Evaluation of a workdir on one split under one setting: metrics with their provenance."""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from iamt_jax import distributed
from iamt_jax.config import Config, OtherData
from iamt_jax.data.dataset import Dataset, Records
from iamt_jax.data.open import open_source, resolve_data, without_damaged
from iamt_jax.errors import InputError
from iamt_jax.inference.classifier import Classifier, load_workdir
from iamt_jax.inference.predictor import Answer, Degradation, Noise, Predictor
from iamt_jax.metrics.classification import compute_metrics, majority_class, metrics_json
from iamt_jax.metrics.groups import compare, group_columns
from iamt_jax.progress import progress_bar
from iamt_jax.robust.calibration_file import members
from iamt_jax.robust.states import STATES
from iamt_jax.robust.treatment import ToneCurve, Transformation, Treatment
from iamt_jax.version import package_version

_PACKAGES = ("jax", "jaxlib", "flax", "numpy")
"""Packages whose versions are recorded in the provenance."""


def evaluate_split(
    opened: EvaluationData,
    curve: ToneCurve | None = ToneCurve(),
    noise: Noise | Degradation = Noise(),
    *,
    batch_size: int = 128,
    bootstrap: int = 1000,
    groups: Sequence[str] = (),
) -> dict:
    """Measures a classifier on a split.

    Args:
      opened: from `open_evaluation`.
      curve: tone curve of the masks, by default the network's own; None applies the calibrated
        transformation.
      noise: noise added to the images, or another degradation; its seed is also that of the
        bootstrap.
      batch_size: affects the speed only.
      bootstrap: number of resamples for the intervals.
      groups: attributes by whose labels the images are split; each group is also measured.

    Returns:
      `average`, `attributes`, `groups` if requested, `provenance`: a report for
      `iamt_jax.report.tables`.

    Raises:
      InputError: unknown groups, or no calibration.
    """
    trained, dataset, records = opened.classifier, opened.dataset, opened.records
    curve = curve and curve.completed(trained.own_beta)
    treatment = trained.transformation if curve is None else curve
    attributes = trained.attributes
    columns = group_columns(groups, attributes)
    majority, decided = np.array(trained.run.majority), "the run's training split"
    if opened.is_other and dataset.partitions.sizes.get("train"):
        training = select(dataset.split("train"), attributes, dataset.root)
        majority, decided = majority_class(training.labels), f"{dataset.root}, train"
    answer = predict_records(
        trained.predictor, records, trained.run.config, batch_size, treatment, noise
    )
    inputs = answer.logits, records.labels, majority
    resampling = {"bootstrap": bootstrap, "seed": noise.seed}
    metrics = compute_metrics(*inputs, **resampling)
    provenance = {
        "workdir": str(trained.workdir),
        "checkpoint_step": trained.step,
        "data": dataset.root,
        "layout": dataset.layout,
        "split": opened.split,
        "images": len(records),
        "left_out": list(opened.left_out),
        **(curve or ToneCurve(None, None))._asdict(),
        **noise._asdict(),
        "applied": transformation_summary(treatment, answer) if curve is None else None,
        "majority_decided_on": decided,
        "bootstrap": bootstrap,
        **environment(),
    }
    report = metrics_json(metrics, attributes)
    if columns:
        report["groups"] = {
            name: compare(*inputs, k, attributes, **resampling) for name, k in columns.items()
        }
    return report | {"provenance": provenance}


class EvaluationData(NamedTuple):
    """A classifier and the data to evaluate it on."""

    classifier: Classifier
    dataset: Dataset
    records: Records
    """Records with the attributes of the network, in its order."""
    left_out: tuple[str, ...]
    """Names of the damaged images, which are not in `records`."""
    split: str
    is_other: bool
    """True for another data set than the one trained on."""


def open_evaluation(workdir: Path, split: str, data: OtherData = OtherData()) -> EvaluationData:
    """Loads the best checkpoint of a workdir and opens a split of the data to evaluate it on.

    Args:
      workdir: folder that training wrote.
      split: train, validation, test or train+validation.
      data: another data set with the same attributes, and how many images may be damaged.

    Raises:
      InputError: no run, no data, other attributes, or too many damaged images.
    """
    trained = distributed.run_on_all(lambda: load_workdir(workdir))
    config = resolve_data(trained.run.config.data, data)
    dataset = distributed.run_on_first_then_rest(lambda: open_source(config))

    def readable() -> tuple[Records, tuple[str, ...]]:
        records = select(dataset.split(split), trained.attributes, dataset.root)
        return without_damaged(
            records,
            config.size,
            config.damaged_limit,
            distributed.shard_indices,
            distributed.gather,
        )

    found = distributed.run_on_all(readable)
    return EvaluationData(trained, dataset, *found, split, data.root is not None)


def predict_records(
    predictor: Predictor,
    records: Records,
    config: Config,
    batch_size: int,
    treatment: Treatment = ToneCurve(),
    noise: Noise | Degradation = Noise(),
) -> Answer:
    """Predicts all records, with a progress bar; each process of the run handles one shard."""
    mine = records.take(distributed.shard_indices(len(records)))
    answers = []
    running = predictor.predict_batches(mine, config.data.size, batch_size, treatment, noise)
    with progress_bar(
        total=len(mine),
        unit="image",
        desc="evaluating",
        disable=not distributed.is_first(),
    ) as bar:
        for answer in running:
            answers.append(answer)
            bar.update(len(answer.logits))
    whole = jax.tree.map(lambda *parts: np.concatenate(parts), *answers)
    return distributed.gather(whole, len(records))


def transformation_summary(transformation: Transformation, answer: Answer) -> dict:
    """Summarises the effect of the transformation on the images of an answer."""
    quartiles = np.quantile(answer.sigma, (0, 0.25, 0.5, 0.75, 1)).round(4)
    restored = Counter(STATES[index].kind for index in answer.state if index)
    return {
        "members": members(transformation),
        "images_left_alone": float(np.mean((answer.sigma == 0) & (answer.state == 0))),
        "sigma_quartiles": quartiles.tolist(),
        "images_restored": dict(restored.most_common()),
    }


def select(records: Records, attributes: tuple[str, ...], root: str) -> Records:
    """Selects the attributes of the network, in its order.

    Raises:
      InputError: the data set lacks some of them.
    """
    if records.attributes == attributes:
        return records
    absent = [name for name in attributes if name not in records.attributes]
    if absent:
        raise InputError(
            f"{root}: lacks {len(absent)} of the network's {len(attributes)} attributes, first "
            f"{absent[0]}; evaluate on data with the attributes it was trained on"
        )
    columns = [records.attributes.index(name) for name in attributes]
    return dataclasses.replace(records, attributes=attributes, labels=records.labels[:, columns])


def environment() -> dict[str, str | dict[str, str]]:
    """Versions, hardware, commit and command, for the provenance of a number."""
    return {
        "versions": {"python": platform.python_version(), **{p: version(p) for p in _PACKAGES}},
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": shlex.join([*map(os.path.basename, sys.argv[:1]), *sys.argv[1:]]),
    }


def commit() -> str:
    """Git commit of this code, with `-dirty` if files differ; else the version of the package."""
    folder = Path(__file__).parent
    try:
        describe = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--match="]
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return package_version()
