"""Trains a network: python train.py --workdir W [--preset NAME] [--data.root DIR] ..."""

import sys

from iamt_jax.commands.main import train

if __name__ == "__main__":
    sys.exit(train())
