"""Settings of JAX that must stand before it starts, each with the measurement behind it."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import logging
import os
import sys
import warnings

from absl import flags

YNN_FLAG = "--xla_cpu_experimental_ynn_fusion_type="
"""Turns off XLA's YNNPACK fusions, which compute some sums of products wrongly on CPUs with AVX-512
(jaxlib 0.10.2; docs/log.md has an example), and on no CPU that we measured train faster."""


THREADS = 32
"""XLA's threads where a CPU stands for several devices: with fewer than its collectives wait for,
jax 0.10.2 deadlocks."""


def prepare() -> None:
    """Sets flags; call it before anything touches JAX's devices."""
    # Pillow warns of what `decode` refuses or mends, without naming the image.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # Orbax logs a failed write with a traceback from every thread, and raises it: we tell it once.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logging.getLogger().addFilter(_worth_telling)
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(sys.argv[:1])  # Grain's worker processes ask for parsed flags.
    given = os.environ.get("XLA_FLAGS", "")
    if "JAX_NUM_CPU_DEVICES" in os.environ or "host_platform_device_count" in given:
        os.environ.setdefault("NPROC", str(THREADS))
    turn_off_ynn()


def turn_off_ynn() -> None:
    """Sets `YNN_FLAG` unless XLA_FLAGS names it already; without effect once JAX has started."""
    given = os.environ.get("XLA_FLAGS", "")
    if knows_ynn() and "ynn_fusion_type" not in given:
        os.environ["XLA_FLAGS"] = f"{given} {YNN_FLAG}".strip()


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
