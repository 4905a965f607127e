"""What must stand before JAX starts, and the small data set and run that tests share."""

import atexit
import contextlib
import dataclasses
import fcntl
import gc
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ["NPROC"] = "32"  # With fewer threads than collectives wait for, jax 0.10.2 deadlocks.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

# One folder for a session and its workers. Tests build the same programs again and again: every one
# is compiled once, and read by the other worker and after `bounded_memory` has let it go.
_scratch = os.environ.get("IAMT_TESTS_SCRATCH")
if not _scratch:
    _scratch = os.environ["IAMT_TESTS_SCRATCH"] = tempfile.mkdtemp(prefix="iamt-tests-")
    atexit.register(shutil.rmtree, _scratch, ignore_errors=True)
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(_scratch, "compiled")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ["IAMT_CACHE"] = os.path.join(_scratch, "faces")

# Tests run scripts that are no part of the package.
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(__file__)), "experiments"))

import pytest  # noqa: E402

from iamt_jax import xla_setup  # noqa: E402
from iamt_jax.config import PRESETS  # noqa: E402

xla_setup.prepare()

LONGEST = (
    "test_surroundings.py",
    "test_many_at_once.py",
    "test_corpus.py",
    "test_cli.py",
    "test_deployment.py",
    "test_training.py",
    "test_kernels.py",
    "test_checkpoints.py",
    "test_folder.py",
    "test_optimiser.py",
    "test_degradation.py",
)
"""Files that take longest come first, so that no worker is left alone with one at the end.

The first trains the run that many share; the second needs none, and keeps the other worker.
"""


@contextlib.contextmanager
def compilations(caplog, largest):
    """Asserts that programs of `Predictor.program` are compiled at most so often inside."""
    import jax

    caplog.clear()
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        yield
    lines = [record.getMessage() for record in caplog.records]
    found = [x for x in lines if x.startswith("Compiling") and "merged" in x]
    assert len(found) <= largest, found


def pytest_collection_modifyitems(items):
    """Puts the tests of `LONGEST` first, in its order."""
    place = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


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
def finished(tmp_path_factory):
    """The workdir of a whole run, made by the command line; never write into it.

    One worker trains it and the other waits: all of its programs are compiled for both.
    """
    from cli import train

    trained = Path(_scratch, "finished")
    with open(f"{trained}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not trained.exists():
            part = tmp_path_factory.mktemp("training") / "W"
            assert train(flags(part)) == 0
            part.rename(trained)
    workdir = tmp_path_factory.mktemp("finished") / "W"
    shutil.copytree(trained, workdir)
    return workdir


MEMORY = 1.1e9
"""Resident bytes of a worker above which a module's compiled programs are let go."""


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    """After a module, releases what JAX has compiled if the worker has grown large."""
    import jax

    yield
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    if pages * os.sysconf("SC_PAGE_SIZE") > MEMORY:
        jax.clear_caches()
        gc.collect()
        xla_setup.release_memory()


@pytest.fixture(autouse=True)
def nothing_told():
    """No image of another test was told of, whatever it was called."""
    from iamt_jax.data import image_metadata

    image_metadata._named.clear()
