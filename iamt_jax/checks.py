"""Whether a config is one that a run can have."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from itertools import chain
from typing import Literal, get_args, get_origin, get_type_hints

from iamt_jax.config import (
    GROUPS,
    LARGEST_SEED,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    TrainConfig,
)
from iamt_jax.errors import InputError

Rule = tuple[str, object, bool, str]
"""A flag, its value, whether it fits, and what it must be."""


def check(config: Config) -> None:
    """Refuses values that no run could have, in one line.

    Raises:
      InputError: names the flag, its value and what it may be.
    """
    rules = chain(
        _kinds(config),
        _data(config.data, 2 ** len(config.model.widths)),
        _model(config.model),
        _loss(config.loss),
        _train(config.train),
    )
    for flag, value, fits, expected in rules:
        if not fits:
            raise InputError(f"--{flag} {value}: must be {expected}")


def _kinds(part: object, prefix: str = "") -> Iterator[Rule]:
    """What every field must be, whatever it means: one of its choices, or a finite number."""
    hints = get_type_hints(type(part))
    for one in fields(part):
        value, flag = getattr(part, one.name), prefix + one.name.replace("_", "-")
        choices = get_args(hints[one.name])
        if is_dataclass(value):
            yield from _kinds(value, f"{flag}.")
        elif get_origin(hints[one.name]) is Literal:
            yield flag, value, value in choices, f"one of {', '.join(map(str, choices))}"
        elif isinstance(value, float):
            yield flag, value, math.isfinite(value), "a finite number"


def _within(part: str, config: object, bounds: dict[str, tuple[float, float]]) -> Iterator[Rule]:
    """Bounds of fields, both included."""
    for name, (low, high) in bounds.items():
        value = getattr(config, name)
        expected = f"at least {low}" if high == math.inf else f"from {low} to {high}"
        yield f"{part}.{name.replace('_', '-')}", value, low <= value <= high, expected


def _data(data: DataConfig, stride: int) -> Iterator[Rule]:
    fits = data.size > 0 and data.size % stride == 0
    yield "data.size", data.size, fits, f"a positive multiple of {stride}"
    own = data.name == "folder" or data.labels is None
    yield "data.labels", data.labels, own, "left out without --data.name folder"
    bounds = {"shift": (0, 0.25), "zoom": (0, 0.5), "rotate": (0, 180), "colour": (0, 1)}
    bounds |= {"erase": (0, 1)}
    free = ("mixup", "noise_max", "workers", "cache_gib", "damaged_limit")
    yield from _within("data", data, bounds | dict.fromkeys(free, (0, math.inf)))
    lowest = {"size": 32, "train": 1, "validation": 1, "test": 1, "seed": 0}
    bounds = {name: (low, math.inf) for name, low in lowest.items()}
    yield from _within("data.synthetic", data.synthetic, bounds)


def _model(model: ModelConfig) -> Iterator[Rule]:
    widths, blocks, dilations = model.widths, model.blocks, model.dilations
    yield "model.widths", widths, min(widths, default=0) > 0, "positive numbers"
    yield "model.blocks", blocks, len(blocks) == len(widths), "one number a width"
    yield "model.blocks", blocks, min(blocks, default=0) >= 0, "numbers from 0 on"
    yield "model.dilations", dilations, min(dilations, default=1) > 0, "positive numbers"
    yield "model.dropout", model.dropout, 0 <= model.dropout < 1, "from 0 to below 1"
    if model.norm == "group":
        fits = all(width % GROUPS == 0 for width in widths)
        yield "model.widths", widths, fits, f"multiples of {GROUPS} with groups"


def _loss(loss: LossConfig) -> Iterator[Rule]:
    weights = ("binary", "multilabel", "reconstruction", "mask_l1")
    yield from _within("loss", loss, dict.fromkeys(weights, (0, math.inf)))


def _train(train: TrainConfig) -> Iterator[Rule]:
    yield "train.steps", train.steps, 0 < train.steps <= 10**9, "from 1 to 10^9"
    lowest = {"batch_size": 1, "log_every": 1, "warmup": 0, "validate_every": 0, "save_every": 0}
    lowest |= {"weight_decay": 0}
    bounds = {name: (low, math.inf) for name, low in lowest.items()}
    yield from _within("train", train, bounds | {"seed": (0, LARGEST_SEED)})
    yield "train.learning-rate", train.learning_rate, train.learning_rate > 0, "above 0"
    yield "train.clip", train.clip, train.clip > 0, "above 0"
    for name in ("ema", "label_smoothing"):
        value = getattr(train, name)
        yield f"train.{name.replace('_', '-')}", value, 0 <= value < 1, "from 0 to below 1"
