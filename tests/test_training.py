"""Training runs: start, stop, continuation, refusals, and the checkpoints that are kept."""

import dataclasses
import hashlib
import json
import os
import signal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from faults import one_line
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from iamt_jax.config import PRESETS
from iamt_jax.data.batches import training_batches
from iamt_jax.model.extractor import DATA_AXIS
from iamt_jax.model.network import build
from iamt_jax.runs.checkpoints import (
    Checkpoints,
    NetworkWeights,
    State,
    best_weights,
    read,
    recover,
)
from iamt_jax.runs.run_file import Run, write_run
from iamt_jax.training import loop
from iamt_jax.training.initial import Initial, initial_weights, start_from
from iamt_jax.training.loop import (
    Diverged,
    Interrupted,
    stepper,
    stop_signals,
    train_network,
)
from iamt_jax.training.step import create


def splits(dataset):
    return dataset.split("train"), dataset.split("validation")


def with_train(config, **changes):
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **changes))


def newest(config, workdir, attributes=40):
    """The newest state of a workdir."""
    _, state = create(config, attributes)
    state, _ = recover(workdir, state)
    return jax.device_get(state)


def kept(workdir):
    """Steps of the checkpoints, as folders."""
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def logged(workdir):
    """Lines of metrics.jsonl without times and rates."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    clock = ("time", "images_per_second")
    return [{k: v for k, v in line.items() if k not in clock} for line in lines]


def equal(tree, other):
    chex.assert_trees_all_equal(tree, other)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.slow
def test_every_preset_takes_two_steps(preset, dataset):
    """The preset's network and optimiser on small images, a batch of 4, one device."""
    config = with_train(PRESETS[preset], batch_size=4, steps=10, warmup=0)
    data = dataclasses.replace(config.data, size=16)
    config = dataclasses.replace(config, data=data)
    records = dataset.split("train")
    definition, start = create(config, 40)
    before = jax.device_get(start.params)
    mesh = Mesh(np.array(jax.devices()[:1]), (DATA_AXIS,))
    state = jax.device_put(start, NamedSharding(mesh, PartitionSpec()))
    step, place = stepper(definition, config, mesh)
    batches = training_batches(records, config.data.size, config.train)
    for _ in range(2):
        state, metrics = step(state, place(next(batches)))
        assert all(np.isfinite(value) for value in jax.device_get(metrics).values()), metrics
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.params):
        assert leaf.dtype == jnp.float32 and np.isfinite(leaf).all(), path
    changed = jax.tree.map(lambda x, y: bool((x != np.asarray(y)).any()), before, state.params)
    assert all(jax.tree.leaves(changed))


@pytest.fixture(scope="module")
def resumed(tiny, dataset, tmp_path_factory):
    """A run that SIGTERM stopped after step 3, which is not validated, and that was continued."""
    workdir = tmp_path_factory.mktemp("resumed") / "W"
    real = loop.stepper

    def stop_at_3(*arguments):
        step, place = real(*arguments)

        def signalled(state, batch):
            if int(state.step) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(state, batch)

        return signalled, place

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "stepper", stop_at_3)
        with pytest.raises(Interrupted) as stop:
            train_network(tiny, workdir, *splits(dataset))
    assert (stop.value.signal, stop.value.step) == (signal.SIGTERM, 3)
    assert kept(workdir) == [2, 3]
    train_network(tiny, workdir, *splits(dataset))
    return workdir


def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(tiny, finished, resumed):
    """`finished` was made by the command line, of the same config."""
    state, other = newest(tiny, finished), newest(tiny, resumed)
    assert int(state.step) == tiny.train.steps
    equal(state, other)
    assert logged(finished) == logged(resumed)


