"""Checkpoints of a run (Orbax v1): the latest two and the best; written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax
from orbax.checkpoint import v1 as ocp

from iamt_jax import processes
from iamt_jax.errors import InputError
from iamt_jax.model.network import Tree
from iamt_jax.training.seal import Damaged, Metrics, Unfinished, check_seal, write_seal
from iamt_jax.training.state import State, build
from iamt_jax.workdir import RUN, Run, read_run

FOLDER = "checkpoints"
"""Where they lie below the workdir."""

DAMAGED = "damaged"
"""Where those that cannot be read are put aside, below the workdir."""

BEST = "average_precision"
"""The validation metric that decides which checkpoint is best: unlike accuracy, it does not
reward leaning towards the majority class."""

LATEST = 2
"""How many of the newest are kept, beside the best."""

_UNFINISHED = ".orbax-checkpoint-tmp"
"""What Orbax calls a folder that it is still writing, after the step."""


WORST = -1.0
"""Score of a checkpoint without one."""


def score(metrics: Metrics | None) -> float:
    """The number by which checkpoints are compared, everywhere; of equal ones the latest is best.

    `WORST` where the checkpoint was not validated, or the metric is undefined: None, NaN in those
    of earlier versions.
    """
    found = None if metrics is None else metrics[BEST]
    return WORST if found is None or math.isnan(found) else found


class Weights(NamedTuple):
    """What evaluation needs of a checkpoint."""

    step: int
    params: Tree
    """The averaged ones, where the run keeps an average."""
    statistics: Tree


class Checkpoints:
    """Writes the checkpoints of a run; use it as a context, so that the last write ends.

    Opening it needs `recover` first: Orbax takes any folder with a number for a checkpoint.
    """

    def __init__(self, workdir: Path, scores: dict[int, float] | None = None):
        self.folder = workdir / FOLDER
        self.scores = scores or {}
        """Step -> the validation metric that decides which is best."""
        self._sealer, self._sealing = ThreadPoolExecutor(1), Future()
        self._sealing.set_result(None)
        with self._written():
            self._orbax = ocp.training.Checkpointer(
                self.folder.absolute(),
                save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
                preservation_policy=self,
            )

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        """Orbax's question which of its checkpoints stay: the latest and the best."""
        del context
        steps = sorted(checkpoint.step for checkpoint in checkpoints)
        kept = set(steps[-LATEST:])
        if steps:
            kept.add(max(steps, key=lambda step: (self.scores.get(step, WORST), step)))
        return [checkpoint.step in kept for checkpoint in checkpoints]

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is not None and processes.several():
            return  # The others may be gone, and Orbax would wait for them.
        # What went wrong first is what is told.
        with self._written() if kind is None else contextlib.suppress(Exception):
            self.wait()
            self._orbax.close()
        self._sealer.shutdown()

    def wait(self) -> None:
        """Waits until the last checkpoint is on the disk, and sealed.

        Raises:
          InputError: it is not; the disk is full, say.
        """
        with self._written():
            self._sealing.result()

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints there are, in order."""
        return sorted(checkpoint.step for checkpoint in self._orbax.checkpoints)

    def save(self, state: State, metrics: Metrics | None) -> None:
        """Writes the state in the background, and seals it.

        `metrics` are the validation's, None where there was none (an interrupted run).

        Raises:
          InputError: this write, or the one before, failed; the disk is full, say.
        """
        step = int(state.step)
        self.wait()
        if step in self.steps:
            return
        with self._written():
            if metrics is not None:
                self.scores[step] = score(metrics)
            saved = self._orbax.save_checkpointables_async(step, {"state": state}, force=True)
            shapes = jax.tree.map(_abstract, state)
            self._sealing = self._sealer.submit(self._seal, saved, step, shapes, metrics)

    def _seal(
        self, saved: ocp.AsyncResponse, step: int, like: State, metrics: Metrics | None
    ) -> None:
        """Waits for the write, in a thread of its own, and seals it."""
        saved.result()
        if processes.first():
            write_seal(self.folder / str(step), like, metrics)

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Orbax and TensorStore raise a dozen types, here of storage.
            raise InputError(
                f"{self.folder}: a checkpoint cannot be written ({_first_words(error)}); make "
                "room, or give rights to the folder: the same command then continues from the last"
            ) from error


def recover(workdir: Path, like: State) -> tuple[State | None, dict[int, float]]:
    """The newest checkpoint that can be read, and the scores of all.

    Those that cannot be read are put aside, into `damaged/`, with a warning; nothing is deleted
    but what a killed run had not finished writing. Only for the run that owns the workdir.

    Args:
      workdir: of the run.
      like: the state's shapes, dtypes and shardings.

    Returns:
      The state, None if there never was a checkpoint; step -> validated score.

    Raises:
      InputError: there are checkpoints, and none can be read.
    """
    state, scores, refused = None, {}, []
    for path in reversed(step_folders(workdir)):
        found, reason = None, Damaged("cannot be read by another process of this run")
        try:
            metrics = check_seal(path, like)
            found = state or read(path, like)
        except Damaged as damage:
            reason = damage
        if not processes.everywhere(found is not None):
            refused.append((path, reason))
            continue
        state = found
        if metrics is not None:
            scores[int(path.name)] = score(metrics)
    lost = [one for one in refused if not isinstance(one[1], Unfinished)]
    if state is None and lost:
        raise _unreadable(*lost[0])
    processes.by_first(lambda: _tidy(workdir, refused))
    return state, scores


def _tidy(workdir: Path, refused: list[tuple[Path, Damaged]]) -> None:
    for path, reason in refused:
        _warn(f"{path}: {reason}; put aside as {_put_aside(path, workdir / DAMAGED)}")
    folder = workdir / FOLDER
    for path in folder.iterdir() if folder.is_dir() else ():
        if _UNFINISHED in path.name:
            shutil.rmtree(path, ignore_errors=True)


def best_weights(workdir: Path) -> tuple[Run, Weights]:
    """The run and the best checkpoint of a workdir, by `score`.

    One that cannot be read is left alone, with a warning, and the next best is taken.

    Raises:
      InputError: the folder holds no run, or no checkpoint that can be read as its network.
    """
    run = read_run(workdir)
    like = _network(run)
    ranked, refused = [], []
    for path in step_folders(workdir):
        try:
            ranked.append((score(check_seal(path)), int(path.name), path))
        except Damaged as reason:
            refused.append((path, reason))
    for _, step, path in sorted(ranked, reverse=True):
        try:
            params, statistics = read_network(path, like)
        except Damaged as reason:
            refused.append((path, reason))
            continue
        for other, reason in refused:
            _warn(f"{other}: {reason}; step {step} is used")
        return run, Weights(step, params, statistics)
    if refused:
        raise _unreadable(*max(refused, key=lambda one: int(one[0].name)))
    raise InputError(
        f"{workdir / FOLDER}: no checkpoint found; train first, "
        f"with python train.py --workdir {shlex.quote(str(workdir))}"
    )


def _network(run: Run) -> dict[str, Tree]:
    """What evaluation reads of a run's checkpoints: shapes and types, by name in `State`."""
    params, statistics = jax.eval_shape(lambda: build(run.config, len(run.attributes))[1:])
    evaluated = "average" if run.config.train.ema else "params"
    return {evaluated: params, "statistics": statistics}


