"""Numbers out of range, in every flag that has one."""

from __future__ import annotations

import cli

from corpus import Case, evaluated, trained

SEEDS = "from 0 to 4294967295"
POWERS = "from 0 to 1000000"


def refused_value(flag: str, value: object, expected: str, shown: object = None) -> Case:
    """`train.py` with a number that no run could have."""
    line = f"--{flag} {value if shown is None else shown}: must be {expected}"
    return Case(f"train: {flag} {value}", trained(f"--{flag}", value), cli.train, line)


def refused_number(flag: str, value: object, expected: str, shown: object = None) -> Case:
    """`evaluate.py` with a number out of range."""
    line = f"--{flag} {value if shown is None else shown}: must be a number {expected}"
    return Case(f"evaluate: {flag} {value}", evaluated(f"--{flag}", value), cli.evaluate, line)


CASES = (
    refused_value("train.steps", 0, "from 1 to 10^9"),
    refused_value("train.batch-size", 0, "at least 1"),
    refused_value("train.batch-size", -8, "at least 1"),
    refused_value("train.learning-rate", 0, "above 0", 0.0),
    refused_value("train.learning-rate", "nan", "a finite number"),
    refused_value("train.learning-rate", "inf", "a finite number"),
    refused_value("train.warmup", -1, "at least 0"),
    refused_value("train.clip", 0, "above 0", 0.0),
    refused_value("train.ema", 1, "from 0 to below 1", 1.0),
    refused_value("train.log-every", 0, "at least 1"),
    refused_value("train.seed", -1, SEEDS),
    refused_value("train.validate-every", -1, "at least 0"),
    refused_value("train.save-every", -1, "at least 0"),
    refused_value("data.damaged-limit", -1, "at least 0"),
    refused_value("model.dropout", 1, "from 0 to below 1", 1.0),
    refused_value("model.dropout", "nan", "a finite number"),
    refused_value("model.widths", 0, "positive numbers", "(0,)"),
    refused_value("model.blocks", 1, "one number a width", "(1,)"),
    refused_value("model.dilations", -1, "numbers from 0 on", "(-1,)"),
    refused_value("data.size", 62, "a positive multiple of 8"),
    refused_value("data.size", 0, "a positive multiple of 8"),
    refused_value("data.shift", 0.3, "from 0 to 0.25"),
    refused_value("data.zoom", -0.1, "from 0 to 0.5"),
    refused_value("data.rotate", 181, "from 0 to 180", 181.0),
    refused_value("data.colour", 1.5, "from 0 to 1"),
    refused_value("data.mixup", "inf", "a finite number"),
    refused_value("data.noise-max", -1, "at least 0", -1.0),
    refused_value("data.synthetic.size", 8, "at least 32"),
    refused_value("data.synthetic.seed", -1, "at least 0"),
    refused_value("data.synthetic.train", -1, "at least 1"),
    refused_value("data.cache-gib", "nan", "a finite number"),
    refused_value("train.weight-decay", "nan", "a finite number"),
    refused_value("train.weight-decay", -1, "at least 0", -1.0),
    refused_value("train.seed", 10**20, SEEDS),
    refused_value("model.curve-share", 1.5, "from 0 to 1"),
    refused_value("loss.mask-l1", "nan", "a finite number"),
    refused_value("loss.mask-l1", -1, "at least 0", -1.0),
    Case(
        "train: less than no blocks",
        trained("--model.blocks", -1, 0),
        cli.train,
        "--model.blocks (-1, 0): must be numbers from 0 on",
    ),
    Case(
        "train: groups that do not divide",
        trained("--preset", "debug", "--model.norm", "group"),
        cli.train,
        "--model.widths (8, 16, 16): must be multiples of 16 with groups",
    ),
    Case(
        "train: a batch that does not fit the devices",
        trained("--preset", "debug", "--train.batch-size", 12),
        cli.train,
        "--train.batch-size 12: must be divisible by the 8 devices; try 8",
    ),
    Case(
        "train: a batch larger than the data",
        trained("--preset", "debug", "--train.batch-size", 128),
        cli.train,
        "--train.batch-size 128: more than the 64 training images; try 64",
    ),
    refused_number("n", -1.0, POWERS),
    refused_number("n", "nan", POWERS),
    refused_number("n", "inf", POWERS),
    refused_number("n", "1e300", POWERS, "1e+300"),
    refused_number("beta", 1.5, "from 0 to 1"),
    refused_number("beta", -0.1, "from 0 to 1"),
    refused_number("beta", "nan", "from 0 to 1"),
    refused_number("sigma", -0.1, "from 0 to 10"),
    refused_number("sigma", "nan", "from 0 to 10"),
    refused_number("sigma", "inf", "from 0 to 10"),
    refused_number("severity", 6, "from 1 to 5"),
    refused_number("batch-size", 0, "at least 1"),
    refused_number("bootstrap", -1, "from 0 to 1000000"),
    refused_number("seed", -1, SEEDS),
    refused_number("seed", 10**20, SEEDS),
    refused_number("data.damaged-limit", -1, "at least 0"),
    Case(
        "calibrate: too few images",
        trained("--images", 3),
        cli.calibrate,
        "--images 3: must be a number at least 64",
    ),
    *(
        Case(
            f"{name}: data.damaged-limit -1",
            trained("--data.damaged-limit", -1, *flags),
            command,
            "--data.damaged-limit -1: must be a number at least 0",
        )
        for name, command, flags in (
            ("calibrate", cli.calibrate, ()),
            ("export", cli.export, ("--thresholds", "f1")),
        )
    ),
)
