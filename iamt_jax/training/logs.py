"""Metrics of a run: metrics.jsonl and, if requested, TensorBoard events."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from tensorboardX import SummaryWriter

from iamt_jax import distributed
from iamt_jax.data.batches import Batch
from iamt_jax.explanation.maps import weighted_masks
from iamt_jax.files import json_text, plain, replace_text
from iamt_jax.runs.checkpoints import State
from iamt_jax.runs.run_file import METRICS_FILE

_SHOWN = 8
"""Images of a batch that are shown in TensorBoard."""


class Throughput:
    """Images per second since the last reading, without pauses for validation."""

    def __init__(self, batch_size: int):
        self.batch_size = batch_size
        self.restart()

    def restart(self, step: int | None = None) -> None:
        """Restarts the clock."""
        self._since, self._step = time.perf_counter(), step

    def read(self, step: int) -> float | None:
        """Images per second since the last reading; None at the first one."""
        now, rate = time.perf_counter(), None
        if self._step is not None:
            rate = (step - self._step) * self.batch_size / (now - self._since)
        self.restart(step)
        return rate


class Logs:
    """Writer of metrics.jsonl, line by line, so that a crash loses none. Of several processes only
    the first writes."""

    def __init__(self, workdir: Path, tensorboard: bool, start: int):
        path = workdir / METRICS_FILE if distributed.is_first() else Path(os.devnull)
        tensorboard = tensorboard and distributed.is_first()
        if path.is_file():
            # A killed run logged steps after its last checkpoint, which are repeated now.
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
            replace_text(path, "".join(_kept(start, x) for x in lines))
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115
        self._board = SummaryWriter(str(workdir / "tensorboard")) if tensorboard else None

    def __enter__(self) -> Logs:
        return self

    def __exit__(self, *_) -> None:
        self._file.close()
        if self._board:
            self._board.close()

    def training(self, step: int, metrics: dict[str, float], speed: Throughput) -> dict[str, str]:
        """Logs a step; returns the values for the progress bar."""
        rate = speed.read(step)
        self._write("training", step, metrics | ({"images_per_second": rate} if rate else {}))
        shown = {"loss": f"{metrics['total']:.2f}", "mask": f"{metrics['mean_mask']:.3f}"}
        return shown | ({"images/s": f"{rate:.0f}"} if rate else {})

    def validation(self, step: int, metrics: dict[str, float]) -> None:
        """Logs a validation."""
        self._write("validation", step, metrics)

    def images(self, step: int, batches: dict[str, np.ndarray]) -> None:
        """Writes batches of images to TensorBoard."""
        for name, images in batches.items() if self._board else ():
            self._board.add_images(name, images, step, dataformats="NHWC")

    def _write(self, kind: str, step: int, metrics: dict[str, float]) -> None:
        line = {"step": step, "kind": kind, "time": round(time.time(), 3), **metrics}
        self._file.write(json_text(line) + "\n")
        self._file.flush()
        if self._board:
            defined = {name: value for name, value in plain(metrics).items() if value is not None}
            for name, value in defined.items():
                self._board.add_scalar(f"{kind}/{name}", value, step)


def _kept(start: int, line: str) -> str:
    """Returns a line of metrics.jsonl if it is complete and its step was saved, else nothing.
    NaN, which earlier versions wrote and which is not JSON, becomes null."""
    try:
        record = json.loads(line)
        return json_text(record) + "\n" if line.endswith("\n") and record["step"] <= start else ""
    except (ValueError, KeyError, TypeError):
        return ""


def sample_images(
    definition: nnx.GraphDef, state: State, batch: Batch, attributes: Sequence[str]
) -> dict[str, np.ndarray]:
    """Inputs, reconstructions and masks of a few images, for TensorBoard.

    `masks/ATTRIBUTE` are the images, bright where the masks of the attribute look (weighted by
    importance, from their least value). All are (batch, height, width, 3), in [0, 1].
    """
    weights = jax.device_get((state.evaluated, state.statistics))
    network = nnx.merge(definition, *weights)
    images = jnp.asarray(batch.images[:_SHOWN], jnp.float32) / 255
    places = weighted_masks(network, images, jnp.arange(len(attributes)))
    places /= jnp.maximum(jnp.max(places, axis=(2, 3), keepdims=True), 1e-30)
    lit = images[:, None] * (0.2 + 0.8 * places[..., None])
    shown = {"inputs": images}
    if network.reconstructor is not None:
        shown["reconstructions"] = jnp.clip(network.reconstructor(network.extractor(images)), 0, 1)
    shown |= {f"masks/{name}": lit[:, k] for k, name in enumerate(attributes)}
    return {name: np.asarray(value) for name, value in shown.items()}
