"""Kills training at random times and checks that the resumed runs lose nothing.

python experiments/crash_test.py --kills 25 [--seed 0] [--out FILE]

Each trial starts a run in a new folder, kills it at a random time between its first import and its
end (SIGKILL, SIGTERM or SIGINT), runs the same command again, and compares the final parameters,
statistics, optimiser state and metrics with those of an uninterrupted run. They must be equal bit
for bit. Exit status 1 if one differs.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))  # Also works from a checkout without installation.

TRAIN = [
    *("--preset", "debug", "--train.steps", "120", "--train.validate-every", "20"),
    *("--train.save-every", "5", "--train.log-every", "5", "--train.ema", "0.9"),
    *("--model.dropout", "0.2", "--data.shift", "0.05", "--data.mixup", "0.2"),
]
"""Flags that enable everything random, and save a checkpoint every few milliseconds."""

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
"""Signals to kill runs with; half of them SIGKILL, which cannot be caught."""

CLOCK = ("time", "images_per_second")
"""Fields of a metrics line that depend on the clock."""


def start(workdir: Path, environment: dict) -> subprocess.Popen:
    """Starts or resumes the run."""
    log = open(workdir.with_suffix(".log"), "ab")  # noqa: SIM115
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "train.py"), "--workdir", str(workdir), *TRAIN],
        env=environment,
        stdout=log,
        stderr=log,
    )


def finish(workdir: Path, environment: dict) -> float:
    """Runs to the end and returns the seconds it took.

    Raises:
      RuntimeError: the run failed; the message holds the end of its log.
    """
    began = time.perf_counter()
    if start(workdir, environment).wait(timeout=300):
        raise RuntimeError(workdir.with_suffix(".log").read_text()[-3000:])
    return time.perf_counter() - began


def outcome(workdir: Path) -> tuple[list[np.ndarray], list[dict]]:
    """Arrays of the last checkpoint, and the metrics without the fields of the clock."""
    import jax

    from iamt_jax.runs.checkpoints import recover
    from iamt_jax.runs.run_file import read_run
    from iamt_jax.training.step import create

    run = read_run(workdir)
    state, _ = recover(workdir, create(run.config, len(run.attributes))[1])
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    metrics = [{k: v for k, v in line.items() if k not in CLOCK} for line in lines]
    return [np.asarray(x) for x in jax.tree.leaves(state)], metrics


def same(found: tuple, expected: tuple) -> bool:
    """True if two outcomes are equal bit for bit."""
    arrays = zip(found[0], expected[0], strict=True)
    return all(x.tobytes() == y.tobytes() for x, y in arrays) and found[1] == expected[1]


def trial(workdir: Path, instant: float, number: int, environment: dict) -> str | None:
    """Kills one run after `instant` seconds and resumes it.

    Returns:
      The phase in which it was killed; None if it had already ended, which tests nothing.
    """
    running = start(workdir, environment)
    try:
        running.wait(timeout=instant)
        return None
    except subprocess.TimeoutExpired:
        running.send_signal(number)
        running.wait(timeout=120)
        checkpoints = workdir / "checkpoints"
        steps = [x for x in checkpoints.glob("*") if x.name.isdecimal()]
        writing = list(checkpoints.glob("*tmp*")) if checkpoints.exists() else []
        where = "while saving" if writing else "between saves" if steps else "before a save"
    finish(workdir, environment)
    return where


def main() -> int:
    """Runs the trials and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0, help="of instants and signals")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    chosen = parser.parse_args()

    from iamt_jax.progress import progress_bar

    # In a shell's background SIGINT is ignored, which child processes inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    draw, equal, places = random.Random(chosen.seed), 0, collections.Counter()
    with tempfile.TemporaryDirectory(prefix="iamt-crash-") as folder:
        place = Path(folder)
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(place / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        os.environ["JAX_PLATFORMS"] = "cpu"
        finish(
            place / "warm", environment
        )  # Fills the compilation cache, so that the next run's time is typical.
        seconds = finish(place / "unbroken", environment)
        expected = outcome(place / "unbroken")
        print(f"an unbroken run takes {seconds:.1f} s; killing {chosen.kills}", flush=True)
        for i in (bar := progress_bar(range(chosen.kills), unit="kill", desc="killing")):
            # The first third is imports and compilation, where a few kills suffice.
            instant = seconds * (draw.random() if i % 5 == 0 else draw.uniform(0.3, 1))
            number = draw.choice(SIGNALS)
            workdir = place / f"killed-{i}"
            while (where := trial(workdir, instant, number, environment)) is None:
                shutil.rmtree(workdir)
                instant *= draw.uniform(0.5, 1)
            fine = same(outcome(workdir), expected)
            equal += fine
            places[where] += 1
            said = "identical" if fine else "DIFFERS"
            bar.write(f"{i + 1}: {signal.Signals(number).name} at {instant:.1f} s, {where}: {said}")
    print(f"{equal} of {chosen.kills} bit-identical ({dict(places)})")
    if chosen.out:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        figures = {"kills": chosen.kills, "identical": equal, "where": dict(places)}
        chosen.out.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n")
    return 0 if equal == chosen.kills else 1


if __name__ == "__main__":
    sys.exit(main())
