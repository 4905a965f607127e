"""The training loop: train, log, validate, save, stop cleanly, continue."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from iamt_jax import distributed, xla_setup
from iamt_jax.config import Config
from iamt_jax.data.batches import Batch, training_batches
from iamt_jax.data.dataset import Records
from iamt_jax.errors import InputError
from iamt_jax.inference.predictor import Predictor
from iamt_jax.metrics.classification import majority_class, percent, validation_metrics
from iamt_jax.model.extractor import DATA_AXIS
from iamt_jax.progress import Progress, progress_bar
from iamt_jax.runs.checkpoints import (
    Checkpoints,
    State,
    recover,
    step_folders,
)
from iamt_jax.runs.run_file import Run, start_or_continue, workdir_lock
from iamt_jax.signals import ENDING, handled
from iamt_jax.training.initial import Initial, initial_weights, start_from
from iamt_jax.training.logs import Logs, Throughput, sample_images
from iamt_jax.training.step import StepMetrics, create, local, pmapped, sharded, train_step

VALIDATION_BATCH = 128
"""Images validated at once; affects only the speed."""


class Interrupted(Exception):
    """A signal stopped the run after its state was saved; has its number and the last step."""

    def __init__(self, number: int, step: int):
        super().__init__(f"{signal.Signals(number).name} at step {step}")
        self.signal, self.step = number, step


class Diverged(Exception):
    """A loss was not finite; the message names the step and the terms, and suggests changes."""


@xla_setup.default_numbers()
def train_network(
    config: Config,
    workdir: Path,
    records: Records,
    validation: Records,
    allow: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> dict[str, float]:
    """Trains a network, or continues the run in the workdir.

    Args:
      config: of the run.
      workdir: folder for config, metrics and checkpoints.
      records: the training split.
      validation: the split that decides which checkpoint is best.
      allow: fields of the config that may differ from those of the run that is continued.
      left_out: names of the damaged training images that `records` lacks.

    Returns:
      Metrics of the last validation.

    Raises:
      InputError: the workdir holds another run or is in use, config and data do not fit together,
        or the disk is full; saved checkpoints are kept.
      Interrupted: Ctrl-C or SIGTERM; the state is saved, and the same call continues.
      Diverged: a loss was not finite.
    """
    majority = tuple(majority_class(records.labels).tolist())
    run = Run(config, records.attributes, majority, len(records), tuple(left_out))

    def check() -> Initial | None:
        check_fit(config, records, validation)
        start_or_continue(workdir, run, allow, write=False)
        # A run that is continued does not need its initial weights again.
        return None if step_folders(workdir) else initial_weights(config)

    initial = distributed.run_on_all(check)  # A refused run changes no file.
    with contextlib.ExitStack() as stack, disk_errors(workdir):
        distributed.run_on_first(lambda: stack.enter_context(workdir_lock(workdir)))
        distributed.run_on_first(lambda: start_or_continue(workdir, run, allow))
        definition, state = create(config, len(records.attributes))
        mesh = device_mesh()
        state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
        saved, scores = recover(workdir, state)
        if saved is not None:
            state = saved
            distributed.print_once(
                f"continuing {workdir} at step {int(state.step)} of {config.train.steps}"
            )
        elif initial := initial or initial_weights(config):
            state = start_from(state, initial, records.attributes)
            shared, _ = initial.shared(records.attributes)
            distributed.print_once(
                f"starting from {config.train.init_from}: its extractor, and the heads of "
                f"{len(shared)} of {len(records.attributes)} attributes"
            )
        data = training_batches(
            records,
            config.data.size,
            config.train,
            start=int(state.step),
            process=jax.process_index(),
            processes=jax.process_count(),
        )
        checkpoints = stack.enter_context(Checkpoints(workdir, scores))
        fit = Fit(config, workdir, definition, checkpoints, validation)
        return fit.run(state, data, mesh, epoch=len(records) // config.train.batch_size)


class Fit:
    """The training loop, with its logs, checkpoints and validation."""

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
        """Trains until the last step; returns the metrics of the last validation.

        Args:
          state: on the devices; it is donated.
          data: batches of this process, from the state's step on.
          mesh: all devices.
          epoch: length of an epoch, in steps.
        """
        train_config = self.config.train
        step, to_devices = stepper(self.definition, self.config, mesh)
        every = train_config.validate_every or max(epoch, 1)
        start = int(state.step)
        pending: list[StepMetrics] = []  # Still on the devices.
        speed = Throughput(train_config.batch_size)
        with (
            Logs(self.workdir, train_config.tensorboard, start) as logs,
            stop_signals() as stopped,
            progress(start, train_config.steps) as bar,
        ):
            for done in range(start + 1, train_config.steps + 1):
                batch = self.next_batch(data, state, pending)
                state, metrics = step(state, to_devices(batch))  # Dispatched; not waited for.
                pending.append(metrics)

                last = done == train_config.steps
                stop = stopped(done)
                validates = done % every == 0 or last
                saves = bool(train_config.save_every) and done % train_config.save_every == 0
                logs_now = done % train_config.log_every == 0 or validates
                if logs_now or saves or stop:
                    # Losses are checked before anything is saved.
                    latest, pending = fetch(pending, done), []
                if logs_now:
                    bar.set_postfix(logs.training(done, latest, speed))
                bar.update()

                if validates:
                    self.validate(state, done, logs, bar)
                    if train_config.tensorboard:
                        names = self.validation.attributes
                        logs.images(done, sample_images(self.definition, state, batch, names))
                    self.checkpoints.save(state, self.validated)
                    speed.restart()
                elif saves or stop:
                    self.checkpoints.save(state, None)
                if validates or saves:
                    xla_setup.release_memory()
                if stop and not last:
                    self.checkpoints.wait()
                    raise Interrupted(stop, done)
        return self.validated

    def next_batch(self, data: Iterator[Batch], state: State, pending: list[StepMetrics]) -> Batch:
        """Takes the next batch; where that fails, saves the state.

        Raises:
          InputError: an image cannot be read.
        """
        try:
            return next(data)
        except InputError:
            done = int(state.step)
            if done and jax.process_count() == 1:  # Several processes would have to save together.
                if pending:
                    fetch(pending, done)
                self.checkpoints.save(state, None)
                self.checkpoints.wait()
            raise

    def validate(self, state: State, step: int, logs: Logs, bar: Progress) -> None:
        """Validates the evaluated weights: accuracy and average precision."""
        weights = jax.tree.map(local, (state.evaluated, state.statistics))
        if self.predictor is None:
            self.predictor = Predictor(self.definition, *weights)
        else:
            self.predictor.load(*weights)
        mine = self.validation.take(distributed.shard_indices(len(self.validation)))
        answers = self.predictor.predict_batches(mine, self.config.data.size, VALIDATION_BATCH)
        logits = np.concatenate([answer.logits for answer in answers])
        logits = distributed.gather(logits, len(self.validation))
        self.validated = validation_metrics(logits, self.validation.labels)
        logs.validation(step, self.validated)
        shown = ", ".join(f"{k.replace('_', ' ')} {percent(v)}" for k, v in self.validated.items())
        bar.write(f"step {step}: validation {shown}", file=sys.stderr)


def stepper(definition: nnx.GraphDef, config: Config, mesh: Mesh) -> tuple[Callable, Callable]:
    """Returns the step over all devices, and a function that puts this process's batch on them.

    One process uses pmap; several use jit(shard_map), whose arrays are global.
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


