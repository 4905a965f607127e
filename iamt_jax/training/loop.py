"""A run from first step to last: train, log, validate, save, stop cleanly, continue."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm.auto import tqdm

from iamt_jax import distributed, xla_setup
from iamt_jax.config import Config
from iamt_jax.data.batches import Batch, training_batches
from iamt_jax.data.celeba import Records
from iamt_jax.errors import InputError
from iamt_jax.inference.predictor import Predictor
from iamt_jax.metrics.per_attribute import majority_class, percent, summary
from iamt_jax.model.extractor import DATA_AXIS
from iamt_jax.runs.checkpoints import Checkpoints, Weights, recover, step_folders
from iamt_jax.runs.run_file import Run, begin, owned
from iamt_jax.training.logs import Logs, Throughput, pictures
from iamt_jax.training.start import check_fit, initial_weights, start_from
from iamt_jax.training.state import State, create, local
from iamt_jax.training.step import Metrics, pmapped, sharded, train_step
from iamt_jax.training.stopping import Interrupted, stop_signals

VALIDATION_BATCH = 128
"""Images validated at once; it changes nothing but the speed."""


class Diverged(Exception):
    """A loss was not finite; the message says at which step, which terms, and what to try."""


@xla_setup.default_numbers()
def train(
    config: Config,
    workdir: Path,
    records: Records,
    validation: Records,
    allow: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> dict[str, float]:
    """Trains a network, or continues the run that the workdir holds.

    Args:
      config: the whole run.
      workdir: where config, metrics and checkpoints go.
      records: the training split.
      validation: images that decide which checkpoint is best.
      allow: fields of the config that may differ from those of the run that is continued.
      left_out: names of damaged training images, which `records` lack.

    Returns:
      The last validation's metrics.

    Raises:
      InputError: the workdir holds another run or is in use, config and data do not fit, or the
        disk is full; what was saved stays.
      Interrupted: Ctrl-C or SIGTERM; the state is saved, the same call continues.
      Diverged: a loss was not finite.
    """
    majority = tuple(majority_class(records.labels).tolist())
    run = Run(config, records.attributes, majority, len(records), tuple(left_out))

    def check() -> Weights | None:
        check_fit(config, records, validation)
        begin(workdir, run, allow, write=False)
        # A run that is continued no longer needs what it began from.
        return None if step_folders(workdir) else initial_weights(config, len(records.attributes))

    initial = distributed.together(check)  # Nothing is touched by a run that is refused.
    with contextlib.ExitStack() as stack, told_of_storage(workdir):
        distributed.by_first(lambda: stack.enter_context(owned(workdir)))
        distributed.by_first(lambda: begin(workdir, run, allow))
        definition, state = create(config, len(records.attributes))
        mesh = everything()
        state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
        saved, scores = recover(workdir, state)
        if saved is not None:
            state = saved
            distributed.say(
                f"continuing {workdir} at step {int(state.step)} of {config.train.steps}"
            )
        elif initial := initial or initial_weights(config, len(records.attributes)):
            state = start_from(state, initial)
        data = training_batches(
            records,
            config.data,
            config.train,
            start=int(state.step),
            process=jax.process_index(),
            processes=jax.process_count(),
        )
        checkpoints = stack.enter_context(Checkpoints(workdir, scores))
        fit = Fit(config, workdir, definition, checkpoints, validation)
        return fit.run(state, data, mesh, epoch=len(records) // config.train.batch_size)


def everything() -> Mesh:
    """All devices of the run, by process, so that a process's block of the batch lies on its
    own."""
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(devices), (DATA_AXIS,))


@contextlib.contextmanager
def told_of_storage(workdir: Path) -> Iterator[None]:
    """Within it, a disk that is full or gone ends the run with one line."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"--workdir {workdir}: cannot be written ({error.strerror}); make room, or give rights "
            "to the folder: the same command then continues from the last checkpoint"
        ) from error


