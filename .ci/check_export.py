"""Holds an exported file to its promise: where jax, numpy and flatbuffers are all that is
installed, the lines of docs/deploy.md give the probabilities of evaluate.py and of load(W).

    python .ci/check_export.py W
"""

import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np

from iamt_jax import load, xla_setup
from iamt_jax.commands.main import main as command
from iamt_jax.evaluation.measure import open_evaluation, predict_records
from iamt_jax.inference.exported import read_exported
from iamt_jax.robust.treatment import ToneCurve

TOLERANCE = 1e-5
IMAGES = 40
"""Of the run's test split."""

CURVES = ((1, 0), (4, 0.5), (0, 1), (2.5, 0.25))

DOCUMENT = Path(__file__).parents[1] / "docs/deploy.md"

AFTER = f"""
run = jax.jit(program.call)
found = [run(images, np.float32(n), np.float32(beta)) for n, beta in {CURVES}]
np.save("found.npy", [*found, robust])
import importlib.metadata
print("installed:", sorted(x.name for x in importlib.metadata.distributions()))
"""


def alone(folder: Path, jax_version: str) -> np.ndarray:
    """What the documentation's lines say in a fresh environment: setting, image, attribute."""
    venv.create(folder / "alone", with_pip=True)
    python = folder / "alone/bin/python"
    packages = [f"jax=={jax_version}", "numpy", "flatbuffers"]
    # -I: neither this folder's code nor PYTHONPATH is seen.
    subprocess.run([python, "-I", "-m", "pip", "install", "-q", *packages], check=True)
    snippets = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.M | re.S)
    (folder / "alone.py").write_text("".join(snippets[1:3]) + AFTER)
    subprocess.run([python, "-I", "alone.py"], cwd=folder, check=True)
    return np.load(folder / "found.npy")


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def main(workdir: Path, folder: Path) -> list[str]:
    """What is further apart than promised, a line each."""
    xla_setup.prepare()
    model = folder / "model.iamt"
    if command(["export", "--workdir", str(workdir), "--out", str(model)]):
        return ["export failed"]
    opened = open_evaluation(workdir, "test")
    classifier, records = opened.classifier, opened.records
    records, config = records.take(np.arange(IMAGES)), classifier.run.config
    images = records.pictures(slice(None), config.data.size)
    np.save(folder / "images.npy", images)
    found = alone(folder, read_exported(model).metadata["made_with"]["versions"]["jax"])

    loaded = load(workdir)
    evaluated = [
        predict_records(loaded.predictor, records, config, 16, treatment).logits
        for treatment in [*(ToneCurve(n, beta) for n, beta in CURVES), loaded.transformation]
    ]
    by_load = [*(loaded(images, n, beta) for n, beta in CURVES), loaded(images, auto=True)]
    failures = []
    names = [*(f"n {n}, beta {beta}" for n, beta in CURVES), "auto"]
    for name, ours, evaluate, load_ in zip(names, found, evaluated, by_load, strict=True):
        apart = {
            "evaluate.py": abs(ours - sigmoid(evaluate)).max(),
            "load(W)": abs(ours - load_).max(),
        }
        print(f"{name}: " + ", ".join(f"{x:.1e} from {of}" for of, x in apart.items()))
        failures += [f"{name}: {x} from {of}" for of, x in apart.items() if not x <= TOLERANCE]
    return failures


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        sys.exit("\n".join(main(Path(sys.argv[1]), Path(place))) or None)