def test_signals_are_as_before_after_a_run():
    """Also where they were ignored, as a shell does with SIGINT for background jobs."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    with stop_signals() as stopped:
        assert not stopped(1)
        assert all(signal.getsignal(n) is not b for n, b in zip(numbers, before, strict=True))
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_finished_run_has_nothing_left_to_do(tiny, dataset, resumed):
    before = logged(resumed)
    train_network(tiny, resumed, *splits(dataset))
    assert logged(resumed) == before


def test_another_config_is_refused_by_field(tiny, dataset, finished):
    other = with_train(tiny, learning_rate=0.5, seed=3)
    one_line(
        lambda: train_network(other, finished, *splits(dataset)),
        finished,
        f"train.learning_rate {tiny.train.learning_rate} -> 0.5; train.seed 0 -> 3",
    )


def test_a_batch_that_does_not_fit_is_refused(tiny, dataset, tmp_path):
    for batch_size, part in ((12, "8 devices; try 8"), (128, "64 training images")):
        config = with_train(tiny, batch_size=batch_size)
        run = lambda config=config: train_network(config, tmp_path / "W", *splits(dataset))  # noqa: E731
        one_line(run, f"`train.batch_size` {batch_size}", part)
    assert not (tmp_path / "W").exists()


def test_a_loss_that_is_not_finite_stops_the_run(tiny, dataset, tmp_path, monkeypatch):
    """Weights turn NaN in step 3; metrics are due at step 20, the next validation is at 4."""
    real = loop.stepper

    def poisoned(*arguments):
        step, place = real(*arguments)

        def poison(state, batch):
            if int(state.step) == 2:
                state.params = jax.tree.map(lambda x: x * jnp.nan, state.params)
            return step(state, batch)

        return poison, place

    monkeypatch.setattr(loop, "stepper", poisoned)
    config = with_train(tiny, log_every=20)
    with pytest.raises(Diverged, match=r"at step 3 \(.*total nan.*`train.learning_rate`") as stop:
        train_network(config, tmp_path / "W", *splits(dataset))
    assert "binary nan" in str(stop.value) and "\n" not in str(stop.value)
    assert kept(tmp_path / "W") == [2]


def test_the_average_is_what_is_evaluated(tiny, finished):
    run, best = best_weights(finished)
    state = read(finished / "checkpoints" / str(best.step), create(tiny, len(run.attributes))[1])
    assert run.config == tiny
    equal(jax.device_get(best.params), jax.device_get(state.average))
    last = newest(tiny, finished)
    kernel = last.params["heads"]["stacked"]["mask"]["kernel"]
    assert (kernel != last.average["heads"]["stacked"]["mask"]["kernel"]).any()


def test_init_from_starts_from_the_other_runs_weights(tiny, finished):
    run, best = best_weights(finished)
    _, state = create(tiny, 40)
    initial = initial_weights(with_train(tiny, init_from=str(finished)))
    state = start_from(state, initial, run.attributes)
    equal(jax.device_get(state.params), jax.device_get(best.params))
    equal(jax.device_get(state.average), jax.device_get(best.params))
    equal(jax.device_get(state.statistics), jax.device_get(best.statistics))
    assert int(state.step) == 0


def test_init_from_takes_the_heads_of_shared_attributes_by_name(tiny, finished):
    run, best = best_weights(finished)
    attributes = ("Cat", run.attributes[7], run.attributes[2])
    _, state = create(tiny, 3)
    before = jax.device_get(state.params)
    initial = initial_weights(with_train(tiny, init_from=str(finished)))
    state = start_from(state, initial, attributes)
    ours, theirs = jax.device_get(state.params), jax.device_get(best.params)
    equal(ours["extractor"], theirs["extractor"])
    equal(ours["reconstructor"], theirs["reconstructor"])

    def heads(params, rows):
        kernel = params["multilabel"]["kernel"][:, rows]
        return jax.tree.map(lambda x: x[rows], params["heads"]), kernel

    equal(heads(ours, [1, 2]), heads(theirs, [7, 2]))
    equal(heads(ours, [0]), heads(before, [0]))


@pytest.mark.parametrize("dilations", [(1, 0), (0, 0, 2)])
def test_init_from_a_smaller_context_starts_as_the_same_function(tiny, dilations):
    """3x3 kernels compute what the 1x1 kernels did, and further blocks nothing."""
    narrow = dataclasses.replace(tiny.model, dilations=(0, 0))
    wide = dataclasses.replace(tiny.model, dilations=dilations)
    definition, params, statistics = build(narrow, 3, seed=1)
    initial = Initial(NetworkWeights(1, params, statistics), ("a", "b", "c"))
    larger, state = create(dataclasses.replace(tiny, model=wide), 3)
    state = start_from(state, initial, ("a", "b", "c"))
    images = jax.random.uniform(jax.random.key(0), (2, 32, 32, 3))
    before = nnx.merge(definition, params, statistics).predict(images)
    after = nnx.merge(larger, state.params, state.statistics).predict(images)
    np.testing.assert_allclose(before, after, atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        {"widths": (8, 8, 16)},
        {"dilations": ()},
        {"dilations": (1,)},
        {"coordinates": True},
        {"norm": "group"},
    ],
)
def test_init_from_another_extractor_is_refused(tiny, finished, model):
    config = with_train(tiny, init_from=str(finished))
    if model.get("norm"):
        model |= {"widths": (16, 16, 16)}
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, **model))
    one_line(lambda: initial_weights(config), "`train.init_from`", finished)


def test_init_from_nothing_leaves_nothing(tiny, dataset, tmp_path):
    config = with_train(tiny, init_from=str(tmp_path / "absent"))
    run = lambda: train_network(config, tmp_path / "W", *splits(dataset))  # noqa: E731
    one_line(run, f"`train.init_from` {tmp_path / 'absent'}: holds no run.json")
    assert not (tmp_path / "W").exists()


def test_checkpoints_kept_are_the_latest_two_and_the_best(tmp_path):
    params = {"x": jnp.ones(3)}
    with Checkpoints(tmp_path) as checkpoints:
        for step, precision in enumerate([0.5, 0.9, 0.6, None, 0.7], start=1):
            state = State(jnp.int32(step), params, {}, {}, None)
            metrics = None if precision is None else {"average_precision": precision}
            checkpoints.save(state, metrics)
    assert kept(tmp_path) == [2, 4, 5]
    newest, scores = recover(tmp_path, state)
    assert newest.step == 5 and scores == {2: 0.9, 5: 0.7}


NAN = float("nan")


@pytest.mark.parametrize(
    "precisions, best",
    [
        ([NAN, NAN, NAN, NAN], 4),  # All undefined: the latest.
        ([NAN, 0.0, NAN, NAN], 2),  # Undefined is worse than any number.
        ([0.5, NAN, 0.5, NAN, None], 3),  # Of equal ones the latest.
    ],
)
def test_an_undefined_metric_is_worst_wherever_the_best_is_chosen(tiny, tmp_path, precisions, best):
    _, state = create(tiny, 2)
    write_run(tmp_path, Run(tiny, ("a", "b"), (False, False), 4, ()))
    with Checkpoints(tmp_path) as checkpoints:
        for step, precision in enumerate(precisions, start=1):
            metrics = None if precision is None else {"average_precision": precision}
            checkpoints.save(dataclasses.replace(state, step=jnp.int32(step)), metrics)
    assert kept(tmp_path) == sorted({best, len(precisions) - 1, len(precisions)})
    assert best_weights(tmp_path)[1].step == best
    assert not [x for x in tmp_path.glob("checkpoints/*/seal.json") if "NaN" in x.read_text()]


def test_checkpoints_whose_checksums_hold_nan_stay_readable(tiny, tmp_path):
    """Earlier versions wrote NaN, and the digest of it."""
    _, state = create(tiny, 2)
    write_run(tmp_path, Run(tiny, ("a", "b"), (False, False), 4, ()))
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            named = dataclasses.replace(state, step=jnp.int32(step))
            checkpoints.save(named, {"average_precision": 0.5 if step == 1 else NAN})
    path = tmp_path / "checkpoints" / "2" / "seal.json"
    content = json.loads(path.read_text())
    assert content.pop("sha256") and content["metrics"] == {"average_precision": None}
    content["metrics"]["average_precision"] = NAN
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(content | {"sha256": digest}))
    assert best_weights(tmp_path)[1].step == 1
    newest, scores = recover(tmp_path, state)
    assert int(newest.step) == 2 and scores == {1: 0.5, 2: -1.0}
