"""Checkpoints of a run (Orbax v1): the latest two and the best are kept.

After Orbax has written a checkpoint, a file of checksums is added to it. A checkpoint without them,
or with other files than they describe, is not used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import math
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
from orbax.checkpoint import v1 as ocp

from iamt_jax import distributed
from iamt_jax.errors import InputError
from iamt_jax.files import json_text, plain, replace_text
from iamt_jax.model.network import Tree, abstract
from iamt_jax.runs.run_file import RUN, Run, read_run

CHECKSUMS = "seal.json"
"""Checksums and validation metrics of a checkpoint, written last."""

FOLDER = "checkpoints"
"""Folder of the checkpoints in the workdir."""

DAMAGED = "damaged"
"""Folder in the workdir to which unreadable checkpoints are moved."""

BEST = "average_precision"
"""Validation metric that decides which checkpoint is best. Unlike accuracy, it does not reward a
bias towards the majority class."""

LATEST = 2
"""Number of newest checkpoints that are kept, beside the best."""

_UNFINISHED = ".orbax-checkpoint-tmp"
"""Suffix of a folder that Orbax is still writing, after the step."""

WORST = -1.0
"""Score of a checkpoint that was not validated."""

_Metrics = dict[str, float | None]


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    """State of training, the content of a checkpoint."""

    step: jax.Array
    """Steps taken, int32."""
    params: Tree
    statistics: Tree
    """Running statistics of the normalisation layers; empty without BatchNorm."""
    optimiser: Tree
    average: Tree
    """Moving average of `params`, which is evaluated; None without `train.ema`."""

    @property
    def evaluated(self) -> Tree:
        """Parameters that validation and inference use."""
        return self.params if self.average is None else self.average


class Damaged(Exception):
    """A checkpoint cannot be used; the message gives the reason in a few words."""


class Unfinished(Damaged):
    """A checkpoint has no checksums: the run was killed while writing, or it is another folder."""


def write_checksums(folder: Path, like: State, metrics: _Metrics | None) -> None:
    """Writes the checksums of a complete checkpoint: SHA-256 of every file, a digest of the
    network's shapes, and the metrics of the validation.

    Raises:
      OSError: a file cannot be read, or the checksums cannot be written.
    """
    content = {"metrics": plain(metrics), "network": shapes(like), "files": _digests(folder)}
    content |= {"sha256": _digest_of(content)}
    replace_text(folder / CHECKSUMS, json_text(content, indent=1) + "\n")


def check_checksums(folder: Path, like: State | None = None) -> _Metrics | None:
    """Compares a checkpoint's files with its checksums; returns the metrics of the validation.

    Raises:
      Unfinished: it has no checksums.
      Damaged: a file differs or is missing, or the state has other shapes or types than `like`.
    """
    try:
        content = _content(folder)
        found = _digests(folder, content["files"])
    except FileNotFoundError as error:
        if error.filename == str(folder / CHECKSUMS):
            raise Unfinished("is not a complete checkpoint") from None
        raise Damaged(f"lacks {Path(error.filename).relative_to(folder)}") from None
    except OSError as error:
        raise Damaged(f"cannot be read ({error.strerror})") from None
    for name, digest in content["files"].items():
        if found[name] != digest:
            raise Damaged(f"{name} in it is not what was saved")
    if like is not None and content["network"] != shapes(like):
        raise Damaged("holds another network, or another optimiser's state")
    return content["metrics"]


def shapes(tree: Any) -> str:
    """Digest of the names, shapes and types of all arrays."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    text = [f"{jax.tree_util.keystr(path)} {x.dtype} {x.shape}" for path, x in leaves]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()


def _content(folder: Path) -> dict[str, Any]:
    text = (folder / CHECKSUMS).read_bytes()
    try:
        content = json.loads(text)
        digest = content.pop("sha256")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        digest, content = None, {}
    if digest != _digest_of(content):
        raise Damaged(f"its {CHECKSUMS} is not what was written")
    return content


