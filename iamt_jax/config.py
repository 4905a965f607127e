"""Settings of a run: frozen dataclasses, named presets, and the bounds of every setting."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from itertools import chain
from typing import Literal, get_args, get_origin, get_type_hints

from iamt_jax.errors import InputError

MISSING = -1
"""Label of an attribute that is not annotated; it is left out of all losses and metrics."""

GROUPS = 16
"""Number of groups of GroupNorm."""

FEWEST_IMAGES = 64
"""Fewest images that a calibration accepts."""

LARGEST_SEED = 2**32 - 1
"""Largest seed, of 32 bits."""

LARGEST_N = 1e6
"""Largest n. Beyond it the tone curve no longer changes: 0 below a mask of 0.5, 1 above."""


@dataclass(frozen=True)
class SyntheticConfig:
    """The rendered data set, which is written once into a cache folder."""

    train: int = 8000
    """Images of the training split."""
    validation: int = 500
    """Images of the validation split."""
    test: int = 1000
    """Images of the test split."""
    size: int = 80
    """Side of a rendered image, pixels; larger than the network's input, as photographs are."""
    seed: int = 0
    """Seed of attributes and nuisance; another seed gives another data set."""


@dataclass(frozen=True)
class DataConfig:
    """The images, and their preparation and augmentation."""

    name: Literal["faces", "celeba", "celeb_a", "folder"] = "faces"
    """`faces` renders synthetic faces; `celeba` reads CelebA-shaped data below `root`;
    `celeb_a` asks tensorflow-datasets to download and prepare CelebA; `folder` reads images of
    any kind in `root` and a csv of their labels (docs/your_own_data.md)."""
    root: str | None = None
    """Folder of the data set; giving one means `celeba`, unless `name` is `folder`. For `celeb_a`,
    tensorflow-datasets' data folder."""
    labels: str | None = None
    """For `folder`, the csv, relative to `root`; by default the only one in it."""
    size: int = 64
    """Side of the network's square input, pixels."""
    train_split: Literal["train", "train+validation"] = "train"
    """`train+validation` is the paper's split (182,637 images); the best checkpoint is then
    chosen on images that the network was trained on."""
    flip: bool = True
    """Mirror each training image with probability 1/2."""
    shift: float = 0.0
    """Largest random shift of a training image in each direction, as a share of its side."""
    zoom: float = 0.0
    """Largest random change of scale: 0.1 draws a factor from 1/1.1 to 1.1 (log-uniform)."""
    rotate: float = 0.0
    """Largest random rotation in each direction, degrees."""
    colour: float = 0.0
    """Largest random change of brightness, contrast and saturation, as a share."""
    mixup: float = 0.0
    """Mixup (Zhang et al. 2018): a training image and its labels are blended with another's by a
    weight drawn from Beta(mixup, mixup); 0 turns it off."""
    noise_max: float = 0.0
    """Gaussian noise in training: sigma is uniform in [0, noise_max], [0, 1] pixel units. 0 in
    every preset, since robustness is added after training; whoever can retrain should use it."""
    cache: str | None = None
    """Folder of the cache, a memory-mapped file of decoded images for each data set and size; by
    default `decoded` in $IAMT_CACHE or ~/.cache/iamt_jax. It can be deleted at any time."""
    cache_gib: float = 16.0
    """Largest size of a file of the cache; larger data sets are decoded again in every epoch. 0
    makes no cache."""
    damaged_limit: int = 0
    """Largest number of training and validation images to leave out because they cannot be decoded.
    Above 0, all images are decoded once at the start, and each one left out is named."""
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)


