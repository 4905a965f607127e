"""Measures a trained network: python evaluate.py --workdir W [--n N --beta B] ..."""

import sys

from iamt_jax.commands.main import evaluate

if __name__ == "__main__":
    sys.exit(evaluate())