def _digest_of(content: dict[str, Any]) -> str:
    # Not `json_text`: earlier versions wrote NaN, and computed the digest with it.
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digests(folder: Path, names: Any = None) -> dict[str, str]:
    """SHA-256 of the files below a folder: of all, or of those named."""
    if names is None:
        files = sorted(x for x in folder.rglob("*") if x.is_file() and x.name != CHECKSUMS)
        names = [str(path.relative_to(folder)) for path in files]
    result = {}
    for name in names:
        with open(folder / name, "rb") as file:
            result[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return result


def score(metrics: _Metrics | None) -> float:
    """Score by which checkpoints are compared; of equal ones the latest is best.

    It is `WORST` where the metric is undefined (None; NaN in checkpoints of earlier versions).
    """
    found = None if metrics is None else metrics[BEST]
    return WORST if found is None or math.isnan(found) else found


class NetworkWeights(NamedTuple):
    """Weights of the network in a checkpoint, without the optimiser's state."""

    step: int
    params: Tree
    """The moving average, where the run keeps one."""
    statistics: Tree


class Checkpoints:
    """Writer of the checkpoints of a run; a context manager, so that the last write is finished.

    Call `recover` first: Orbax takes any folder whose name is a number for a checkpoint.
    """

    def __init__(self, workdir: Path, scores: dict[int, float] | None = None):
        self.folder = workdir / FOLDER
        self.scores = scores or {}
        """Score of each step."""
        self._worker, self._writing = ThreadPoolExecutor(1), Future()
        self._writing.set_result(None)
        with self._written():
            self._orbax = ocp.training.Checkpointer(
                self.folder.absolute(),
                save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
                preservation_policy=self,
            )

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        """Chooses the checkpoints that Orbax keeps: the latest and the best."""
        del context
        steps = sorted(checkpoint.step for checkpoint in checkpoints)
        kept = set(steps[-LATEST:])
        if steps:
            kept.add(max(steps, key=lambda step: (self.scores.get(step, WORST), step)))
        return [checkpoint.step in kept for checkpoint in checkpoints]

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is not None and distributed.is_multiprocess():
            return  # Other processes may have ended, and Orbax would wait for them.
        # After an error, further ones are ignored.
        with self._written() if kind is None else contextlib.suppress(Exception):
            self.wait()
            self._orbax.close()
        self._worker.shutdown()

    def wait(self) -> None:
        """Waits until the last checkpoint and its checksums are on the disk.

        Raises:
          InputError: the write failed, for example because the disk is full.
        """
        with self._written():
            self._writing.result()

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints, ascending."""
        return sorted(checkpoint.step for checkpoint in self._orbax.checkpoints)

    def save(self, state: State, metrics: _Metrics | None) -> None:
        """Writes the state and its checksums, with the metrics of a validation, in the background.

        Raises:
          InputError: this write, or the one before, failed, for example because the disk is full.
        """
        step = int(state.step)
        self.wait()
        if step in self.steps:
            return
        with self._written():
            if metrics is not None:
                self.scores[step] = score(metrics)
            saved = self._orbax.save_checkpointables_async(step, {"state": state}, force=True)
            like = jax.tree.map(_abstract, state)
            self._writing = self._worker.submit(self._finish, saved, step, like, metrics)

    def _finish(
        self, saved: ocp.AsyncResponse, step: int, like: State, metrics: _Metrics | None
    ) -> None:
        """Waits for the write, in a thread of its own, and adds the checksums."""
        saved.result()
        if distributed.is_first():
            write_checksums(self.folder / str(step), like, metrics)

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Orbax and TensorStore raise a dozen types.
            raise InputError(
                f"{self.folder}: a checkpoint cannot be written ({_first_words(error)}); make "
                "room, or give rights to the folder: the same command then continues from the last"
            ) from error


def recover(workdir: Path, like: State) -> tuple[State | None, dict[int, float]]:
    """Reads the newest readable checkpoint, and the scores of all.

    Unreadable checkpoints are moved to `damaged/`, with a warning; only what a killed run had not
    finished writing is deleted. Only the run that owns the workdir may call it.

    Returns:
      The state, with the shapes, types and shardings of `like`, or None if there is no checkpoint;
      and the score of each validated step.

    Raises:
      InputError: there are checkpoints, but none can be read.
    """
    state, scores, refused = None, {}, []
    for path in reversed(step_folders(workdir)):
        found, reason = None, Damaged("cannot be read by another process of this run")
        try:
            metrics = check_checksums(path, like)
            found = state or read(path, like)
        except Damaged as damage:
            reason = damage
        if not distributed.true_on_all(found is not None):
            refused.append((path, reason))
            continue
        state = found
        if metrics is not None:
            scores[int(path.name)] = score(metrics)
    lost = [one for one in refused if not isinstance(one[1], Unfinished)]
    if state is None and lost:
        raise _unreadable(*lost[0])
    distributed.run_on_first(lambda: _tidy(workdir, refused))
    return state, scores


def _tidy(workdir: Path, refused: list[tuple[Path, Damaged]]) -> None:
    for path, reason in refused:
        _warn(f"{path}: {reason}; put aside as {_put_aside(path, workdir / DAMAGED)}")
    folder = workdir / FOLDER
    for path in folder.iterdir() if folder.is_dir() else ():
        if _UNFINISHED in path.name:
            shutil.rmtree(path, ignore_errors=True)


def best_weights(workdir: Path) -> tuple[Run, NetworkWeights]:
    """Reads the run and its best checkpoint, by `score`.

    For a checkpoint that cannot be read, there is a warning, and the next best is used.

    Raises:
      InputError: the folder holds no run, or no checkpoint that can be read as its network.
    """
    run = read_run(workdir)
    _, params, statistics = abstract(run.config.model, len(run.attributes))
    evaluated = "average" if run.config.train.ema else "params"
    like = {evaluated: params, "statistics": statistics}
    ranked, refused = [], []
    for path in step_folders(workdir):
        try:
            ranked.append((score(check_checksums(path)), int(path.name), path))
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
        return run, NetworkWeights(step, params, statistics)
    if refused:
        raise _unreadable(*max(refused, key=lambda one: int(one[0].name)))
    raise InputError(
        f"{workdir / FOLDER}: no checkpoint found; train first, "
        f"with python train.py --workdir {shlex.quote(str(workdir))}"
    )


def read_network(path: Path, like: dict[str, Tree]) -> tuple[Tree, Tree]:
    """Reads the evaluated parameters and the statistics of one checkpoint, on the first device.

    The optimiser's state is not read: it is larger, and in another version of this package it may
    differ.

    Raises:
      Damaged: it cannot be read, or the network has other shapes or types than `like`.
    """
    part = ocp.Context()
    part.pytree.loading.partial_load = True
    try:
        found = ocp.checkpointables_metadata(path.absolute()).metadata["state"]
        if any(shapes(found[name]) != shapes(tree) for name, tree in like.items()):
            raise Damaged("holds another network")
        with part:
            abstract = {"state": jax.tree.map(_abstract, like)}
            state = ocp.load_checkpointables(path.absolute(), abstract)["state"]
    except Damaged:
        raise
    except Exception as error:  # Orbax and TensorStore raise a dozen types.
        raise Damaged(f"cannot be read ({_first_words(error)})") from error
    return tuple(state[name] for name in like)


def read(path: Path, like: State) -> State:
    """Reads one checkpoint, with the shapes, types and devices of `like`.

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
                "this package wrote: start a new run with `train.init_from`"
            )
        raise Damaged(reason) from error


def step_folders(workdir: Path) -> list[Path]:
    """Folders of checkpoints, by step; they may be damaged."""
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
    distributed.print_once(f"warning: {text}", file=sys.stderr)


def _unreadable(path: Path, reason: Damaged) -> InputError:
    return InputError(
        f"{path}: {reason}, and no other checkpoint can be read as the network that {RUN} "
        "describes; restore the matching files, or train again in another folder"
    )


def _abstract(leaf: jax.Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """Shape, type and sharding of a leaf; the first device where it has no sharding."""
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _first_words(error: BaseException) -> str:
    """Message of an error, shortened: only the disk's error if there is one, else the text before
    TensorStore's specification."""
    disk = map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO))
    if reason := next((x for x in disk if x in str(error)), None):
        return reason
    return " ".join(str(error).split("[tensorstore_spec")[0].split())[:200] or type(error).__name__
