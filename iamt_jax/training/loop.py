"""A run from first step to last: train, log, validate, save, stop cleanly, continue."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm.auto import tqdm

from iamt_jax.config import Config
from iamt_jax.data.celeba import Records
from iamt_jax.data.pipeline import Batch, training_batches
from iamt_jax.errors import InputError
from iamt_jax.evaluation.metrics import majority_class, summary
from iamt_jax.model.extractor import DATA_AXIS
from iamt_jax.prediction import Predictor
from iamt_jax.training.checkpoints import FOLDER, Checkpoints, best_weights
from iamt_jax.training.logs import Logs, Throughput, pictures
from iamt_jax.training.state import State, create
from iamt_jax.training.step import Metrics, pmapped, sharded, train_step
from iamt_jax.workdir import RUN, Run, differences, read_run, write_run

VALIDATION_BATCH = 128
"""Images validated at once; it changes nothing but the speed."""


class Interrupted(Exception):
    """The run was asked to stop, and saved; `signal` says by what."""

    def __init__(self, number: int, step: int):
        super().__init__(f"{signal.Signals(number).name} at step {step}")
        self.signal, self.step = number, step


class Diverged(Exception):
    """A loss was not finite; the message says at which step, which terms, and what to try."""


def train(config: Config, workdir: Path, records: Records, validation: Records) -> dict[str, float]:
    """Trains a network, or continues the run that the workdir holds.

    Args:
      config: the whole run.
      workdir: where config, metrics and checkpoints go.
      records: the training split.
      validation: images that decide which checkpoint is best.

    Returns:
      The last validation's metrics.

    Raises:
      InputError: the workdir holds another run, or config and data do not fit.
      Interrupted: Ctrl-C or SIGTERM; the state is saved, the same call continues.
      Diverged: a loss was not finite.
    """
    check_fit(config, records, validation)
    begin(workdir, Run(config, records.attributes, tuple(majority_class(records.labels).tolist())))
    definition, state = create(config, len(records.attributes))
    mesh = Mesh(np.array(jax.devices()), (DATA_AXIS,))
    state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
    data = training_batches(
        records,
        config.data,
        config.train,
        process=jax.process_index(),
        processes=jax.process_count(),
    )
    with Checkpoints(workdir) as checkpoints:
        if checkpoints.steps:
            state = checkpoints.restore(state, data)
            print(f"continuing {workdir} at step {int(state.step)} of {config.train.steps}")
        elif config.train.init_from:
            state = start_from(state, Path(config.train.init_from))
        fit = Fit(config, workdir, definition, checkpoints, validation)
        return fit.run(state, data, mesh, epoch=len(records) // config.train.batch_size)


def check_fit(config: Config, records: Records, validation: Records) -> None:
    """Refuses what cannot be trained, in one line."""
    devices, batch = jax.device_count(), config.train.batch_size
    if batch % devices:
        raise InputError(
            f"--train.batch-size {batch}: must divide by the {devices} devices; "
            f"try {batch // devices * devices or devices}"
        )
    if len(records) < batch:
        raise InputError(
            f"--train.batch-size {batch}: more than the {len(records)} training images; lower it"
        )
    if records.attributes != validation.attributes:
        raise InputError("training and validation splits have different attributes")


def begin(workdir: Path, run: Run) -> None:
    """Claims the workdir for this run, or checks that it is this run's already.

    A run that never saved anything left nothing to protect: it is replaced.
    """
    if (workdir / RUN).exists() and any((workdir / FOLDER).glob("[0-9]*")):
        before = read_run(workdir)
        changed = differences(before.config, run.config)
        if changed:
            raise InputError(
                f"--workdir {workdir}: holds a run with other settings ({'; '.join(changed)}); "
                "give the same flags to continue it, or another folder"
            )
        if before.attributes != run.attributes:
            raise InputError(
                f"--workdir {workdir}: holds a run with other attributes; name another folder"
            )
    else:
        write_run(workdir, run)


def start_from(state: State, workdir: Path) -> State:
    """The state with the weights of another run's best checkpoint (`train.init_from`)."""
    _, best = best_weights(workdir)
    ours, theirs = (state.params, state.statistics), (best.params, best.statistics)
    if jax.tree.map(jnp.shape, ours) != jax.tree.map(jnp.shape, theirs):
        raise InputError(
            f"--train.init-from {workdir}: holds a network of another shape; train with its "
            "model settings and as many attributes"
        )
    state.params, state.statistics = jax.tree.map(
        lambda x, like: jax.device_put(x, like.sharding), theirs, ours
    )
    if state.average is not None:
        state.average = jax.tree.map(jnp.copy, state.params)
    return state


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

    def run(
        self, state: State, data: grain.DatasetIterator, mesh: Mesh, epoch: int
    ) -> dict[str, float]:
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
                batch = next(data)
                state, metrics = step(state, place(batch))
                pending.append(metrics)
                last = done == train_config.steps
                validates, stop = done % every == 0 or last, stopped()
                # Losses are looked at before anything is saved.
                if done % train_config.log_every == 0 or validates or stop:
                    bar.set_postfix(logs.training(done, fetch(pending, done), speed))
                    pending = []
                bar.update()
                if validates:
                    self.validate(state, done, logs, bar)
                    if train_config.tensorboard:
                        logs.pictures(done, pictures(self.definition, state, batch))
                    self.checkpoints.save(state, data, self.validated)
                    speed.restart()
                elif stop:
                    self.checkpoints.save(state, data, None)
                if stop and not last:
                    raise Interrupted(stop, done)
        return self.validated

    def validate(self, state: State, step: int, logs: Logs, bar: tqdm) -> None:
        """Accuracy and average precision of the evaluated weights on the validation split."""
        weights = jax.tree.map(local, (state.evaluated, state.statistics))
        if self.predictor is None:
            self.predictor = Predictor(self.definition, *weights)
        else:
            self.predictor.load(*weights)
        answers = self.predictor.over(self.validation, self.config.data.size, VALIDATION_BATCH)
        logits = np.concatenate([answer.logits for answer in answers])
        self.validated = summary(logits, self.validation.labels)
        logs.validation(step, self.validated)
        shown = ", ".join(f"{k.replace('_', ' ')} {v:.1%}" for k, v in self.validated.items())
        bar.write(f"step {step}: validation {shown}", file=sys.stderr)


def progress(start: int, steps: int) -> tqdm:
    """The progress bar of a run; its rate, and so its ETA, is smoothed over many steps, since
    steps are dispatched in bursts between two looks at the metrics."""
    return tqdm(total=steps, initial=start, unit="step", smoothing=0.02, dynamic_ncols=True)


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


def local(x: jax.Array) -> np.ndarray:
    """A replicated array as this process holds it."""
    return np.asarray(x.addressable_shards[0].data)


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


@contextmanager
def stop_signals() -> Iterator[Callable[[], int]]:
    """Within it, SIGINT and SIGTERM only leave a note: the function given says which came, or 0.

    A second one of the same kind acts as usual, so that nobody is ever locked in.
    """
    came = [0]

    def note(number, _frame):
        came[0] = number
        signal.signal(number, before[number])

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: came[0]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
