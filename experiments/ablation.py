"""Table 1 of the paper: the network, without reconstructor, without multi-label head, without both.

    PYTHONPATH=. python experiments/ablation.py --out OUT --seeds 3 --preset faces

All flags except --out and --seeds are passed to train.py. Each run has a workdir below OUT, so
that a stopped experiment can be resumed. OUT/ablation.json, .md and .png hold mean and spread.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from iamt_jax.commands.flags import take_option
from iamt_jax.commands.main import main as command
from iamt_jax.errors import InputError
from iamt_jax.files import json_text, replace_text
from iamt_jax.metrics.classification import HEADLINE_METRICS
from iamt_jax.xla_setup import prepare

NETWORKS = {
    "whole": [],
    "without reconstructor": ["--model.no-reconstructor"],
    "without multi-label": ["--model.no-multilabel"],
    "without both": ["--model.no-reconstructor", "--model.no-multilabel"],
}
"""Row of Table 1 -> flags of train.py."""


def main(arguments: list[str]) -> int:
    """Trains the missing runs, measures them, and writes the table."""
    out, rest = take_option(arguments, "--out")
    seeds, rest = take_option(rest, "--seeds")
    if seeds is not None and not (seeds.isdecimal() and int(seeds) > 0):
        raise InputError(f"--seeds {seeds}: must be a whole number, at least 1")
    out, seeds = Path(out or "ablation"), int(seeds or 3)
    prepare()

    from iamt_jax.evaluation.measure import evaluate_workdir

    path = out / "ablation.json"
    scores = json.loads(path.read_text()) if path.exists() else {}
    for seed in range(seeds):
        for name, flags in NETWORKS.items():
            if f"{name}/{seed}" in scores:
                continue
            workdir = out / f"{name.replace(' ', '-')}-{seed}"
            status = command(
                ["train", *rest, *flags, "--train.seed", str(seed), "--workdir", str(workdir)]
            )
            if status:
                return status
            average = evaluate_workdir(workdir, bootstrap=0)["average"]
            scores[f"{name}/{seed}"] = {metric: average[metric] for metric in HEADLINE_METRICS}
            replace_text(path, json_text(scores, indent=1) + "\n")
    found = {
        name: 100
        * np.array(
            [[scores[f"{name}/{s}"][m] for m in HEADLINE_METRICS] for s in range(seeds)], float
        )
        for name in NETWORKS
    }
    rows = [
        f"| network | {' | '.join(HEADLINE_METRICS)} |",
        "|" + " --- |" * (len(HEADLINE_METRICS) + 1),
    ]
    for name, values in found.items():
        cells = [f"{m:.2f} ± {d:.2f}" for m, d in zip(values.mean(0), values.std(0), strict=True)]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    replace_text(out / "ablation.md", "\n".join(rows) + "\n")
    print("\n".join(rows))
    figure, axis = plt.subplots(figsize=(6, 3))
    names = list(found)
    accuracy = np.array([values[:, 0] for values in found.values()])
    spread = [accuracy.mean(1) - accuracy.min(1), accuracy.max(1) - accuracy.mean(1)]
    axis.errorbar(accuracy.mean(1), names, xerr=spread, fmt="o", capsize=4)
    axis.set_xlabel("accuracy on the test split, %; mean, least and greatest")
    axis.invert_yaxis()
    figure.tight_layout()
    figure.savefig(out / "ablation.png", dpi=110)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
