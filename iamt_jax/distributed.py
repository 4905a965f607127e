"""Several processes that form one run: start, agreement, shared work and exit."""

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

_HEARTBEAT = 30
"""Seconds without a heartbeat after which JAX ends the processes that wait for the missing one."""


def initialize(processes: Processes, preemption_notices: bool = False) -> None:
    """Joins the run and starts JAX's devices; must be called before anything touches the devices.

    With `preemption_notices`, JAX treats SIGTERM as a notice to all processes (`stop_agreed`)
    instead of ending at it.

    Raises:
      InputError: the fields contradict each other, the other processes were not found, or JAX has
        no such devices.
    """
    if processes.coordinator is None:
        if (processes.count, processes.index) != (None, None):
            raise InputError(
                "`processes.coordinator`: missing beside `processes.count` and `processes.index`; "
                "give HOST:PORT of process 0, or leave all three out"
            )
        xla_setup.start_devices()
        return
    options: dict[str, Any] = {}
    if processes.coordinator != AUTO:
        _check(processes)
        options = {
            "coordinator_address": processes.coordinator,
            "num_processes": processes.count,
            "process_id": processes.index,
        }
    if "heartbeat_timeout_seconds" in inspect.signature(jax.distributed.initialize).parameters:
        options["heartbeat_timeout_seconds"] = _HEARTBEAT
    if hasattr(jax.config, "jax_enable_preemption_service"):  # jax 0.7.2 always has it
        jax.config.update("jax_enable_preemption_service", preemption_notices)
    try:
        jax.distributed.initialize(**options)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"`processes.coordinator` {processes.coordinator}: the processes did not find each "
            f"other ({' '.join(str(error).split())[:200]}); start all of them, with the same "
            "address"
        ) from error
    xla_setup.start_devices()


def _check(processes: Processes) -> None:
    """Refuses an address, count or index that JAX would not accept."""
    host, _, port = processes.coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise InputError(
            f"`processes.coordinator` {processes.coordinator}: expected HOST:PORT of process 0, "
            f"such as 10.0.0.1:1234, or {AUTO}"
        )
    for name, value in (("count", processes.count), ("index", processes.index)):
        if value is None:
            raise InputError(
                f"`processes.{name}`: missing beside `processes.coordinator`; give all three, or "
                f"`processes.coordinator` {AUTO}"
            )
    if processes.count < 1:
        raise InputError(
            f"`processes.count` {processes.count}: expected the number of processes, at least 1"
        )
    if not 0 <= processes.index < processes.count:
        raise InputError(
            f"`processes.index` {processes.index}: expected this process's number, from 0 to "
            f"{processes.count - 1}"
        )


def is_first() -> bool:
    """Returns True on process 0, which prints and writes for the whole run."""
    return jax.process_index() == 0


def print_once(text: str, file=None) -> None:
    """Prints on process 0 only."""
    if is_first():
        print(text, file=file)


def run_on_all(action: Callable[[], Result]) -> Result:
    """Runs `action` on this process, while every other process runs its own; returns the result.

    All processes wait until the last has ended. Then they learn whether one of them failed, so that
    all stop together and none waits for one that is gone.

    Raises:
      InputError: `action` raised it, here or on another process, which prints its own reason.
    """
    failure, result = None, None
    try:
        result = action()
    except InputError as error:
        failure = error
    failed = np.flatnonzero(_gather_flags(failure is not None))
    if failure is not None:
        raise failure
    if len(failed):
        raise InputError(f"process {failed[0]} of this run was refused; its own line says why")
    return result


def run_on_first(action: Callable[[], None]) -> None:
    """Runs `action` on process 0 while the others wait; raises as `run_on_all`."""
    run_on_all(lambda: action() if is_first() else None)


def run_on_first_then_rest(action: Callable[[], Result]) -> Result:
    """Runs `action` on process 0, then on the others; each returns its own result.

    For actions that write files to a shared disk if they are not there: only process 0 writes, and
    the others find the files. Raises as `run_on_all`.
    """
    result = run_on_all(lambda: action() if is_first() else None)
    return run_on_all(lambda: result if is_first() else action())


def true_on_all(flag: bool) -> bool:
    """Returns True if `flag` is true on every process."""
    return bool(_gather_flags(flag).all())


def _gather_flags(flag: bool) -> np.ndarray:
    """The flag of every process, by process index."""
    if jax.process_count() == 1:
        return np.array([flag])
    return multihost_utils.process_allgather(np.array(flag))


def shard_indices(count: int) -> np.ndarray:
    """Returns this process's shard of `range(count)`: every n-th index, for n processes.

    All shards have the same length, so that no process waits for one that has already ended; the
    last index is repeated where `count` is not divisible by n.
    """
    processes = jax.process_count()
    mine = jax.process_index() + processes * np.arange(-(-count // processes))
    return np.minimum(mine, count - 1)


def gather(shard: Any, count: int) -> Any:
    """Joins the shards of all processes: rows 0 to `count` - 1, in order, on every process.

    A shard is an array, or a tree of arrays, with one row for each of this process's
    `shard_indices`.
    """
    if jax.process_count() == 1:
        return shard
    # (process, row of the shard, ...); row i of process p is row i * processes + p of the whole.
    rows = multihost_utils.process_allgather(shard)
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:])[:count], rows)


def stop_agreed(step: int) -> bool:
    """Returns True if a process was told to end (SIGTERM) and all have now reached `step`."""
    return jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step)


def is_multiprocess() -> bool:
    """Returns True if this process is one of several that form one run."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_lost_peer(error: BaseException) -> bool:
    """Returns True if an error means that another process of this run is gone."""
    return isinstance(error, jax.errors.JaxRuntimeError)


def exit_without_waiting(status: int) -> None:
    """Ends a process of a multi-process run at once; a normal exit would deadlock in JAX's
    shutdown barrier if the others wait for this process. Does nothing in a single-process run."""
    if is_multiprocess():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