@dataclass(frozen=True)
class ModelConfig:
    """Structure of the network: the argument of `IAMT`, and the part `model` of a run's config.

    Example:
      >>> import iamt_jax
      >>> small = iamt_jax.ModelConfig(widths=(16, 32), blocks=(0, 1), reconstructor=False)
      >>> small.widths[-1], small.dilations
      (32, (1, 2))
    """

    widths: tuple[int, ...] = (32, 64, 128)
    """Channels of the extractor's front end; each entry halves height and width. The last is C,
    the number of channels of features and masks."""
    blocks: tuple[int, ...] = (0, 1, 0)
    """Residual blocks after each entry of `widths`."""
    dilations: tuple[int, ...] = (1, 2)
    """Dilation of each residual block of the context module (Yu & Koltun 2016); 0 is a block of 1x1
    convolutions, which leaves the receptive field as it is."""
    coordinates: bool = False
    """Give the extractor the place of each pixel as two more input channels (Liu et al. 2018), so
    that features with a small receptive field can measure distances in an aligned image."""
    norm: Literal["batch", "group"] = "batch"
    """Normalisation of the extractor."""
    mask_bias: float = 0.0
    """Initial bias of the masks' logits; below 0, masks begin nearly closed, and open only where
    that lowers the loss."""
    dropout: float = 0.0
    """Share of feature channels dropped in training, the same for every position and head."""
    curve_share: float = 0.0
    """Share of the training images whose masks pass through the tone curve n = 1, beta = 1, so that
    only what a mask lets through is classified; the others are trained by the paper's
    T(M) = 1 + M. If it is above 0, the network's own curve is n = 1, beta = 1."""
    checkerboard: bool = False
    """In training, the heads see every other position of the features, the black or the white ones
    of a checkerboard, drawn for each image: half the time for the masks. All positions are seen at
    inference."""
    mirror: bool = False
    """At inference, average the features of an image and those of its mirror image, turned back;
    for networks whose training images were mirrored (`data.flip`)."""
    multilabel: bool = True
    """Train the multi-label classifier f_m (Eq. 3); Table 1 leaves it out."""
    reconstructor: bool = True
    """Train the reconstructor f_r (Eq. 5); Table 1 leaves it out."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of computations; parameters and statistics are always float32."""

    @property
    def own_beta(self) -> float:
        """beta of the network's own curve, which it applies if no other is given; its n is 1."""
        return 1.0 if self.curve_share else 0.0

    @property
    def stride(self) -> int:
        """Pixels of the input between two neighbouring positions of the features."""
        return 2 ** len(self.widths)

    @property
    def receptive_field(self) -> int:
        """Side of the square of input pixels that one position of the features depends on."""
        field, spacing = 1, 1
        for blocks in self.blocks:
            # A mirror image has the odd pixel of the padding on its other side.
            field += (3 if self.mirror else 2) * spacing
            spacing *= 2
            field += 4 * spacing * blocks
        return field + 4 * spacing * sum(self.dilations)


@dataclass(frozen=True)
class LossConfig:
    """Weights of Eq. 6, and the reductions of two of its terms."""

    binary: float = 1.0
    """Weight of L_b (Eq. 1), the heads."""
    multilabel: float = 1.0
    """Weight of L_m (Eq. 3), the multi-label classifier."""
    reconstruction: float = 4.0
    """Weight of L_r (Eq. 5), the reconstructor."""
    reconstruction_reduction: Literal["mean", "sum"] = "mean"
    """L_r as a mean or a sum over pixels and colours."""
    mask_l1: float = 1e-5
    """Weight of |M|_1."""
    mask_l1_reduction: Literal["mean", "sum"] = "sum"
    """|M|_1 as a mean or a sum over attributes, positions and channels; the sum is the paper's
    formula read literally."""


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation and bookkeeping."""

    steps: int = 1000
    """Optimiser steps."""
    batch_size: int = 64
    """Images in a step, over all devices and processes."""
    optimiser: Literal["muon", "adamw"] = "muon"
    """`muon` orthogonalises the updates of convolutions and masks (Jordan et al. 2024) and leaves
    the rest to AdamW; on photographs it was more accurate after as many images (docs/log.md)."""
    learning_rate: float = 4e-3
    """Peak of the cosine schedule."""
    warmup: int = 100
    """Steps of linear warm-up from 0."""
    weight_decay: float = 0.05
    """Decoupled decay, on kernels only."""
    clip: float = 100.0
    """Largest global gradient norm; larger ones are scaled down to it."""
    ema: float = 0.0
    """Decay in each step of the moving average of the weights, which is evaluated and saved beside
    the trained weights; 0 evaluates the trained weights."""
    seed: int = 0
    """Seed of initialisation, data order, augmentation and dropout."""
    log_every: int = 20
    """Steps between lines of metrics."""
    validate_every: int = 0
    """Steps between validations, each with a checkpoint; 0 validates after every epoch."""
    save_every: int = 0
    """Steps between additional checkpoints without validation; 0 saves none."""
    init_from: str | None = None
    """Another workdir, from whose best checkpoint the network starts."""
    tensorboard: bool = False
    """Also write TensorBoard events with inputs, reconstructions, and each attribute's masks."""


