"""Contribution of each member of the transformation, alone and in combination.

    PYTHONPATH=. python experiments/members.py --workdir W --out OUT

Each variant is calibrated without the other members, and scored on the same noisy images with sigma
estimated. Calibrations are kept below OUT/calibrations, so that a stopped run can be resumed.
OUT/members-W-KIND.md has one row for each variant.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bench import Results, batched, load_all, read_split, result_name, run, score, with_noise

from iamt_jax.progress import progress_bar
from iamt_jax.robust.calibration import fit_transformation
from iamt_jax.robust.calibration_file import read_calibration, write_calibration
from iamt_jax.robust.treatment import ToneCurve
from iamt_jax.xla_setup import prepare

VARIANTS = {
    "identity": None,
    "channel-wise curve": ("curve",),
    "denoiser": ("denoiser",),
    "denoiser and curve": ("denoiser", "curve"),
}
"""Row -> members of `iamt_jax.robust.calibration_file.MEMBERS`."""


@dataclass(frozen=True)
class Arguments:
    """Network and noise."""

    workdir: Path
    """Workdir of a run."""
    out: Path = Path("robustness")
    """Folder for results and table."""
    split: str = "test"
    """Split on which variants are compared."""
    sigmas: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
    """Noise levels."""
    clip: bool = False
    """Clip noisy images to [0, 1]."""
    images: int = 5000
    """Largest number of training images to calibrate on."""


def main(arguments: Arguments) -> None:
    """Calibrates, compares and writes the table."""
    prepare()
    (trained,) = load_all((arguments.workdir,))
    split = read_split(trained, arguments.split)
    results = Results(arguments.out / "members.json")
    training, noise, name = None, {}, result_name(trained, split)
    kind = "clipped" if arguments.clip else "open"
    for title, members in progress_bar(VARIANTS.items(), unit="variant"):
        prefix = f"{name}/{arguments.split}/{kind}/{title}"
        if not results.missing([f"{prefix}/{sigma:g}" for sigma in arguments.sigmas]):
            continue
        treatment = ToneCurve()
        if members is not None:
            folder = arguments.out / "calibrations" / name / "-".join(members)
            if not folder.exists():
                training = training or read_split(trained, "train", arguments.images)
                network = trained.predictor.network()
                made = fit_transformation(network, training.pictures, training.names, members)
                folder.mkdir(parents=True)
                write_calibration(folder, made, trained.identity)
            treatment = read_calibration(folder, trained.identity)
        for sigma in arguments.sigmas:
            if sigma not in noise:
                noise[sigma] = with_noise(trained.predictor, split, sigma, arguments.clip)
            results.once(
                f"{prefix}/{sigma:g}",
                lambda t=treatment, s=sigma: score(
                    batched(lambda x: trained.predictor.predict(x, t).logits, noise[s]),
                    split.labels,
                    trained.run.majority,
                ),
            )
    rows = [f"| members | {' | '.join(f'σ {s:g}' for s in arguments.sigmas)} | mean over σ > 0 |"]
    rows.append("|" + " --- |" * (len(arguments.sigmas) + 2))
    for title in VARIANTS:
        prefix = f"{name}/{arguments.split}/{kind}/{title}"
        found = [results.scores[f"{prefix}/{sigma:g}"] for sigma in arguments.sigmas]
        pairs = 100 * np.array([[x["accuracy"], x["average_precision"]] for x in found], float)
        mean = pairs[np.array(arguments.sigmas) > 0].mean(0)
        cells = [f"{a:.2f} / {p:.2f}" for a, p in [*pairs, mean]]
        rows.append(f"| {title} | {' | '.join(cells)} |")
    text = "\n".join(rows)
    (arguments.out / f"members-{arguments.workdir.name}-{kind}.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    run(main, Arguments)
