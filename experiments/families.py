"""Degradation families of ImageNet-C: identity and automatic transformation at each severity.

    PYTHONPATH=. python experiments/families.py --workdir W --out OUT

Both see the same degraded images. OUT/families.json is written after each score, so that a stopped
run can be resumed; OUT/families-W.md has one row for each family.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bench import BATCH, Results, Split, batched, load_all, read_split, run, score

from iamt_jax.degradation.families import degrade
from iamt_jax.degradation.noise import degradation_keys
from iamt_jax.degradation.severities import FAMILIES, SEVERITIES
from iamt_jax.progress import progress_bar
from iamt_jax.xla_setup import prepare


@dataclass(frozen=True)
class Arguments:
    """Network and families."""

    workdir: Path
    """Workdir of a calibrated run."""
    out: Path = Path("robustness")
    """Folder for results and table."""
    split: str = "test"
    """Split on which they are compared."""
    families: tuple[str, ...] = tuple(FAMILIES)
    """Degradations."""
    images: int | None = None
    """At most this many images of the split."""


def main(arguments: Arguments) -> None:
    """Compares and writes the table."""
    prepare()
    (trained,) = load_all((arguments.workdir,))
    transformation = trained.transformation
    split = read_split(trained, arguments.split, arguments.images)
    results = Results(arguments.out / "families.json")
    predictor, majority = trained.predictor, trained.run.majority
    ways = {
        "identity": lambda images: predictor.predict(images).logits,
        "auto": lambda images: predictor.predict(images, transformation).logits,
    }
    steps = [(family, severity) for family in arguments.families for severity in SEVERITIES]
    for family, severity in progress_bar(steps, unit="level", desc="families"):
        prefix = f"{arguments.workdir.name}/{arguments.split}/{family}/{severity}"
        if results.missing([f"{prefix}/{way}" for way in ways]):
            images = degraded(split, family, severity)
            for way, answer in ways.items():
                scored = functools.partial(score, batched(answer, images), split.labels, majority)
                results.once(f"{prefix}/{way}", scored)
    rows = ["| family | " + " | ".join(map(str, SEVERITIES)) + " | mean | gain |"]
    rows.append("|" + " --- |" * (len(SEVERITIES) + 3))
    for family in arguments.families:
        prefix = f"{arguments.workdir.name}/{arguments.split}/{family}"
        pairs = 100 * np.array(
            [
                [
                    [
                        results.scores[f"{prefix}/{s}/{way}"][m]
                        for m in ("accuracy", "average_precision")
                    ]
                    for s in SEVERITIES
                ]
                for way in ways
            ]
        )
        cells = [
            f"{a:.1f} / {p:.1f} → {b:.1f} / {q:.1f}"
            for (a, p), (b, q) in zip(
                *(np.concatenate([way, way.mean(0, keepdims=True)]) for way in pairs), strict=True
            )
        ]
        gain = pairs[1].mean(0) - pairs[0].mean(0)
        rows.append(f"| {family} | {' | '.join(cells)} | {gain[0]:+.2f} / {gain[1]:+.2f} |")
    text = "\n".join(rows)
    (arguments.out / f"families-{arguments.workdir.name}.md").write_text(text + "\n")
    print(text)


def degraded(split: Split, family: str, severity: int) -> np.ndarray:
    """Degrades the images of the split, keyed by their names."""
    clean = split.pictures.astype(np.float32) / 255
    parts = []
    for start in range(0, len(clean), BATCH):
        keys = degradation_keys(split.names[start : start + BATCH], family, severity, 0)
        parts.append(np.asarray(degrade(clean[start : start + BATCH], family, severity, keys)))
    return np.concatenate(parts)


if __name__ == "__main__":
    run(main, Arguments)
