"""Many at once equals one at a time, under XLA's own settings and under ours."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from iamt_jax import xla_setup

SCRIPT = Path(__file__).parent / "many_at_once.py"

OURS = ("JAX_NUM_CPU_DEVICES", "NPROC", "XLA_FLAGS")
"""Set for the other tests; here JAX shall start as it does for a user."""


WITHOUT_YNN = pytest.param(xla_setup.YNN_FLAG, id="without YNNPACK", marks=pytest.mark.slow)
"""What all other tests run with, so that the gate's turn is enough."""


@pytest.mark.parametrize("flags", [pytest.param("", id="as XLA comes"), WITHOUT_YNN])
def test_many_at_once_equals_one_at_a_time(flags):
    if flags and not xla_setup.knows_ynn():
        pytest.skip("this jaxlib has no such fusions, and aborts on the flag")
    env = {name: value for name, value in os.environ.items() if name not in OURS}
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        env=env | ({"XLA_FLAGS": flags} if flags else {}),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["flags"] == flags
    # Sums of a few hundred float32 products, in another order; a wrong one is off by 0.1 or more.
    assert {name: x for name, x in found["differences"].items() if not x < 1e-4} == {}
