"""Trains a network: python train.py --workdir W [--preset NAME] [--data.root DIR] ..."""

import sys

from iamt_jax.cli import train

if __name__ == "__main__":
    sys.exit(train())
