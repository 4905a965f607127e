"""CelebA end to end with the preset `celeba`, in every layout, on rendered photographs of 178x218.

    python .ci/check_celeba.py [--whole --images 20000 --steps 200] [--layouts ...] [--out OUT]

For each layout: a dry run, then a training that is interrupted and continued, and an evaluation
with Table 4. By default small, for the gate: few images, and a network of few channels unless
--whole. Layouts that keep CelebA's order must give the same network; tensorflow-datasets
shuffles it (its own builder writes that layout, without TensorFlow).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import layouts  # noqa: E402

from iamt_jax.attributes import CELEBA_ATTRIBUTES  # noqa: E402
from iamt_jax.synthetic import faces, render  # noqa: E402

SPLITS = {"train": 0.8, "validation": 0.1, "test": 0.1}

SMALL = ["--model.widths", "8", "16", "16", "--model.blocks", "0", "0", "0"]
"""A network for the gate."""


def source(images: int) -> layouts.Source:
    """Rendered faces as CelebA has them: JPEG files of 178x218, its 40 attributes, its splits."""
    counts = [round(images * share) for share in SPLITS.values()]
    drawn = [faces(count, 0, split) for count, split in zip(counts, SPLITS, strict=True)]

    def encoded(job: tuple) -> list[bytes]:
        found = []
        for picture in render(*job, 218):
            file = io.BytesIO()
            Image.fromarray(picture[:, 20:198]).save(file, "JPEG", quality=92)
            found.append(file.getvalue())
        return found

    jobs = [
        (labels[start : start + 64], nuisance[start : start + 64])
        for labels, nuisance in drawn
        for start in range(0, len(labels), 64)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        files = [file for some in pool.map(encoded, jobs) for file in some]
    return layouts.Source(
        CELEBA_ATTRIBUTES,
        [f"{number:06d}.jpg" for number in range(1, len(files) + 1)],
        np.repeat(np.arange(len(counts)), counts).tolist(),
        np.concatenate([labels for labels, _ in drawn]).astype(np.int8),
        files,
        rows=100,
    )


def run(*command: object, status: int = 0) -> str:
    """Runs a command of the package; returns what it printed."""
    line = [sys.executable, *map(str, command)]
    found = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    if found.returncode != status:
        raise SystemExit(f"{' '.join(line)}: status {found.returncode}\n{found.stderr[-2000:]}")
    return found.stdout


def interrupted(workdir: Path, at: int, *command: object) -> None:
    """Starts a training, and ends it by SIGTERM once a step was logged."""
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], cwd=ROOT, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None and not any(step >= at for step in logged(workdir)):
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    if (status := process.wait()) != 128 + signal.SIGTERM:
        raise SystemExit(
            f"the training to be interrupted ended with status {status}: too few steps?"
        )


def logged(workdir: Path) -> Iterator[int]:
    """Steps in metrics.jsonl."""
    if (path := workdir / "metrics.jsonl").exists():
        yield from (json.loads(x)["step"] for x in path.read_text().splitlines() if x[-1:] == "}")


def check(layout: str, root: Path, workdir: Path, arguments: argparse.Namespace) -> dict:
    """Takes a data set from the dry run to Table 4; returns its metrics."""
    flags = [
        *("train.py", "--preset", "celeba", "--data.root", root, "--workdir", workdir),
        *("--train.steps", arguments.steps, "--train.batch-size", arguments.batch_size),
        *("--train.warmup", 5, "--train.log-every", 1, "--data.cache", arguments.out / "cache"),
        *([] if arguments.whole else SMALL),
    ]
    told = run(*flags, "--dry-run")
    for word in ("data: ", "cache: ", "step: compiled for ", "time: about "):
        if f"\n{word}" not in f"\n{told}":
            raise SystemExit(f"{layout}: the dry run did not print a line {word!r}\n{told}")
    interrupted(workdir, max(1, arguments.steps // 4), *flags)
    if f"continuing {workdir} at step" not in run(*flags):
        raise SystemExit(f"{layout}: the training was not continued")
    out = workdir / "evaluation"
    run("evaluate.py", "--workdir", workdir, "--bootstrap", 0, "--out", out)
    table = (out / "metrics.md").read_text()
    for word in (*CELEBA_ATTRIBUTES, "paper", "LNets+ANet", "92.05", "90.17"):
        if word not in table:
            raise SystemExit(f"{layout}: Table 4 lacks {word}")
    return json.loads((out / "metrics.json").read_text())["average"]


def main() -> None:
    """Checks every layout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--whole", action="store_true", help="the preset's own network")
    parser.add_argument("--layouts", nargs="+", choices=layouts.WRITERS, default=layouts.WRITERS)
    parser.add_argument("--out", type=Path, help="folder for the data and the runs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        arguments.out = (arguments.out or Path(folder)).resolve()
        # All layouts run the same programs.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(arguments.out / "compiled")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        start = time.time()
        images = source(arguments.images)
        print(f"rendered {len(images.images):,} photographs in {time.time() - start:.0f} s")
        averages = {}
        for number, layout in enumerate(arguments.layouts):
            start, place = time.time(), arguments.out / f"layout-{number}"
            shutil.rmtree(place, ignore_errors=True)
            root = layouts.WRITERS[layout](place / "celeba", source=images)
            averages[layout] = check(layout, root, place / "W", arguments)
            shown = averages[layout]["accuracy"], averages[layout]["average_precision"]
            print(f"{layout}: {shown[0]:.4f} / {shown[1]:.4f}, {time.time() - start:.0f} s")
            shutil.rmtree(place / "celeba")
        shuffled = "tensorflow-datasets"
        alike = {str(x) for layout, x in averages.items() if layout != shuffled}
        if len(alike) > 1:
            raise SystemExit(f"layouts of the same order differ: {alike}")


if __name__ == "__main__":
    main()
