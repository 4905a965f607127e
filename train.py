"""Trains a network: python train.py --workdir W [--preset NAME] [--data.root DIR] ..."""

import sys

from iamt_jax.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
