"""The installed package, away from its repository: every command of `python -m iamt_jax`.

python .ci/check_installed.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

COMMANDS = (
    "train --preset debug --workdir W",
    "evaluate --workdir W --n 4 --beta 0.5",
    "calibrate --workdir W --images 64",
    "export --workdir W --out model.iamt",
    "predict --model model.iamt face.png --auto --out probabilities.csv",
)

CHECK = """
import csv, numpy as np, iamt_jax
from PIL import Image
table = list(csv.reader(open("probabilities.csv")))
said = iamt_jax.load("W")(Image.open("face.png"), auto=True)
assert abs(np.array(table[1][1:-1], float) - said).max() < 1e-5
assert "site-packages" in iamt_jax.__file__, iamt_jax.__file__
import jax, flax
print(f"the wheel works with jax {jax.__version__}, flax {flax.__version__}")
"""


def main() -> int:
    """Runs them all in an empty folder; raises where one fails."""
    from PIL import Image

    with tempfile.TemporaryDirectory(prefix="iamt-installed-") as folder:
        Image.new("RGB", (40, 50), (200, 150, 120)).save(Path(folder) / "face.png")
        for command in COMMANDS:
            words = [sys.executable, "-m", "iamt_jax", *command.split()]
            subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([sys.executable, "-c", CHECK], cwd=folder, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
