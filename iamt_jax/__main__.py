"""The program `python -m iamt_jax COMMAND ...`."""

import sys

from iamt_jax.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
