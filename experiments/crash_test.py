"""Kills training at random instants and checks that nothing is lost.

python experiments/crash_test.py --kills 25 [--seed 0] [--out FILE]

Each trial starts a run in a fresh folder, kills it at a random instant (SIGKILL, SIGTERM or SIGINT,
anywhere between its first import and its end), starts the same command again, and holds the final
parameters, statistics, optimiser and metrics against those of a run that nobody killed. They must
be equal bit for bit. Exit status 1 where one is not.
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
from tqdm import tqdm

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))  # It runs from a checkout too, where nothing is installed.

TRAIN = [
    *("--preset", "debug", "--train.steps", "120", "--train.validate-every", "20"),
    *("--train.save-every", "5", "--train.log-every", "5", "--train.ema", "0.9"),
    *("--model.dropout", "0.2", "--data.shift", "0.05", "--data.mixup", "0.2"),
]
"""Everything random is on, and every few milliseconds a checkpoint is being written."""

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
"""What a run is killed with; SIGKILL, which it cannot notice, half of the time."""

CLOCK = ("time", "images_per_second")
"""What a metric line says of the clock."""


def start(workdir: Path, environment: dict) -> subprocess.Popen:
    """Starts the run, or continues it."""
    log = open(workdir.with_suffix(".log"), "ab")  # noqa: SIM115
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "train.py"), "--workdir", str(workdir), *TRAIN],
        env=environment,
        stdout=log,
        stderr=log,
    )


def finish(workdir: Path, environment: dict) -> float:
    """Runs to the end; returns the seconds it took.

    Raises:
      RuntimeError: it failed; the message holds the end of its log.
    """
    began = time.perf_counter()
    if start(workdir, environment).wait(timeout=300):
        raise RuntimeError(workdir.with_suffix(".log").read_text()[-3000:])
    return time.perf_counter() - began


def outcome(workdir: Path) -> tuple[list[np.ndarray], list[dict]]:
    """The last checkpoint's arrays, and the metrics without what a clock decides."""
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
    """Whether two outcomes are equal bit for bit."""
    arrays = zip(found[0], expected[0], strict=True)
    return all(x.tobytes() == y.tobytes() for x, y in arrays) and found[1] == expected[1]


def trial(workdir: Path, instant: float, number: int, environment: dict) -> str | None:
    """Kills one run after `instant` seconds and lets it continue; says where it was killed, None
    if it had ended by then: nothing was killed, and nothing is shown by it."""
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
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0, help="of instants and signals")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    chosen = parser.parse_args()
    # A shell that runs this in the background has SIGINT ignored, and children inherit that.
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
        finish(place / "warm", environment)  # Compiles, so that the next one's time is typical.
        seconds = finish(place / "unbroken", environment)
        expected = outcome(place / "unbroken")
        print(f"an unbroken run takes {seconds:.1f} s; killing {chosen.kills}", flush=True)
        for i in tqdm(range(chosen.kills), unit="kill", dynamic_ncols=True):
            # The first third is imports and compilation, of which a few kills are enough.
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
            tqdm.write(
                f"{i + 1}: {signal.Signals(number).name} at {instant:.1f} s, {where}: {said}"
            )
    print(f"{equal} of {chosen.kills} bit-identical ({dict(places)})")
    if chosen.out:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        figures = {"kills": chosen.kills, "identical": equal, "where": dict(places)}
        chosen.out.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n")
    return 0 if equal == chosen.kills else 1


if __name__ == "__main__":
    sys.exit(main())