@dataclass(frozen=True)
class Config:
    """All settings of a training run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class OtherData:
    """Another data set than the one trained on."""

    root: str | None = None
    """Another data set with the same attributes, of the kind trained on (CelebA-shaped, or a folder
    with a csv); by default the one trained on."""
    labels: str | None = None
    """Another csv, relative to `root`; giving one means a folder of images with a csv."""
    damaged_limit: int = 0
    """Largest number of images to leave out because they cannot be decoded; each one is named."""


AUTO = "auto"
"""Value of `Processes.coordinator` that asks the cluster's own environment."""


@dataclass(frozen=True)
class Processes:
    """Flags of a run in several processes: the same command is started on every host."""

    coordinator: str | None = None
    """HOST:PORT of process 0, the same for all; `auto` asks Slurm, Open MPI, Kubernetes or the TPU
    pod for it, the count and the index. Without a coordinator the run has one process."""
    count: int | None = None
    """Number of processes."""
    index: int | None = None
    """Index of this process, from 0."""


_LOCAL = ModelConfig(
    widths=(48, 128),
    blocks=(1, 0),
    dilations=(0,),
    coordinates=True,
    mask_bias=-4.0,
    curve_share=0.85,
    checkerboard=True,
)
"""16x16 positions of a 64 px image, each of which sees 15 px and its own place."""


def _faces() -> Config:
    """Synthetic faces on a laptop CPU, in minutes; the default of train.py."""
    return Config(
        model=replace(_LOCAL, curve_share=0.98),
        loss=LossConfig(mask_l1=5e-5),
        train=TrainConfig(steps=1600, batch_size=32, learning_rate=5e-3, warmup=50, ema=0.98),
    )


def _small() -> Config:
    """A few thousand photographs in CelebA's layout at 64 pixels, on a CPU."""
    return Config(
        data=DataConfig(name="celeba", shift=0.04, zoom=0.06, rotate=5, colour=0.15, mixup=0.2),
        # As `faces`, from which it can start; each position sees 31 px, 34 with mirror.
        model=replace(_LOCAL, dilations=(1, 0), dropout=0.1, mirror=True),
        loss=LossConfig(mask_l1=2e-5),
        train=TrainConfig(steps=2600, batch_size=32, warmup=50, ema=0.995),
    )


def _celeba() -> Config:
    """All of CelebA, for accelerators: 128 pixels, bfloat16 computations."""
    return Config(
        data=DataConfig(name="celeba", size=128, shift=0.03, zoom=0.05, rotate=4, colour=0.1),
        # As many positions as `small`, each of which sees about the same share of the face.
        model=replace(
            _LOCAL,
            widths=(64, 128, 128),
            blocks=(1, 1, 1),
            dilations=(0, 0),
            mirror=True,
            dtype="bfloat16",
        ),
        loss=LossConfig(mask_l1=2e-5),
        train=TrainConfig(steps=20000, batch_size=256, warmup=500, ema=0.999, log_every=100),
    )


def _paper() -> Config:
    """The letter of the paper on the network of `faces`: T(M) = 1 + M, Eq. 6 as printed."""
    return replace(
        _faces(),
        model=replace(
            _LOCAL, coordinates=False, mask_bias=0.0, curve_share=0.0, checkerboard=False
        ),
        loss=LossConfig(),
    )


def _debug() -> Config:
    """A run of seconds, for tests: runs every part, too short to learn."""
    return Config(
        data=DataConfig(
            size=32, synthetic=SyntheticConfig(train=64, validation=16, test=16, size=32)
        ),
        model=ModelConfig(widths=(8, 16, 16), blocks=(0, 0, 0), dilations=(2,)),
        train=TrainConfig(steps=8, batch_size=16, warmup=2, log_every=2),
    )


PRESETS = {
    "faces": _faces(),
    "small": _small(),
    "celeba": _celeba(),
    "paper": _paper(),
    "debug": _debug(),
}
"""Name -> config; `faces` is the default."""


_Rule = tuple[str, object, bool, str]
"""A field, its value, whether the value is allowed, and a description of the allowed values."""


