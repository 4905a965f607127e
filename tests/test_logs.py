"""Logs of a run: metrics.jsonl and TensorBoard."""

import dataclasses
import json

import numpy as np

from iamt_jax.data.batches import Batch
from iamt_jax.training.logs import Logs, Throughput, sample_images
from iamt_jax.training.loop import train_network
from iamt_jax.training.step import create


def test_a_killed_runs_unsaved_lines_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": s}) + "\n" for s in (1, 2, 3)) + '{"step": 4, "to')
    with Logs(tmp_path, tensorboard=False, start=2) as logs:
        logs.training(3, {"total": 1.0, "mean_mask": 0.5}, Throughput(4))
    assert [json.loads(x)["step"] for x in path.read_text().splitlines()] == [1, 2, 3]


def test_an_undefined_metric_is_null_and_nan_of_earlier_versions_too(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "average_precision": NaN}\n')
    with Logs(tmp_path, tensorboard=True, start=1) as logs:
        logs.validation(2, {"accuracy": 0.5, "average_precision": float("nan")})
    lines = path.read_text().splitlines()
    found = [json.loads(x, parse_constant=lambda name: f"{name} is no JSON") for x in lines]
    assert [x["average_precision"] for x in found] == [None, None]


def test_tensorboard_gets_numbers_and_pictures(tiny, dataset, tmp_path):
    config = dataclasses.replace(
        tiny, train=dataclasses.replace(tiny.train, tensorboard=True, steps=2)
    )
    train_network(config, tmp_path / "W", dataset.split("train"), dataset.split("validation"))
    (events,) = (tmp_path / "W" / "tensorboard").iterdir()
    content = events.read_bytes()
    tags = ("training/total", "validation/accuracy", "inputs", "reconstructions", "masks/Smiling")
    assert all(tag.encode() in content for tag in tags)


def test_pictures_are_bright_where_masks_look(tiny):
    definition, state = create(tiny, 3)
    images = np.full((2, 32, 32, 3), 255, np.uint8)
    shown = sample_images(definition, state, Batch(images, np.zeros((2, 3))), ("a", "b", "c"))
    assert set(shown) == {"inputs", "reconstructions", "masks/a", "masks/b", "masks/c"}
    for name in "abc":
        lit = shown[f"masks/{name}"]
        assert lit.shape == (2, 32, 32, 3) and np.allclose(lit.max(axis=(1, 2, 3)), 1)
        assert 0.2 <= lit.min() < 0.5
