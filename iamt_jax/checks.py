"""Whether a config is one that a run can have."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Literal, get_args, get_origin, get_type_hints

from iamt_jax.config import GROUPS, LARGEST_SEED, Config
from iamt_jax.errors import InputError


def check(config: Config) -> None:
    """Refuses values that no run could have, in one line.

    Raises:
      InputError: names the flag, its value and what it may be.
    """
    data, model, train = config.data, config.model, config.train
    stride = 2 ** len(model.widths)
    synthetic = data.synthetic
    rules = [
        (
            "data.size",
            data.size,
            data.size > 0 and data.size % stride == 0,
            f"a positive multiple of {stride}",
        ),
        ("data.shift", data.shift, 0 <= data.shift <= 0.25, "from 0 to 0.25"),
        ("data.zoom", data.zoom, 0 <= data.zoom <= 0.5, "from 0 to 0.5"),
        ("data.rotate", data.rotate, 0 <= data.rotate <= 180, "from 0 to 180"),
        ("data.colour", data.colour, 0 <= data.colour <= 1, "from 0 to 1"),
        ("data.erase", data.erase, 0 <= data.erase <= 1, "from 0 to 1"),
        ("data.mixup", data.mixup, 0 <= data.mixup < math.inf, "at least 0"),
        ("data.noise-max", data.noise_max, 0 <= data.noise_max < math.inf, "at least 0"),
        ("data.workers", data.workers, data.workers >= 0, "at least 0"),
        ("data.damaged-limit", data.damaged_limit, data.damaged_limit >= 0, "at least 0"),
        ("data.synthetic.size", synthetic.size, synthetic.size >= 32, "at least 32"),
        ("model.widths", model.widths, min(model.widths, default=0) > 0, "positive numbers"),
        (
            "model.blocks",
            model.blocks,
            len(model.blocks) == len(model.widths),
            "one number a width",
        ),
        ("model.blocks", model.blocks, all(b >= 0 for b in model.blocks), "numbers from 0 on"),
        (
            "model.dilations",
            model.dilations,
            all(d > 0 for d in model.dilations),
            "positive numbers",
        ),
        ("model.dropout", model.dropout, 0 <= model.dropout < 1, "from 0 to below 1"),
        ("data.synthetic.train", synthetic.train, synthetic.train > 0, "at least 1"),
        ("data.synthetic.validation", synthetic.validation, synthetic.validation > 0, "at least 1"),
        ("data.synthetic.test", synthetic.test, synthetic.test > 0, "at least 1"),
        ("data.synthetic.seed", synthetic.seed, synthetic.seed >= 0, "at least 0"),
        ("data.cache-gib", data.cache_gib, data.cache_gib >= 0, "at least 0"),
        (
            "train.seed",
            train.seed,
            0 <= train.seed <= LARGEST_SEED,
            f"from 0 to {LARGEST_SEED}",
        ),
        ("train.weight-decay", train.weight_decay, train.weight_decay >= 0, "at least 0"),
        ("train.steps", train.steps, train.steps > 0, "at least 1"),
        ("train.batch-size", train.batch_size, train.batch_size > 0, "at least 1"),
        ("train.learning-rate", train.learning_rate, 0 < train.learning_rate < math.inf, "above 0"),
        ("train.warmup", train.warmup, train.warmup >= 0, "at least 0"),
        ("train.clip", train.clip, train.clip > 0, "above 0"),
        ("train.ema", train.ema, 0 <= train.ema < 1, "from 0 to below 1"),
        (
            "train.label-smoothing",
            train.label_smoothing,
            0 <= train.label_smoothing < 1,
            "from 0 to below 1",
        ),
        ("train.log-every", train.log_every, train.log_every > 0, "at least 1"),
        ("train.validate-every", train.validate_every, train.validate_every >= 0, "at least 0"),
        ("train.save-every", train.save_every, train.save_every >= 0, "at least 0"),
    ]
    if model.norm == "group":
        divides = all(width % GROUPS == 0 for width in model.widths)
        rules.append(("model.widths", model.widths, divides, f"multiples of {GROUPS} with groups"))
    loss = config.loss
    for name in ("binary", "multilabel", "reconstruction", "mask_l1"):
        weight = getattr(loss, name)
        rules.append((f"loss.{name.replace('_', '-')}", weight, weight >= 0, "at least 0"))
    for flag, value, fits, expected in [*_kinds(config), *rules]:
        if not fits:
            raise InputError(f"--{flag} {value}: must be {expected}")


def _kinds(part: object, prefix: str = "") -> Iterator[tuple[str, object, bool, str]]:
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