def check(config: Config) -> None:
    """Checks that every setting is within its bounds.

    Raises:
      InputError: a value is out of bounds; the line names the field, the value and what is allowed.
    """
    rules = chain(
        _type_rules(config),
        _data_rules(config.data, config.model.stride * (2 if config.model.checkerboard else 1)),
        _model_rules(config.model),
        _loss_rules(config.loss),
        _train_rules(config.train),
    )
    for name, value, fits, expected in rules:
        if not fits:
            raise InputError(f"`{name}` {value}: must be {expected}")


def _type_rules(part: object, prefix: str = "") -> Iterator[_Rule]:
    """Rules from the types of the fields: one of the choices, or a finite number."""
    hints = get_type_hints(type(part))
    for one in fields(part):
        value, name = getattr(part, one.name), prefix + one.name
        choices = get_args(hints[one.name])
        if is_dataclass(value):
            yield from _type_rules(value, f"{name}.")
        elif get_origin(hints[one.name]) is Literal:
            yield name, value, value in choices, f"one of {', '.join(map(str, choices))}"
        elif isinstance(value, float):
            yield name, value, math.isfinite(value), "a finite number"


def _within(part: str, config: object, bounds: dict[str, tuple[float, float]]) -> Iterator[_Rule]:
    """Rules for fields with a lowest and a highest value, both included."""
    for name, (low, high) in bounds.items():
        value = getattr(config, name)
        expected = f"at least {low}" if high == math.inf else f"from {low} to {high}"
        yield f"{part}.{name}", value, low <= value <= high, expected


def _data_rules(data: DataConfig, stride: int) -> Iterator[_Rule]:
    fits = data.size > 0 and data.size % stride == 0
    yield "data.size", data.size, fits, f"a positive multiple of {stride}"
    own = data.name == "folder" or data.labels is None
    yield "data.labels", data.labels, own, "left out without `data.name` folder"
    bounds = {"shift": (0, 0.25), "zoom": (0, 0.5), "rotate": (0, 180), "colour": (0, 1)}
    free = ("mixup", "noise_max", "cache_gib", "damaged_limit")
    yield from _within("data", data, bounds | dict.fromkeys(free, (0, math.inf)))
    lowest = {"size": 32, "train": 1, "validation": 1, "test": 1, "seed": 0}
    bounds = {name: (low, math.inf) for name, low in lowest.items()}
    yield from _within("data.synthetic", data.synthetic, bounds)


def _model_rules(model: ModelConfig) -> Iterator[_Rule]:
    widths, blocks, dilations = model.widths, model.blocks, model.dilations
    yield "model.widths", widths, min(widths, default=0) > 0, "positive numbers"
    yield "model.blocks", blocks, len(blocks) == len(widths), "one number a width"
    yield "model.blocks", blocks, min(blocks, default=0) >= 0, "numbers from 0 on"
    yield "model.dilations", dilations, min(dilations, default=0) >= 0, "numbers from 0 on"
    share = model.curve_share
    yield "model.curve_share", share, 0 <= share <= 1, "from 0 to 1"
    yield "model.dropout", model.dropout, 0 <= model.dropout < 1, "from 0 to below 1"
    if model.norm == "group":
        fits = all(width % GROUPS == 0 for width in widths)
        yield "model.widths", widths, fits, f"multiples of {GROUPS} with groups"


def _loss_rules(loss: LossConfig) -> Iterator[_Rule]:
    weights = ("binary", "multilabel", "reconstruction", "mask_l1")
    yield from _within("loss", loss, dict.fromkeys(weights, (0, math.inf)))


def _train_rules(train: TrainConfig) -> Iterator[_Rule]:
    yield "train.steps", train.steps, 0 < train.steps <= 10**9, "from 1 to 10^9"
    lowest = {"batch_size": 1, "log_every": 1, "warmup": 0, "validate_every": 0, "save_every": 0}
    lowest |= {"weight_decay": 0}
    bounds = {name: (low, math.inf) for name, low in lowest.items()}
    yield from _within("train", train, bounds | {"seed": (0, LARGEST_SEED)})
    yield "train.learning_rate", train.learning_rate, train.learning_rate > 0, "above 0"
    yield "train.clip", train.clip, train.clip > 0, "above 0"
    yield "train.ema", train.ema, 0 <= train.ema < 1, "from 0 to below 1"