class Fit:
    """The loop and what it talks to."""

    def __init__(
        self,
        config: Config,
        workdir: Path,
        definition: nnx.GraphDef,
        checkpoints: Checkpoints,
        validation: Records,
    ):
        self.config, self.workdir, self.definition = config, workdir, definition
        self.checkpoints, self.validation = checkpoints, validation
        self.predictor: Predictor | None = None
        self.validated: dict[str, float] = {}

    def run(self, state: State, data: Iterator[Batch], mesh: Mesh, epoch: int) -> dict[str, float]:
        """Steps until the last; `epoch` is in steps."""
        train_config = self.config.train
        step, place = stepper(self.definition, self.config, mesh)
        every = train_config.validate_every or max(epoch, 1)
        start = int(state.step)
        pending: list[Metrics] = []
        speed = Throughput(train_config.batch_size)
        with (
            Logs(self.workdir, train_config.tensorboard, start) as logs,
            stop_signals() as stopped,
            progress(start, train_config.steps) as bar,
        ):
            for done in range(start + 1, train_config.steps + 1):
                batch = self.following(data, state, pending)
                state, metrics = step(state, place(batch))
                pending.append(metrics)
                last = done == train_config.steps
                validates, stop = done % every == 0 or last, stopped(done)
                saves = bool(train_config.save_every) and done % train_config.save_every == 0
                # Losses are looked at before anything is saved.
                logs_now = done % train_config.log_every == 0 or validates
                if logs_now or saves or stop:
                    latest, pending = fetch(pending, done), []
                if logs_now:
                    bar.set_postfix(logs.training(done, latest, speed))
                bar.update()
                if validates:
                    self.validate(state, done, logs, bar)
                    if train_config.tensorboard:
                        logs.pictures(done, pictures(self.definition, state, batch))
                    self.checkpoints.save(state, self.validated)
                    speed.restart()
                elif saves or stop:
                    self.checkpoints.save(state, None)
                if validates or saves:
                    xla_setup.give_back()
                if stop and not last:
                    self.checkpoints.wait()
                    raise Interrupted(stop, done)
        return self.validated

    def following(self, data: Iterator[Batch], state: State, pending: list[Metrics]) -> Batch:
        """The next batch; where there is none, what was trained so far is saved.

        Raises:
          InputError: an image that cannot be read, a worker process that is gone.
        """
        try:
            return next(data)
        except InputError:
            done = int(state.step)
            if done and jax.process_count() == 1:  # Several would have to save together.
                if pending:
                    fetch(pending, done)
                self.checkpoints.save(state, None)
                self.checkpoints.wait()
            raise

    def validate(self, state: State, step: int, logs: Logs, bar: tqdm) -> None:
        """Accuracy and average precision of the evaluated weights on the validation split."""
        weights = jax.tree.map(local, (state.evaluated, state.statistics))
        if self.predictor is None:
            self.predictor = Predictor(self.definition, *weights)
        else:
            self.predictor.load(*weights)
        mine = self.validation.take(distributed.share(len(self.validation)))
        answers = self.predictor.over(mine, self.config.data.size, VALIDATION_BATCH)
        logits = np.concatenate([answer.logits for answer in answers])
        logits = distributed.gathered(logits, len(self.validation))
        self.validated = summary(logits, self.validation.labels)
        logs.validation(step, self.validated)
        shown = ", ".join(f"{k.replace('_', ' ')} {percent(v)}" for k, v in self.validated.items())
        bar.write(f"step {step}: validation {shown}", file=sys.stderr)


def progress(start: int, steps: int) -> tqdm:
    """The progress bar of a run; its rate, and so its ETA, is smoothed over many steps, since
    steps are dispatched in bursts between two looks at the metrics."""
    return tqdm(
        total=steps,
        initial=start,
        unit="step",
        smoothing=0.02,
        dynamic_ncols=True,
        disable=not distributed.first(),
    )


def stepper(definition: nnx.GraphDef, config: Config, mesh: Mesh) -> tuple[Callable, Callable]:
    """The step over all devices, and what puts this process's batch on them.

    One process runs it by pmap; several by jit(shard_map), whose arrays are global.
    """
    step = train_step(definition, config)
    if jax.process_count() == 1:
        devices = mesh.size
        return pmapped(step), lambda batch: Batch(
            *(x.reshape(devices, -1, *x.shape[1:]) for x in batch)
        )
    split = NamedSharding(mesh, PartitionSpec(DATA_AXIS))
    return sharded(step, mesh), lambda batch: Batch(
        *(jax.make_array_from_process_local_data(split, x) for x in batch)
    )


def fetch(pending: list[Metrics], step: int) -> dict[str, float]:
    """The last step's metrics on the host, after a look at the losses of all since the last time.

    One transfer for many steps: the loop itself never waits for a number.
    """
    fetched = [{name: float(value) for name, value in m.items()} for m in jax.device_get(pending)]
    for back, metrics in enumerate(fetched):
        # An infinite gradient ruins the next step's loss, after this one might have been saved.
        if not np.isfinite([metrics["total"], metrics["gradient_norm"]]).all():
            at = step - len(fetched) + 1 + back
            terms = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            raise Diverged(
                f"the loss or its gradient is not finite at step {at} ({terms}); nothing was saved "
                "after it: try a lower --train.learning-rate, a longer --train.warmup or a smaller "
                "--train.clip in another --workdir"
            )
    return fetched[-1]
