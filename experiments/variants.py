"""Variants of the training recipe, one table a question.

    PYTHONPATH=. python experiments/variants.py --table networks --seeds 3 --out OUT --preset faces

`networks` is Table 1 of the paper; `changes`, `sparsity`, `reconstruction` and `curves` take away
or vary one part of the recipe. A run of the preset faces takes six to ten minutes on 2 cores. All
flags except --table, --seeds, --split and --out are passed to train.py. Each run has a workdir
below OUT, so that a stopped experiment can be resumed, and tables share runs of the same recipe.
OUT/TABLE.json has every run, OUT/TABLE.md the mean and the standard deviation over the seeds.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np

from iamt_jax.commands.flags import take_option
from iamt_jax.commands.main import main as command
from iamt_jax.data.dataset import PARTITIONS
from iamt_jax.errors import InputError
from iamt_jax.files import json_text, replace_text
from iamt_jax.xla_setup import prepare

TABLES: dict[str, dict[str, list[str]]] = {
    "networks": {
        "whole": [],
        "without reconstructor": ["--model.no-reconstructor"],
        "without multi-label": ["--model.no-multilabel"],
        "without both": ["--model.no-reconstructor", "--model.no-multilabel"],
    },
    "changes": {
        "as it is": [],
        "masks begin half open": ["--model.mask-bias", "0"],
        "T(M) = 1 + M in training": ["--model.curve-share", "0"],
        "both": ["--model.curve-share", "0", "--model.mask-bias", "0"],
        "features see 55 px": ["--model.dilations", "1", "1"],
        "features at stride 8": [
            *("--model.widths", "32", "64", "128"),
            *("--model.blocks", "0", "0", "0"),
        ],
    },
    "sparsity": {
        "as it is": [],
        **{
            f"lambda_1 = {weight}": ["--loss.mask-l1", weight]
            for weight in ("5e-7", "5e-6", "5e-4")
        },
    },
    "reconstruction": {
        "mean": [],
        "sum": ["--loss.reconstruction-reduction", "sum"],
    },
    "curves": {
        "beta 0": ["--model.curve-share", "0"],
        "beta 0 or 1, half of each": ["--model.curve-share", "0.5"],
        "beta 0 or 1, 0.85 of them 1": ["--model.curve-share", "0.85"],
        "beta 0 or 1, 0.95 of them 1": ["--model.curve-share", "0.95"],
        "beta 0 or 1, 0.98 of them 1": [],
        "beta 1": ["--model.curve-share", "1"],
        "beta uniform": [],
        "beta 0 or 1, n log-uniform": [],
    },
}
"""Table -> row -> flags of train.py; none are the preset as it is."""

COLUMNS = {
    "accuracy": "accuracy",
    "average_precision": "AP",
    "plain": "AP at (1, 0)",
    "noisy_plain": "AP, σ 0.2, (1, 0)",
    "noisy": "AP, σ 0.2, (1, 1)",
    "energy": "masks, energy",
    "pointing": "masks, pointing",
    "mean_pointing": "mean mask, pointing",
    "agreement": "masks and labels",
    "evidence": "contributions and labels",
    "seconds": "seconds",
}
"""Measurement -> heading. Accuracy and AP are those of the network's own curve, in percent."""

JUDGED = 64
"""Images whose masks are compared with regions."""


def main(arguments: list[str]) -> int:
    """Trains the missing runs, measures them, and writes the table."""
    options = {"--table": "networks", "--seeds": "1", "--split": "validation", "--out": "variants"}
    for flag in options:
        value, arguments = take_option(arguments, flag)
        options[flag] = value or options[flag]
    table, seeds, split, out = options.values()
    if table not in TABLES:
        raise InputError(f"--table {table}: must be one of {', '.join(TABLES)}")
    if not (seeds.isdecimal() and int(seeds) > 0):
        raise InputError(f"--seeds {seeds}: must be a whole number, at least 1")
    if split not in PARTITIONS:
        raise InputError(f"--split {split}: must be one of {', '.join(PARTITIONS)}")
    prepare()
    out = Path(out)
    path = out / f"{table}.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for seed in range(int(seeds)):
        for row, flags in TABLES[table].items():
            if f"{row}/{seed}" in found:
                continue
            workdir = out / f"{recipe(row, flags)}-{seed}"
            own = ["--train.seed", str(seed), "--workdir", str(workdir)]
            if status := train([*arguments, *flags, *own], row):
                return status
            found[f"{row}/{seed}"] = measure(workdir, split)
            replace_text(path, json_text(found, indent=1) + "\n")
            replace_text(out / f"{table}.md", markdown(TABLES[table], found))
    print(markdown(TABLES[table], found), end="")
    return 0


def recipe(row: str, flags: list[str]) -> str:
    """Name of a workdir, the same for the same recipe."""
    words = [row] if row in DRAWS else flags or ["as it is"]
    return re.sub(r"[^a-z0-9.]+", "-", " ".join(words).lower()).strip("-")


