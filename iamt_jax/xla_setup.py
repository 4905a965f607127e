"""Settings of JAX and XLA that must be made before they start, each with its measurement."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import logging
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator

from iamt_jax.errors import InputError

YNN_FLAG = "--xla_cpu_experimental_ynn_fusion_type="
"""XLA flag that turns off the YNNPACK fusions. They compute some sums of products wrongly on CPUs
with AVX-512 (jaxlib 0.10.2; docs/log.md has an example), and made training faster on no CPU that we
measured."""

_THREADS = 32
"""XLA's threads where a CPU acts as several devices. jax 0.10.2 deadlocks with fewer threads
than its collectives wait for."""

DECIDING = (
    "JAX_ENABLE_X64",
    "JAX_DEFAULT_DTYPE_BITS",
    "JAX_NUMPY_DTYPE_PROMOTION",
    "JAX_NUMPY_RANK_PROMOTION",
    "JAX_DEFAULT_PRNG_IMPL",
    "JAX_ENABLE_CUSTOM_PRNG",
    "JAX_THREEFRY_PARTITIONABLE",
    "JAX_RANDOM_SEED_OFFSET",
)
"""Environment variables that change JAX's numbers. They are removed, so that the numbers of a
command depend on its flags alone."""

_STARTING = ("JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES", "CUDA_VISIBLE_DEVICES", "XLA_FLAGS")
"""Environment variables that decide which devices JAX starts."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt."""

_LARGEST_KEPT = 2**30
"""Bytes of an array, and of free memory at the end of the heap, up to which malloc keeps them."""

_PROBE = "from jaxlib import xla_client; xla_client.CompileOptions().executable_build_options"
"""Program that makes XLA read XLA_FLAGS; takes 0.1 s."""


def prepare() -> None:
    """Sets the flags and loggers of JAX and its companions; must be called before anything touches
    JAX's devices.

    Raises:
      InputError: an environment variable has a value that JAX or XLA does not know.
    """
    # Pillow warns of faults that `decode` refuses or repairs, without naming the image.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # Orbax logs a failed write with a traceback from every thread; the error is raised as well.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logging.getLogger().addFilter(_is_worth_logging)
    # Without a writable home folder, matplotlib uses a temporary one, and logs that.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    given = os.environ.get("XLA_FLAGS", "")
    if "jax" not in sys.modules:
        _check_environment(given)
    if "JAX_NUM_CPU_DEVICES" in os.environ or "host_platform_device_count" in given:
        os.environ.setdefault("NPROC", str(_THREADS))
    turn_off_ynn()


def turn_off_ynn() -> None:
    """Adds `YNN_FLAG` to XLA_FLAGS unless it is there; has no effect once JAX has started."""
    given = os.environ.get("XLA_FLAGS", "")
    if knows_ynn() and "ynn_fusion_type" not in given:
        os.environ["XLA_FLAGS"] = f"{given} {YNN_FLAG}".strip()


def start_devices() -> None:
    """Starts JAX's devices; `distributed.initialize` calls it where several processes form a run.

    Raises:
      InputError: the devices that the environment asks for do not exist.
    """
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        values = {x: os.environ.get(x, "").replace(YNN_FLAG, "").strip() for x in _STARTING}
        asked = [f"{name}={value}" for name, value in values.items() if value]
        words = (
            " ".join(str(error).split(" (")[0].split())[:200] or "no device of that kind was found"
        )
        jax.config.update("jax_platforms", None)
        there = "cpu"
        with contextlib.suppress(RuntimeError, AssertionError):
            there = ", ".join(sorted({"cpu", *(device.platform for device in jax.devices())}))
        raise InputError(
            f"{' '.join(asked) or 'JAX'}: JAX cannot start these devices ({words}); this machine "
            f"and this installation have {there}: name one in JAX_PLATFORMS, or leave these unset"
        ) from None


def _check_environment(xla_flags: str) -> None:
    """Refuses environment variables that would fail JAX's import or abort the process from C++;
    removes those that would change numbers."""
    for name in DECIDING:
        os.environ.pop(name, None)
    if xla_flags:
        probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True)
        if probe.returncode and "Traceback" not in probe.stderr:
            unknown = re.search(r"in XLA_FLAGS: (.*)", probe.stderr)
            raise InputError(
                f"XLA_FLAGS={xla_flags}: this version of XLA does not know "
                f"{unknown[1].strip() if unknown else 'a flag in it, or its value'}; leave it out"
            )
    try:
        import jax  # noqa: F401
    except ValueError as error:
        raise InputError(
            f"JAX refuses a variable of the environment ({error}); correct it, or leave it unset"
        ) from None


@contextlib.contextmanager
def default_numbers() -> Iterator[None]:
    """Makes JAX compute with its defaults within the context: 32 bits, standard promotion.

    A program that imports this package may have configured JAX otherwise (`jax_enable_x64`); its
    own setting is kept outside of the context.
    """
    if "jax" not in sys.modules:
        return (yield)  # `prepare` removes settings of the environment.
    import jax

    if hasattr(jax, "enable_x64"):
        narrow = jax.enable_x64(False)
    else:  # jax before 0.8
        from jax.experimental import disable_x64

        narrow = disable_x64()
    promotion, ranks = jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow")
    with narrow, promotion, ranks:
        yield


def release_memory() -> None:
    """Returns freed memory to the system where malloc is glibc's.

    Compilation frees about 250 MB that would stay resident and become fragmented: without this, a
    run of 10,000 steps grew by 2.2 MB per 1,000 steps (docs/reliability.md).
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def keep_memory() -> None:
    """Keeps freed memory for the next arrays where malloc is glibc's, until the process ends.

    By default large arrays are mapped anew each time, and the system clears every page of them: in
    a calibration 13 million pages, and half as many if memory is kept (docs/log.md).
    """
    with contextlib.suppress(AttributeError, OSError):
        malloc = ctypes.CDLL(None)
        # Older versions of glibc refuse it. Their own threshold adapts, as long as nothing is set.
        if malloc.mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT):
            malloc.mallopt(_TRIM_THRESHOLD, _LARGEST_KEPT)


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """False for Orbax's message, one for each array, about checkpoints made by jax 0.7's pmap."""
    return "PmapSharding" not in record.getMessage()


def knows_ynn() -> bool:
    """Returns True if this jaxlib has `YNN_FLAG`; an unknown XLA flag aborts the process."""
    version = importlib.metadata.version("jaxlib").split(".")
    return (0, 10) <= tuple(int(part) for part in version[:2]) <= (0, 12)
