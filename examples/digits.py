"""Writes 1,797 handwritten digits and a csv of what is true of them: data to try your own with.

    python examples/digits.py --out digits
    python train.py --data.name folder --data.root digits --data.no-flip --data.size 32 --workdir D

The digits are scikit-learn's (`load_digits`: 8 x 8 pixels, from UCI's Optical Recognition of
Handwritten Digits). Each is enlarged and laid somewhere on a square of its own two
colours. The folder appears when it is whole.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

ATTRIBUTES = {
    "even": {0, 2, 4, 6, 8},
    "prime": {2, 3, 5, 7},
    "at_least_5": {5, 6, 7, 8, 9},
    "has_loop": {0, 6, 8, 9},
    "has_straight_line": {1, 4, 5, 7},
    "open_to_the_left": {2, 3, 5, 7, 9},
}
"""Attribute -> the digits that have it. The last three are of shape, as most people write: a closed
4 counts as one without a loop."""

SMALLEST = 16
"""Pixels a side; the digits themselves have 8."""


def main(arguments: list[str] | None = None) -> int:
    """Flags in, exit status out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder to create")
    parser.add_argument("--size", type=int, default=32, help="side of an image, pixels")
    parser.add_argument("--count", type=int, default=1797, help="how many digits, from the first")
    chosen = parser.parse_args(arguments)
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        return failed("scikit-learn is missing; pip install scikit-learn")
    if chosen.size < SMALLEST or chosen.count < 1:
        return failed(f"--size must be {SMALLEST} or more, --count 1 or more")
    if chosen.out.exists():
        return failed(f"--out {chosen.out}: exists already; remove it or name another folder")
    digits = load_digits()
    try:
        write(chosen.out, digits.images[: chosen.count], digits.target, chosen.size)
    except OSError as error:
        return failed(f"--out {chosen.out}: cannot be written ({error.strerror}); name another")
    print(f"wrote {chosen.out}/images and {chosen.out}/labels.csv")
    return 0


def failed(line: str) -> int:
    """Says what is wrong; returns the exit status."""
    print(f"error: {line}", file=sys.stderr)
    return 2


def write(folder: Path, digits: np.ndarray, values: np.ndarray, size: int) -> None:
    """Writes beside the folder, then renames: it is whole or not there."""
    partial = folder.absolute().with_name(f".{folder.absolute().name}.partial-{os.getpid()}")
    try:
        (partial / "images").mkdir(parents=True)
        with open(partial / "labels.csv", "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["image", *ATTRIBUTES])
            # Without a terminal there is no bar.
            bar = tqdm(digits, unit="image", desc="writing digits", disable=None)
            for number, digit in enumerate(bar):
                name, value = f"{number:04d}.png", int(values[number])
                drawn(digit, size, np.random.default_rng(number)).save(partial / "images" / name)
                table.writerow([name, *(int(value in those) for those in ATTRIBUTES.values())])
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def drawn(digit: np.ndarray, size: int, rng: np.random.Generator) -> Image.Image:
    """A digit (8 x 8, 0 to 16) of one colour, somewhere on a square of another."""
    side = int(rng.integers(round(0.7 * size), round(0.95 * size)))
    ink = Image.fromarray(np.uint8(digit * (255 / 16))).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    left, top = (int(x) for x in rng.integers(0, size - side + 1, 2))
    mask = Image.new("L", (size, size))
    mask.paste(ink, (left, top))
    dark, light = rng.integers(0, 90, 3), rng.integers(150, 256, 3)
    front, ground = (dark, light) if rng.random() < 0.5 else (light, dark)
    square = (Image.new("RGB", (size, size), tuple(map(int, x))) for x in (front, ground))
    return Image.composite(*square, mask)


if __name__ == "__main__":
    sys.exit(main())
