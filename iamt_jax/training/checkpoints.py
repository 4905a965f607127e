"""Checkpoints of a run (Orbax v1): the latest two and the best; written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import grain
import jax
from orbax.checkpoint import v1 as ocp

from iamt_jax.errors import InputError
from iamt_jax.model.network import Tree
from iamt_jax.training.state import State, create
from iamt_jax.workdir import RUN, Run, read_run

FOLDER = "checkpoints"
"""Where they lie below the workdir."""

BEST = "average_precision"
"""The validation metric that decides which checkpoint is best: unlike accuracy, it does not
reward leaning towards the majority class."""


class Weights(NamedTuple):
    """What evaluation needs of a checkpoint."""

    step: int
    params: Tree
    """The averaged ones, where the run keeps an average."""
    statistics: Tree


class Checkpoints:
    """Saves and restores a run; use it as a context, so that the last write ends."""

    def __init__(self, workdir: Path):
        keep = ocp.training.preservation_policies
        self._orbax = ocp.training.Checkpointer(
            (workdir / FOLDER).absolute(),
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=keep.AnyPreservationPolicy(
                [
                    keep.LatestN(2),
                    keep.BestN(
                        get_metric_fn=lambda metrics: metrics[BEST],
                        n=1,
                        keep_checkpoints_without_metrics=False,
                    ),
                ]
            ),
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_) -> None:
        self._orbax.close()

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints there are, in order."""
        return sorted(checkpoint.step for checkpoint in self._orbax.checkpoints)

    def save(
        self, state: State, data: grain.DatasetIterator, metrics: dict[str, float] | None
    ) -> None:
        """Writes the state and the data order's place, in the background.

        `metrics` are the validation's, None where there was none (an interrupted run).
        """
        step = int(state.step)
        if step in self.steps:
            return
        items = {"state": state, "data": data}
        self._orbax.save_checkpointables_async(step, items, force=True, metrics=metrics)

    def restore(self, state: State, data: grain.DatasetIterator) -> State:
        """The newest checkpoint, in the shape and on the devices of `state`; `data` moves to its
        place in the data order."""
        abstract = {"state": jax.tree.map(_abstract, state), "data": data}
        return self._orbax.load_checkpointables(None, abstract)["state"]

    def best(self, like: State) -> Weights:
        """The best validated checkpoint; the newest, if none was validated.

        Args:
          like: shapes and dtypes of the state, on whatever device.

        Raises:
          InputError: there is none, or it is of another network.
        """
        checkpoints = list(self._orbax.checkpoints)
        folder = Path(self._orbax.directory)
        if not checkpoints:
            raise _nothing_saved(folder.parent)
        validated = [c for c in checkpoints if c.metrics]
        # Among equals the newest, as the policy that keeps them does.
        chosen = max(validated or checkpoints, key=lambda c: ((c.metrics or {}).get(BEST), c.step))
        abstract = {"state": jax.tree.map(_abstract, like)}
        try:
            state = self._orbax.load_checkpointables(chosen.step, abstract)["state"]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{folder / str(chosen.step)}: cannot be read as the network that {RUN} describes "
                f"({str(error).splitlines()[0][:200]}); restore the matching files, or train again "
                "in another folder"
            ) from error
        return Weights(chosen.step, state.evaluated, state.statistics)


def best_weights(workdir: Path) -> tuple[Run, Weights]:
    """The run and the best checkpoint of a workdir.

    Raises:
      InputError: the folder holds no run, no checkpoint, or one of another network.
    """
    run = read_run(workdir)
    if not (workdir / FOLDER).is_dir():  # Orbax would make it
        raise _nothing_saved(workdir)
    like = jax.eval_shape(lambda: create(run.config, len(run.attributes))[1])
    with Checkpoints(workdir) as checkpoints:
        return run, checkpoints.best(like)


def _nothing_saved(workdir: Path) -> InputError:
    return InputError(
        f"{workdir / FOLDER}: no checkpoint found; train first, "
        f"with python train.py --workdir {workdir}"
    )


def _abstract(leaf: jax.Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """Where the leaf lies, or else on the first device."""
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
