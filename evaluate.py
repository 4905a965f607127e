"""Measures a trained network: python evaluate.py --workdir W [--n N --beta B] ..."""

import sys

from iamt_jax.commands.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
