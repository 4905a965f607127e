"""A run from first step to last: train, log, validate, save, stop cleanly, continue."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm.auto import tqdm

from iamt_jax import distributed, xla_setup
from iamt_jax.config import Config
from iamt_jax.data.batches import Batch, training_batches
from iamt_jax.data.dataset import Records
from iamt_jax.errors import InputError
from iamt_jax.inference.predictor import Predictor
from iamt_jax.metrics.classification import majority_class, percent, validation_metrics
from iamt_jax.model.extractor import DATA_AXIS
from iamt_jax.runs.checkpoints import (
    Checkpoints,
    State,
    Weights,
    best_weights,
    recover,
    step_folders,
)
from iamt_jax.runs.run_file import Run, begin, owned
from iamt_jax.signals import ENDING, handled
from iamt_jax.training.logs import Logs, Throughput, pictures
from iamt_jax.training.step import Metrics, create, local, pmapped, sharded, train_step


class Interrupted(Exception):
    """The run was asked to stop, and saved; `signal` says by what."""

    def __init__(self, number: int, step: int):
        super().__init__(f"{signal.Signals(number).name} at step {step}")
        self.signal, self.step = number, step


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[int], int]]:
    """Within it, a signal that ends a process only leaves a note: the function given takes the
    step and says which came, or 0.

    A second one of the same kind acts as usual, so that nobody is ever locked in. Where several
    processes are one run, JAX passes SIGTERM on to all, and says at which step all stop. In a
    thread other than the main one, signals are the program's, and none is noted.
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


def check_fit(config: Config, records: Records, validation: Records) -> None:
    """Refuses what cannot be trained, in one line."""
    devices, batch = jax.device_count(), config.train.batch_size
    if batch % devices:
        raise InputError(
            f"--train.batch-size {batch}: must be divisible by the {devices} devices; "
            f"try {batch // devices * devices or devices}"
        )
    if len(records) < batch:
        fits = len(records) // devices * devices
        smaller = f"try {fits}" if fits else f"give at least {devices}, one a device"
        raise InputError(
            f"--train.batch-size {batch}: more than the {len(records)} training images; {smaller}"
        )
    if records.attributes != validation.attributes:
        raise InputError("training and validation splits have different attributes")


def initial_weights(config: Config, attributes: int) -> Weights | None:
    """The weights that `train.init_from` names: another run's best checkpoint; None without it.

    Raises:
      InputError: there is no such run, or its network has another shape.
    """
    if config.train.init_from is None:
        return None
    other = Path(config.train.init_from)
    try:
        _, best = best_weights(other)
    except InputError as error:
        words = str(error).removeprefix("--workdir ")
        raise InputError(f"--train.init-from {words}") from None
    _, like = jax.eval_shape(lambda: create(config, attributes))
    theirs, ours = (best.params, best.statistics), (like.params, like.statistics)
    if jax.tree.map(jnp.shape, ours) != jax.tree.map(jnp.shape, theirs):
        raise InputError(
            f"--train.init-from {other}: holds a network of another shape; train with its "
            "model settings and as many attributes"
        )
    return best


def start_from(state: State, weights: Weights) -> State:
    """The state with other weights, wherever its own lie."""
    theirs, ours = (weights.params, weights.statistics), (state.params, state.statistics)
    state.params, state.statistics = jax.tree.map(
        lambda x, like: jax.device_put(local(x), like.sharding), theirs, ours
    )
    if state.average is not None:
        state.average = jax.tree.map(jnp.copy, state.params)
    return state


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
        answers = self.predictor.predict_batches(mine, self.config.data.size, VALIDATION_BATCH)
        logits = np.concatenate([answer.logits for answer in answers])
        logits = distributed.gathered(logits, len(self.validation))
        self.validated = validation_metrics(logits, self.validation.labels)
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
