"""Fig. 5 and rivals: accuracy and average precision over the noise, with paired noise draws.

    PYTHONPATH=. python experiments/noise.py --workdirs W1 W2 W3 --ceiling WN --out OUT

Every rival sees the same noisy images: the pair (1, 0), the network's own curve, the paper's tone
curve (the pair of a grid with the best accuracy, or average precision, on validation at each
sigma), our transformation (sigma estimated, known, or fixed), temperature and threshold refitted,
re-estimated statistics, TENT, three denoisers told sigma, the multi-label head, and a network
retrained with noise.
OUT/results.json is written after each score, so that a stopped run can be resumed.
OUT/SPLIT-KIND.md and .png show mean and spread over the workdirs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import baselines
import jax
import jax.numpy as jnp
import numpy as np
from bench import (
    BATCH,
    Results,
    Score,
    Split,
    batched,
    load_all,
    read_split,
    result_name,
    run,
    score,
    with_noise,
)
from curves import draw, table
from flax import nnx

from iamt_jax.inference.classifier import Classifier
from iamt_jax.progress import progress_bar
from iamt_jax.xla_setup import prepare

N_VALUES = (0.25, 0.5, 1.0, 2.0, 4.0)
BETA_VALUES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.8, 1.0)
FIXED = 0.2
"""Sigma that the fixed setting assumes for every image."""


@dataclass(frozen=True)
class Arguments:
    """Networks and noise."""

    workdirs: tuple[Path, ...]
    """Calibrated runs of one data set, one for each seed."""
    ceiling: tuple[Path, ...] = ()
    """Runs trained with noise."""
    out: Path = Path("robustness")
    """Folder for results, table and figure."""
    split: str = "test"
    """Split on which rivals are compared; their choices are made on validation."""
    sigmas: tuple[float, ...] = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
    """Noise levels."""
    clip: bool = False
    """Clip noisy images to [0, 1]."""
    images: int | None = None
    """Largest number of images of the split."""


def main(arguments: Arguments) -> None:
    """Compares, then draws."""
    prepare()
    workdirs = arguments.workdirs + arguments.ceiling
    networks = load_all(workdirs)
    split = read_split(networks[0], arguments.split, arguments.images)
    subjects = [
        Subject(trained, result_name(trained, split), workdir in arguments.ceiling)
        for trained, workdir in zip(networks, workdirs, strict=True)
    ]
    validation = read_split(networks[0], "validation", arguments.images)
    kind = "clipped" if arguments.clip else "open"
    results = Results(arguments.out / "results.json")
    steps = [(sigma, subject) for sigma in arguments.sigmas for subject in subjects]
    noise = None
    for sigma, subject in progress_bar(steps, unit="network", desc="noise"):
        prefix = f"{arguments.split}/{kind}/{sigma:g}/{subject.name}"
        if not results.missing([f"{prefix}/{name}" for name in subject.rivals]):
            continue
        if noise is None or noise.sigma != sigma:
            noise = Noise(subject.trained, split, validation, sigma, arguments.clip)
        subject.compare(noise, results, prefix)
    title = f"{arguments.split}, {kind} noise, {len(split.names):,} images"
    seeds = [subject.name for subject in subjects if not subject.retrained]
    retrained = [subject.name for subject in subjects if subject.retrained]
    rows = table(results.scores, arguments.split, kind, arguments.sigmas, seeds, retrained)
    (arguments.out / f"{arguments.split}-{kind}.md").write_text(f"{title}\n\n{rows}\n")
    known = split.labels >= 0
    majority = 100 * (split.labels == networks[0].run.majority).sum(0) / known.sum(0)
    shown = arguments.split, kind, arguments.sigmas, seeds, retrained, majority.mean()
    draw(results.scores, *shown, arguments.out)
    print(rows)


class Noise:
    """Images of one noise level, shared by all networks and denoised once."""

    def __init__(
        self, trained: Classifier, split: Split, validation: Split, sigma: float, clip: bool
    ):
        self.sigma, self.split, self.validation = sigma, split, validation
        self.images = with_noise(trained.predictor, split, sigma, clip)
        self.chosen_on = with_noise(trained.predictor, validation, sigma, clip)
        self._denoised: dict[str, np.ndarray] = {}
        self.answers: dict[tuple, np.ndarray] = {}
        """Logits that several rivals start from, by network."""

    def denoised(self, method: str) -> np.ndarray:
        """Images denoised by scikit-image with known sigma."""
        if self.sigma == 0:
            return self.images
        if method not in self._denoised:
            self._denoised[method] = baselines.denoise_classically(self.images, self.sigma, method)
        return self._denoised[method]


class Subject:
    """One network and its rivals."""

    def __init__(self, trained: Classifier, name: str, retrained: bool):
        self.trained, self.name, self.retrained = trained, name, retrained
        self.predictor = trained.predictor
        network = nnx.split(self.predictor.network(), nnx.Param, nnx.BatchStat)
        self.split_network = network[0], *map(nnx.to_pure_dict, network[1:])
        self.refit = None
        self.rivals = (
            {"retrained": self.identity}
            if retrained
            else {
                "identity": self.identity,
                "curve": lambda noise: self.curve(noise, "accuracy"),
                "ranking": lambda noise: self.curve(noise, "average_precision"),
                "auto": lambda noise: self.automatic(noise, None),
                "known": lambda noise: self.automatic(noise, noise.sigma),
                "fixed": lambda noise: self.automatic(noise, FIXED),
                "refit": self.refitted,
                "statistics": self.reestimated,
                "tent": self.tent,
                "wavelet": lambda noise: self.logits(noise.denoised("wavelet")),
                "nlm": lambda noise: self.logits(noise.denoised("nlm")),
                "tv": lambda noise: self.logits(noise.denoised("tv")),
                "multilabel": self.multilabel,
            }
        )
        model = trained.run.config.model
        for name, there in (
            ("statistics", model.norm == "batch"),
            ("multilabel", model.multilabel),
        ):
            if not there:
                self.rivals.pop(name, None)
        if not retrained:
            self.transformation = trained.transformation

    def compare(self, noise: Noise, results: Results, prefix: str) -> None:
        """Scores every rival, and the whole grid of tone curves."""
        for name, answer in self.rivals.items():
            results.once(f"{prefix}/{name}", lambda a=answer: self.scored(a(noise), noise.split))
        grid = [(i, j) for i in range(len(N_VALUES)) for j in range(len(BETA_VALUES))]
        keys = [f"{prefix}/plane/{N_VALUES[i]:g}/{BETA_VALUES[j]:g}" for i, j in grid]
        if not self.retrained and results.missing(keys):
            plane = self.once(noise, "plane", lambda: self.plane(noise.images))
            for key, (i, j) in zip(keys, grid, strict=True):
                results.once(key, functools.partial(self.scored, plane[:, i, j], noise.split))

    def scored(self, logits: np.ndarray, split: Split) -> Score:
        return score(logits, split.labels, self.trained.run.majority)

    def logits(self, images: np.ndarray) -> np.ndarray:
        return batched(lambda some: self.predictor.predict(some).logits, images)

    def once(self, noise: Noise, what: str, run: Callable[[], np.ndarray]) -> np.ndarray:
        """Logits that several rivals start from, computed once a noise level."""
        if (self.name, what) not in noise.answers:
            noise.answers[self.name, what] = run()
        return noise.answers[self.name, what]

    def identity(self, noise: Noise) -> np.ndarray:
        return self.once(noise, "identity", lambda: self.logits(noise.images))

    def automatic(self, noise: Noise, sigma: float | None) -> np.ndarray:
        def answer(images: np.ndarray) -> np.ndarray:
            return self.predictor.predict(images, self.transformation, sigma).logits

        return batched(answer, noise.images)

    def plane(self, images: np.ndarray) -> np.ndarray:
        """Logits of the grid of tone curves, (image, n, beta, attribute)."""

        def answer(images: np.ndarray) -> np.ndarray:
            return np.moveaxis(self.predictor.sweep(images, N_VALUES, BETA_VALUES), 2, 0)

        return batched(answer, images)

    def curve(self, noise: Noise, metric: str) -> np.ndarray:
        """Logits under the pair of the grid that is best on validation at this sigma."""
        chosen_on = self.once(noise, "chosen", lambda: self.plane(noise.chosen_on))
        pairs = [(i, j) for i in range(len(N_VALUES)) for j in range(len(BETA_VALUES))]
        found = [self.scored(chosen_on[:, i, j], noise.validation)[metric] for i, j in pairs]
        i, j = pairs[int(np.argmax(found))]
        return self.once(noise, "plane", lambda: self.plane(noise.images))[:, i, j]

    def refitted(self, noise: Noise) -> np.ndarray:
        if self.refit is None:
            clean = noise.validation.pictures.astype(np.float32) / 255
            self.refit = baselines.refit(self.logits(clean), noise.validation.labels)
        return self.refit.apply(self.identity(noise))

    def reestimated(self, noise: Noise) -> np.ndarray:
        answer = functools.partial(baselines.reestimated_logits, *self.split_network)
        return batched(answer, noise.images)

    def tent(self, noise: Noise) -> np.ndarray:
        definition, params, statistics = self.split_network
        state, parts = baselines.begin_tent(params), []
        for start in range(0, len(noise.images), BATCH):
            images = jnp.asarray(noise.images[start : start + BATCH])
            logits, state = baselines.adapt_by_tent(definition, statistics, state, images)
            parts.append(np.asarray(logits))
        return np.concatenate(parts)

    def multilabel(self, noise: Noise) -> np.ndarray:
        network = self.predictor.network()
        answer = jax.jit(lambda x: network.multilabel(network.extractor(x).mean((1, 2))))
        return batched(answer, noise.images)


if __name__ == "__main__":
    run(main, Arguments)
