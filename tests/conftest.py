"""What must stand before JAX starts, and the small data set and run that tests share."""

import atexit
import dataclasses
import os
import shutil
import sys
import tempfile

os.environ["NPROC"] = "32"  # With fewer threads than collectives wait for, jax 0.10.2 deadlocks.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

# Tests build the same programs again and again; nothing of it outlives the session.
_scratch = tempfile.mkdtemp(prefix="iamt-tests-")
atexit.register(shutil.rmtree, _scratch, ignore_errors=True)
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(_scratch, "compiled")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
os.environ["IAMT_CACHE"] = os.path.join(_scratch, "faces")

# Tests run scripts that are no part of the package.
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(__file__)), "experiments"))

import pytest  # noqa: E402

from iamt_jax import xla_setup  # noqa: E402
from iamt_jax.config import PRESETS  # noqa: E402

xla_setup.prepare()

TINY = {
    "data.shift": 0.05,
    "model.dropout": 0.2,
    "train.steps": 4,
    "train.warmup": 1,
    "train.ema": 0.5,
    "train.log-every": 1,
    "train.validate-every": 2,
}
"""What the shared run changes of the debug preset, as flags: short, and random where it can be."""


def flags(workdir, **others):
    """Arguments of train.py for the shared run."""
    settings = [f"--{name}={value}" for name, value in (TINY | others).items()]
    return ["--preset", "debug", "--workdir", str(workdir), *settings]


@pytest.fixture(scope="session")
def tiny():
    """The config that `flags` means."""
    config = PRESETS["debug"]
    for name, value in TINY.items():
        part, field = name.replace("-", "_").split(".")
        changed = dataclasses.replace(getattr(config, part), **{field: value})
        config = dataclasses.replace(config, **{part: changed})
    return config


@pytest.fixture(scope="session")
def dataset(tiny):
    """Synthetic faces at 32 pixels: 64 to train on, 16 to validate, 16 to test."""
    from iamt_jax.data.open import open_source

    return open_source(tiny.data)


@pytest.fixture(scope="session")
def finished(dataset, tmp_path_factory):
    """The workdir of a whole run, made by the command line; never write into it."""
    from cli import train

    workdir = tmp_path_factory.mktemp("finished") / "W"
    assert train(flags(workdir)) == 0
    return workdir


@pytest.fixture(autouse=True)
def nothing_told():
    """No image of another test was told of, whatever it was called."""
    from iamt_jax.data import image_metadata

    image_metadata._named.clear()