def read_network(path: Path, like: dict[str, Tree]) -> tuple[Tree, Tree]:
    """The evaluated parameters and the statistics of one checkpoint, on the first device.

    The optimiser's state is not looked at: it is larger, and another version of this package may
    have another.

    Raises:
      Damaged: it cannot be read, or holds another network than `like`.
    """
    try:
        found = ocp.checkpointables_metadata(path.absolute()).metadata["state"]
        if any(_shapes(found[name]) != _shapes(tree) for name, tree in like.items()):
            raise Damaged("holds another network")
        with _some_of_it():
            abstract = {"state": jax.tree.map(_abstract, like)}
            state = ocp.load_checkpointables(path.absolute(), abstract)["state"]
    except Damaged:
        raise
    except Exception as error:  # Orbax and TensorStore raise a dozen types.
        raise Damaged(f"cannot be read ({_first_words(error)})") from error
    return tuple(state[name] for name in like)


def _some_of_it() -> ocp.Context:
    """Within it, Orbax reads the part of a checkpoint that it is asked for."""
    context = ocp.Context()
    context.pytree.loading.partial_load = True
    return context


def _shapes(tree: Tree) -> dict[str, tuple]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): (x.shape, str(x.dtype)) for path, x in leaves}


def read(path: Path, like: State) -> State:
    """One checkpoint, in the shape and on the devices of `like`.

    Raises:
      Damaged: it cannot be read.
    """
    abstract = {"state": jax.tree.map(_abstract, like)}
    try:
        return ocp.load_checkpointables(path.absolute(), abstract)["state"]
    except Exception as error:  # Orbax and TensorStore raise a dozen types.
        reason = f"cannot be read ({_first_words(error)})"
        with contextlib.suppress(Damaged):
            read_network(path, {"params": like.params, "statistics": like.statistics})
            reason = (
                "its network can be read, but not its optimiser's state, which another version of "
                "this package wrote: start a new run with --train.init-from"
            )
        raise Damaged(reason) from error


def step_folders(workdir: Path) -> list[Path]:
    """Folders that call themselves checkpoints, by step."""
    folder = workdir / FOLDER
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in found if path.name.isdecimal()), key=lambda x: int(x.name))


def _put_aside(path: Path, folder: Path) -> Path:
    places = [folder / path.name, *(folder / f"{path.name}.{i}" for i in range(1, 1000))]
    place = next(place for place in places if not place.exists())
    folder.mkdir(exist_ok=True)
    path.rename(place)
    return place


def _warn(text: str) -> None:
    processes.say(f"warning: {text}", file=sys.stderr)


def _unreadable(path: Path, reason: Damaged) -> InputError:
    return InputError(
        f"{path}: {reason}, and no other checkpoint can be read as the network that {RUN} "
        "describes; restore the matching files, or train again in another folder"
    )


def _abstract(leaf: jax.Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """Where the leaf lies, or else on the first device."""
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _first_words(error: BaseException) -> str:
    """What an error says, without TensorStore's specifications; of a disk, only what ails it."""
    ailments = map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO))
    if ailment := next((x for x in ailments if x in str(error)), None):
        return ailment
    return " ".join(str(error).split("[tensorstore_spec")[0].split())[:200] or type(error).__name__
