"""The commands of README and docs that are too slow for a test, at tiny sizes.

    python .ci/check_commands.py

They get a calibrated run of the preset `debug`, which is made first. A command is run as it stands,
but for the flags in `TINY` after it; what the gate runs anyway is named in `GATE`.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import commands  # noqa: E402

TINY = {
    "experiments/front_page.py": "--out sheets",
    "experiments/sheets.py": "--out sheets",
    "experiments/noise.py": "--sigmas 0.2 --images 64 --split validation",
    "experiments/members.py": "--sigmas 0.2 --images 64 --split validation",
    "experiments/degradations.py": "--size 32 --out sheets",
    "experiments/families.py": "--families gaussian_blur contrast shot_noise --severities 3 "
    "--images 64 --split validation",
    "experiments/degraded_copies.py": "--images 8 --copies 1",
    "experiments/soak.py": "--steps 100",
    "experiments/variants.py": "--preset debug --seeds 1 --out variants",
    "benchmarks/automatic.py": "--repeats 1 --batch-size 8",
    "benchmarks/explorer.py": "--repeats 1",
    "benchmarks/forms.py": "--repeats 1 --batch 2 --size 4",
    "benchmarks/rendering.py": "--images 64",
    "benchmarks/roofline.py": "--repeats 1",
}
"""Script -> flags that make it small."""

GATE = {
    "experiments/crash_test.py": "the gate runs it with fewer kills",
    "experiments/scale_test.py": "the gate runs it with fewer shapes",
    **{
        f"benchmarks/{name}.py": "a test runs it at tiny sizes"
        for name in ("input_pipeline", "pooling", "scaling", "sweep", "train_step", "export")
    },
    "benchmarks/gpu.sh": "it runs the same benchmarks, for a GPU's memory and minutes",
}
"""Script -> why it is not run here."""


def main() -> int:
    """Runs them all; returns the exit status, 1 if any failed."""
    slow = [x for x in commands.commands() if commands.SLOW.match(x.text)]
    failed = []
    with tempfile.TemporaryDirectory(prefix="iamt-commands-") as folder:
        for made in ("train --preset debug --workdir W", "calibrate --workdir W --images 64"):
            words = [sys.executable, "-m", "iamt_jax", *made.split()]
            subprocess.run(words, cwd=folder, check=True, capture_output=True)
        for name in ("W1", "W2", "W3", "W4"):
            (Path(folder) / name).symlink_to("W")
        for command in tqdm(slow, unit="command", disable=None):
            script = command.words[1]
            if script not in GATE and not run(command.text, script, Path(folder)):
                failed.append(command.text)
    for text in failed:
        print(f"failed: {text}", file=sys.stderr)
    return 1 if failed else 0


def run(text: str, script: str, folder: Path) -> bool:
    """Whether a command succeeds in the folder; what it says is shown if it does not."""
    words = [*shlex.split(text)[2:], *shlex.split(TINY[script])]
    # celeba10k and DIR stand for photographs; the preset in `TINY` renders faces instead.
    words = re.sub(r"--data\.root \S+", "", shlex.join(words))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *shlex.split(words)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    print(f"{time.monotonic() - began:4.0f} s, status {done.returncode}: {text}", flush=True)
    if done.returncode:
        print("\n".join((done.stdout + done.stderr).splitlines()[-15:]), file=sys.stderr)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