def fetch(pending: list[StepMetrics], step: int) -> dict[str, float]:
    """Fetches the metrics of the last steps in one transfer, and checks that all are finite.

    Returns:
      Metrics of the last step, `step`.

    Raises:
      Diverged: the loss or the gradient of a step is not finite.
    """
    fetched = [{name: float(value) for name, value in m.items()} for m in jax.device_get(pending)]
    for back, metrics in enumerate(fetched):
        # An infinite gradient shows in the loss of the next step, after this one may be saved.
        if not np.isfinite([metrics["total"], metrics["gradient_norm"]]).all():
            at = step - len(fetched) + 1 + back
            terms = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            raise Diverged(
                f"the loss or its gradient is not finite at step {at} ({terms}); nothing was saved "
                "after it: try a lower `train.learning_rate`, a longer `train.warmup` or a smaller "
                "`train.clip` in another `workdir`"
            )
    return fetched[-1]


def progress(start: int, steps: int) -> Progress:
    """Progress bar of a run. Its rate is smoothed over many steps, since steps are dispatched in
    bursts between two fetches of the metrics."""
    return progress_bar(
        total=steps,
        initial=start,
        unit="step",
        desc="training",
        smoothing=0.02,
        disable=not distributed.is_first(),
    )


def device_mesh() -> Mesh:
    """Mesh of all devices of the run, ordered by process, so that each process's part of the batch
    is on its own devices."""
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(devices), (DATA_AXIS,))


def check_fit(
    config: Config, records: Records, validation: Records, devices: int | None = None
) -> None:
    """Checks that batch size, devices (by default all of the run) and data fit together.

    Raises:
      InputError: they do not.
    """
    devices, batch = devices or jax.device_count(), config.train.batch_size
    if batch % devices:
        raise InputError(
            f"`train.batch_size` {batch}: must be divisible by the {devices} devices; "
            f"try {batch // devices * devices or devices}"
        )
    if len(records) < batch:
        fits = len(records) // devices * devices
        smaller = f"try {fits}" if fits else f"give at least {devices}, one a device"
        raise InputError(
            f"`train.batch_size` {batch}: more than the {len(records)} training images; {smaller}"
        )
    if records.attributes != validation.attributes:
        raise InputError("training and validation splits have different attributes")


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[int], int]]:
    """Context in which signals that end a process are only recorded.

    It yields a function (step) -> the number of the signal that came, or 0. A second signal of
    the same kind acts as usual, so that the program can always be ended. Where several processes
    are one run, JAX passes SIGTERM on to all of them, and decides at which step all stop. In a
    thread other than the main one, no signal is handled.
    """
    several = jax.process_count() > 1
    came = [0]

    def note(number, former):
        came[0] = number
        signal.signal(number, former)
        if several:  # JAX knows of SIGTERM alone.
            os.kill(os.getpid(), signal.SIGTERM)

    numbers = [number for number in ENDING if not several or number != signal.SIGTERM]
    with handled(note, numbers):
        if several:
            yield lambda step: (came[0] or signal.SIGTERM) if distributed.stop_agreed(step) else 0
        else:
            yield lambda _: came[0]


@contextlib.contextmanager
def disk_errors(workdir: Path) -> Iterator[None]:
    """Context in which an OSError, as of a full disk, becomes an InputError of one line."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"`workdir` {workdir}: cannot be written ({error.strerror}); make room, or give rights "
            "to the folder: the same command then continues from the last checkpoint"
        ) from error
