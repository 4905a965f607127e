"""Shared parts of the robustness experiments: images, paired noise, scores, resumable results."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from iamt_jax.commands.flags import Arguments, parse
from iamt_jax.data.open import open_source
from iamt_jax.degradation.noise import noise_keys
from iamt_jax.errors import InputError
from iamt_jax.files import json_text, replace_text
from iamt_jax.inference.classifier import Classifier, load
from iamt_jax.inference.predictor import Noise, Predictor
from iamt_jax.metrics.classification import HEADLINE_METRICS, compute_metrics
from iamt_jax.robust import CALIBRATION_FILE

BATCH = 128
"""Batch size, small enough for the caches of a CPU."""

Score = dict[str, float]


class Split(NamedTuple):
    """A decoded split."""

    pictures: np.ndarray
    names: tuple[str, ...]
    labels: np.ndarray


def read_split(trained: Classifier, split: str, images: int | None = None) -> Split:
    """Decodes a split of the data that a network was trained on, at its input size."""
    config = trained.run.config.data
    records = open_source(config).split(split)
    records = records if images is None else records.first(images)
    return Split(records.pictures(slice(None), config.size), records.names, records.labels)


def load_all(workdirs: tuple[Path, ...]) -> list[Classifier]:
    """Loads networks of one data set and one input size.

    Raises:
      InputError: they differ in data or size, which makes paired noise impossible.
    """
    trained = [load(workdir) for workdir in workdirs]
    kinds = {(t.run.config.data.root, t.run.config.data.size) for t in trained}
    if len(kinds) > 1:
        raise InputError(f"--workdirs: trained on different data or sizes: {kinds}")
    return trained


def result_name(trained: Classifier, split: Split) -> str:
    """Name of a network in the keys of results: its workdir's, and a digest of its weights, its
    calibration, and the images that it is measured on."""
    content = hashlib.sha256("\n".join([trained.identity, *split.names]).encode())
    if trained.is_calibrated:
        content.update((trained.workdir / CALIBRATION_FILE).read_bytes())
    return f"{trained.workdir.name}-{content.hexdigest()[:8]}"


def batched(run: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """Applies a function of a full batch to any number of images; the last batch is filled with
    the images from the first on."""
    filled = np.resize(images, (-(-len(images) // BATCH) * BATCH, *images.shape[1:]))
    parts = [np.asarray(run(filled[i : i + BATCH])) for i in range(0, len(filled), BATCH)]
    return np.concatenate(parts)[: len(images)]


def with_noise(
    predictor: Predictor, split: Split, sigma: float, clip: bool, seed: int = 0
) -> np.ndarray:
    """Adds noise keyed by image, sigma and seed to a split, the same for every rival; float32."""
    noise, parts = Noise(sigma, clip, seed), []
    for start in range(0, len(split.names), BATCH):
        names = split.names[start : start + BATCH]
        keys = noise_keys(names, sigma, seed)
        clean = split.pictures[start : start + BATCH].astype(np.float32) / 255
        parts.append(np.asarray(predictor.degraded(clean, noise, keys)))
    return np.concatenate(parts)


def score(logits: np.ndarray, labels: np.ndarray, majority: tuple[bool, ...]) -> Score:
    """Averages of `HEADLINE_METRICS` over the attributes."""
    average = compute_metrics(logits, labels, np.array(majority), bootstrap=0).average
    return {name: float(average[name]) for name in HEADLINE_METRICS}


def run(main: Callable[[Arguments], None], kind: type[Arguments]) -> None:
    """Runs an experiment with its flags; bad input becomes one line and exit status 2."""
    try:
        main(parse(kind, sys.argv[1:], f"experiments/{Path(sys.argv[0]).name}"))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


class Results:
    """Scores by key in a JSON file, written after each score to make the experiment resumable."""

    def __init__(self, path: Path):
        self.path = path
        self.scores: dict[str, Score] = json.loads(path.read_text()) if path.exists() else {}
        path.parent.mkdir(parents=True, exist_ok=True)

    def once(self, key: str, compute: Callable[[], Score]) -> Score:
        """Score of a key; computed and written if it is missing."""
        if key not in self.scores:
            self.scores[key] = compute()
            replace_text(self.path, json_text(self.scores, indent=1) + "\n")
        return self.scores[key]

    def missing(self, keys: list[str]) -> bool:
        """True if any of the keys has no score yet."""
        return not set(keys) <= set(self.scores)
