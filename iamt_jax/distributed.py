"""Several processes that are one run: how they start, agree, share work, and end together."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from iamt_jax import xla_setup
from iamt_jax.config import AUTO, Processes
from iamt_jax.errors import InputError

Result = TypeVar("Result")

HEARTBEAT = 30
"""Seconds without a sign of life after which JAX ends the processes that wait for one."""


def start(chosen: Processes, notices: bool = False) -> None:
    """Joins the run, and starts JAX's devices; call it before anything touches them.

    Args:
      chosen: how the processes find each other.
      notices: JAX takes SIGTERM for a notice to all (`stop_agreed`), and does not end at it.

    Raises:
      InputError: flags that do not fit each other, the others were not found, or JAX has no such
        devices.
    """
    if chosen.coordinator is None:
        if (chosen.count, chosen.index) != (None, None):
            raise InputError(
                "--processes.coordinator: missing beside --processes.count and --processes.index; "
                "give HOST:PORT of process 0, or leave all three out"
            )
        xla_setup.start()
        return
    details: dict[str, Any] = {}
    if chosen.coordinator != AUTO:
        _check(chosen)
        details = {
            "coordinator_address": chosen.coordinator,
            "num_processes": chosen.count,
            "process_id": chosen.index,
        }
    if "heartbeat_timeout_seconds" in inspect.signature(jax.distributed.initialize).parameters:
        details["heartbeat_timeout_seconds"] = HEARTBEAT
    if hasattr(jax.config, "jax_enable_preemption_service"):  # jax 0.7.2 always has it
        jax.config.update("jax_enable_preemption_service", notices)
    try:
        jax.distributed.initialize(**details)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"--processes.coordinator {chosen.coordinator}: the processes did not find each other "
            f"({' '.join(str(error).split())[:200]}); start all of them, with the same address"
        ) from error
    xla_setup.start()


def _check(chosen: Processes) -> None:
    host, _, port = chosen.coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise InputError(
            f"--processes.coordinator {chosen.coordinator}: expected HOST:PORT of process 0, such "
            f"as 10.0.0.1:1234, or {AUTO}"
        )
    for name, value in (("count", chosen.count), ("index", chosen.index)):
        if value is None:
            raise InputError(
                f"--processes.{name}: missing beside --processes.coordinator; give all three, or "
                f"--processes.coordinator {AUTO}"
            )
    if chosen.count < 1:
        raise InputError(
            f"--processes.count {chosen.count}: expected the number of processes, at least 1"
        )
    if not 0 <= chosen.index < chosen.count:
        raise InputError(
            f"--processes.index {chosen.index}: expected this process's number, from 0 to "
            f"{chosen.count - 1}"
        )


def first() -> bool:
    """Whether this process speaks and writes for all."""
    return jax.process_index() == 0


def say(text: str, file=None) -> None:
    """Prints once a run."""
    if first():
        print(text, file=file)


def together(action: Callable[[], Result]) -> Result:
    """Runs `action` on every process; where it is refused on one, all of them stop.

    Raises:
      InputError: here, or on another process, whose own line says why.
    """
    refusal, result = None, None
    try:
        result = action()
    except InputError as error:
        refusal = error
    refused = np.flatnonzero(_told_by_all(refusal is not None))
    if refusal is not None:
        raise refusal
    if len(refused):
        raise InputError(f"process {refused[0]} of this run was refused; its own line says why")
    return result


def first_then_rest(action: Callable[[], Result]) -> Result:
    """Runs `action` on process 0, then on the others, which find what it left on a shared disk.

    Raises:
      InputError: as `together`.
    """
    result = together(lambda: action() if first() else None)
    return together(lambda: result if first() else action())


def everywhere(fine: bool) -> bool:
    """Whether it is so on every process."""
    return bool(_told_by_all(fine).all())


def _told_by_all(flag: bool) -> np.ndarray:
    if jax.process_count() == 1:
        return np.array([flag])
    return multihost_utils.process_allgather(np.array(flag))


def by_first(action: Callable[[], None]) -> None:
    """Process 0 acts, the others wait for it.

    Raises:
      InputError: process 0 was refused.
    """
    together(lambda: action() if first() else None)


def share(count: int) -> np.ndarray:
    """Which of `count` things are this process's: every n-th; some twice, so that all processes
    have as many, and none waits for another that has already ended."""
    processes = jax.process_count()
    mine = jax.process_index() + processes * np.arange(-(-count // processes))
    return np.minimum(mine, count - 1)


def gathered(mine: Any, count: int) -> Any:
    """What all processes found, in the order of the whole, from each one's `share`: arrays, or a
    tree of arrays, one row a thing."""
    if jax.process_count() == 1:
        return mine
    rows = multihost_utils.process_allgather(mine)
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:])[:count], rows)


def stop_agreed(step: int) -> bool:
    """Whether one of the processes was told to end (SIGTERM), and all are now at the same step."""
    return jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step)


def several() -> bool:
    """Whether this process is one of many that are one run."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def lost(error: BaseException) -> bool:
    """Whether an error says that another process of this run is gone."""
    return isinstance(error, jax.errors.JaxRuntimeError)


def leave(status: int) -> None:
    """Ends this process at once where others may wait for it: a polite farewell would wait for
    them, and they for us."""
    if several():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
