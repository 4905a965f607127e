"""Settings of JAX that must stand before it starts, each with the measurement behind it."""

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

from absl import flags

from iamt_jax.errors import InputError

YNN_FLAG = "--xla_cpu_experimental_ynn_fusion_type="
"""Turns off XLA's YNNPACK fusions, which compute some sums of products wrongly on CPUs with AVX-512
(jaxlib 0.10.2; docs/log.md has an example), and on no CPU that we measured train faster."""


THREADS = 32
"""XLA's threads where a CPU stands for several devices: with fewer than its collectives wait for,
jax 0.10.2 deadlocks."""


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
"""Settings of JAX that decide numbers. A command's numbers are decided by its flags alone."""

STARTING = ("JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES", "CUDA_VISIBLE_DEVICES", "XLA_FLAGS")
"""Settings that decide which devices JAX starts."""

PROBE = "from jaxlib import xla_client; xla_client.CompileOptions().executable_build_options"
"""Makes XLA read XLA_FLAGS: 0.1 s."""


def prepare() -> None:
    """Sets flags; call it before anything touches JAX's devices.

    Raises:
      InputError: a variable of the environment has a value that JAX or XLA does not know.
    """
    # Pillow warns of what `decode` refuses or mends, without naming the image.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # Orbax logs a failed write with a traceback from every thread, and raises it: we tell it once.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logging.getLogger().addFilter(_worth_telling)
    # Without a home folder that it can write, matplotlib does with a temporary one, and says so.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(sys.argv[:1])  # Grain's worker processes ask for parsed flags.
    given = os.environ.get("XLA_FLAGS", "")
    if "jax" not in sys.modules:
        _check_environment(given)
    if "JAX_NUM_CPU_DEVICES" in os.environ or "host_platform_device_count" in given:
        os.environ.setdefault("NPROC", str(THREADS))
    turn_off_ynn()


def turn_off_ynn() -> None:
    """Sets `YNN_FLAG` unless XLA_FLAGS names it already; without effect once JAX has started."""
    given = os.environ.get("XLA_FLAGS", "")
    if knows_ynn() and "ynn_fusion_type" not in given:
        os.environ["XLA_FLAGS"] = f"{given} {YNN_FLAG}".strip()


def start() -> None:
    """Starts JAX's devices; where processes are one run, `processes.start` does.

    Raises:
      InputError: those that were asked for are not there.
    """
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked = [f"{name}={os.environ[name]}" for name in STARTING if os.environ.get(name)]
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
    """Refuses settings of the environment that would end JAX's import, or, from C++, the process;
    drops those that would change numbers."""
    for name in DECIDING:
        os.environ.pop(name, None)
    if xla_flags:
        probe = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True)
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
    """Within it, JAX computes as it does by default: in 32 bits, with standard promotion.

    A program that imports this package may have set JAX up otherwise (`jax_enable_x64`), and keeps
    that for itself.
    """
    if "jax" not in sys.modules:
        return (yield)  # `prepare` sees to it.
    import jax

    if hasattr(jax, "enable_x64"):
        narrow = jax.enable_x64(False)
    else:  # jax before 0.8
        from jax.experimental import disable_x64

        narrow = disable_x64()
    promotion, ranks = jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow")
    with narrow, promotion, ranks:
        yield


def give_back() -> None:
    """Returns memory that was freed to the system, where malloc is glibc's.

    Compiling frees some 250 MB that would stay resident, and fragments: a run of 10,000 steps grew
    by 2.2 MB per 1,000 steps without it (docs/reliability.md).
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _worth_telling(record: logging.LogRecord) -> bool:
    """Orbax tells the root logger of every array of a checkpoint that jax 0.7's pmap made."""
    return "PmapSharding" not in record.getMessage()


def knows_ynn() -> bool:
    """Whether this jaxlib has `YNN_FLAG`; an unknown XLA flag aborts the process."""
    version = importlib.metadata.version("jaxlib").split(".")
    return (0, 10) <= tuple(int(part) for part in version[:2]) <= (0, 12)