def train(arguments: list[str], row: str) -> int:
    """Trains one run."""
    from iamt_jax.model import network

    own = network.training_curve
    draw = partial(DRAWS[row], own) if row in DRAWS else own
    with mock.patch.object(network, "training_curve", draw):
        return command(["train", *arguments])


def uniform_beta(draw_beta: Callable, share: float, keys) -> tuple:
    """beta uniform in [0, 1], n = 1."""
    import jax

    draw = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 3)))
    return None, draw(keys)[:, None, None]


def drawn_n(draw_beta: Callable, share: float, keys) -> tuple:
    """beta as in the package; where it is 1, n is log-uniform from 1/2 to 8."""
    import jax
    import jax.numpy as jnp

    _, beta = draw_beta(share, keys)
    draw = jax.vmap(
        lambda key: jax.random.uniform(jax.random.fold_in(key, 4), (), minval=-1, maxval=3)
    )
    return jnp.where(beta > 0, 2 ** draw(keys)[:, None, None], 1.0), beta


DRAWS = {"beta uniform": uniform_beta, "beta 0 or 1, n log-uniform": drawn_n}
"""Row of `curves` -> draw of another training curve than the package has."""


def measure(workdir: Path, split: str) -> dict[str, float]:
    """Measures a run: answers, clean and noisy, and what its masks show without derivatives."""
    from iamt_jax.evaluation.faithfulness import mapped, measure_places, regions_of
    from iamt_jax.evaluation.mask_statistics import agreement, analyse_split, correlation
    from iamt_jax.evaluation.measure import evaluate_split, open_evaluation
    from iamt_jax.explanation.maps import NETWORK_MAPS
    from iamt_jax.inference.predictor import Noise
    from iamt_jax.robust.treatment import ToneCurve

    opened = open_evaluation(workdir, split)
    classifier, dataset, records = opened.classifier, opened.dataset, opened.records

    def average(curve: ToneCurve, sigma: float = 0.0) -> Mapping[str, float]:
        return evaluate_split(opened, curve, Noise(sigma), bootstrap=0)["average"]

    own, first, last = average(ToneCurve()), ToneCurve(1.0, 0.0), ToneCurve(1.0, 1.0)
    scores = {name: 100 * own[name] for name in ("accuracy", "average_precision")}
    for name, curve, sigma in (
        ("plain", first, 0),
        ("noisy_plain", first, 0.2),
        ("noisy", last, 0.2),
    ):
        scores[name] = 100 * average(curve, sigma)["average_precision"]
    few = records.first(JUDGED)
    if known := regions_of(classifier, few, dataset, split):
        chosen = np.array([classifier.attributes.index(name) for name in known.regions])
        size = classifier.run.config.data.size
        images = few.pictures(slice(None), size).astype(np.float32) / 255
        inside = np.stack(list(known.regions.values()), axis=1)

        def places(name: str) -> Mapping[str, float]:
            run = classifier.predictor.program(NETWORK_MAPS[name])
            maps = mapped(classifier.predictor, run, images, chosen)
            return measure_places(maps, inside, few.labels[:, chosen])

        weighted = places("masks")
        scores |= {"energy": weighted["energy_inside"], "pointing": weighted["pointing"]}
        scores["mean_pointing"] = places("mean mask")["pointing"]
    analysis, _ = analyse_split(classifier, records.first(4 * JUDGED))
    labels = correlation(records.labels)
    scores["agreement"] = agreement(analysis.attributes, labels)
    scores["evidence"] = agreement(analysis.evidence, labels)
    return scores | {"seconds": duration(workdir)}


def duration(workdir: Path) -> float:
    """Time from the first to the last logged step, seconds."""
    lines = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    times = [line["time"] for line in lines if line["kind"] == "training"]
    return times[-1] - times[0]


def markdown(rows: Mapping[str, list[str]], found: Mapping[str, Mapping[str, float]]) -> str:
    """The table: mean over the seeds, with the standard deviation if there are several."""
    columns = [name for name in COLUMNS if any(name in scores for scores in found.values())]
    lines = [
        f"| run | {' | '.join(COLUMNS[name] for name in columns)} |",
        "|" + " --- |" * (len(columns) + 1),
    ]
    for row in rows:
        runs = [scores for key, scores in found.items() if key.rsplit("/", 1)[0] == row]
        if runs:
            cells = [cell(name, [run[name] for run in runs]) for name in columns]
            lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cell(name: str, values: list[float]) -> str:
    """Mean, and standard deviation over several seeds."""
    digits = 0 if name == "seconds" else 2
    text = f"{np.mean(values):.{digits}f}"
    return f"{text} ± {np.std(values):.{digits}f}" if len(values) > 1 else text


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
