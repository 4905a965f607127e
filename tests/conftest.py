"""What must stand before JAX starts, and the small data and runs that tests share."""

import atexit
import os
import shutil
import sys
import tempfile

os.environ["NPROC"] = "32"  # With fewer threads than collectives wait for, jax 0.10.2 deadlocks.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

# Tests build the same programs again and again, each run its own; nothing outlives the session.
_compiled = tempfile.mkdtemp(prefix="iamt-compiled-")
atexit.register(shutil.rmtree, _compiled, ignore_errors=True)
os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import dataclasses  # noqa: E402

import pytest  # noqa: E402

from iamt_jax import platform  # noqa: E402
from iamt_jax.config import PRESETS  # noqa: E402

platform.prepare()

from iamt_jax.data.celeba import open_dataset  # noqa: E402
from iamt_jax.data.synthetic import write_dataset  # noqa: E402


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """A CelebA-shaped data set of synthetic faces: 32 to train on, 11 and 13 to judge by."""
    folder = tmp_path_factory.mktemp("faces") / "celeba"
    counts = {"train": 32, "validation": 11, "test": 13}
    write_dataset(folder, counts, seed=3, size=32, progress=False)
    return folder


@pytest.fixture(scope="session")
def dataset(root):
    return open_dataset(root)


@pytest.fixture(scope="session")
def tiny(root):
    """The debug preset on that data set, with everything random switched on."""
    debug = PRESETS["debug"]
    return dataclasses.replace(
        debug,
        data=dataclasses.replace(debug.data, name="celeba", root=str(root), shift=0.05),
        model=dataclasses.replace(debug.model, dropout=0.2),
        train=dataclasses.replace(debug.train, steps=4, batch_size=16, warmup=1, log_every=1),
    )
