"""Every setting of a run: frozen dataclasses, and the named presets that fill them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

MISSING = -1
"""Label of an attribute that nobody annotated; it counts in no loss and in no metric."""

GROUPS = 16
"""Groups of GroupNorm."""

FEWEST_IMAGES = 64
"""That a calibration learns from."""

LARGEST_SEED = 2**32 - 1

LARGEST_N = 1e6
"""Powers beyond it are one curve: 0 below a mask of 0.5, 1 above."""


@dataclass(frozen=True)
class SyntheticConfig:
    """The rendered data set, written once into a cache folder."""

    train: int = 8000
    """Images of the training split."""
    validation: int = 500
    """Images of the validation split."""
    test: int = 1000
    """Images of the test split."""
    size: int = 80
    """Side of a rendered image, pixels; a little over the network's, as with photographs."""
    seed: int = 0
    """Seed of attributes and nuisance; another seed is another data set."""


@dataclass(frozen=True)
class DataConfig:
    """Which images, and what is done to them before the network sees them."""

    name: Literal["faces", "celeba", "celeb_a", "folder"] = "faces"
    """`faces` renders synthetic faces; `celeba` reads CelebA-shaped data below `root`;
    `celeb_a` asks tensorflow-datasets to download and prepare CelebA; `folder` reads images of
    any kind in `root` and their csv (docs/your_own_data.md)."""
    root: str | None = None
    """Folder of the data set; giving one means `celeba`, unless `name` is `folder`. For `celeb_a`,
    tensorflow-datasets' data folder."""
    labels: str | None = None
    """For `folder`, the csv, seen from `root`; by default the only one in it."""
    size: int = 64
    """Side of the network's square input, pixels."""
    train_split: Literal["train", "train+validation"] = "train"
    """`train+validation` is the paper's split (182,637 images); the best checkpoint is then
    chosen on images that were trained on."""
    flip: bool = True
    """Mirror every other training image."""
    shift: float = 0.0
    """Largest random shift of a training image, as a share of its side, each way."""
    zoom: float = 0.0
    """Largest random change of scale: 0.1 draws a factor from 1/1.1 to 1.1 (log-uniform)."""
    rotate: float = 0.0
    """Largest random rotation, degrees, each way."""
    colour: float = 0.0
    """Largest random change of brightness, contrast and saturation, as a share."""
    erase: float = 0.0
    """Largest side of a grey rectangle put over a training image, as a share of the side."""
    mixup: float = 0.0
    """Mixup (Zhang et al. 2018): a training image and its labels are blended with another's by a
    weight drawn from Beta(mixup, mixup); 0 blends none."""
    noise_max: float = 0.0
    """Gaussian noise in training: sigma is uniform in [0, noise_max], [0, 1] pixel units. 0 in
    every preset: robustness comes after training; a user who can retrain should."""
    workers: int = 0
    """Processes that decode ahead; 0 decodes in threads."""
    cache_gib: float = 2.0
    """Decoded training images are kept in memory if all of them fit in this many GiB."""
    damaged_limit: int = 0
    """Training and validation images that may be left out because they cannot be decoded; with any
    other number than 0 all are decoded once at the start, and each one left out is named."""
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)


@dataclass(frozen=True)
class ModelConfig:
    """The network: what `IAMT` is built from, and the `--model` flags of a run.

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
    """Dilation of each residual block of the context module (Yu & Koltun 2016)."""
    norm: Literal["batch", "group"] = "batch"
    """Normalisation of the extractor."""
    dropout: float = 0.0
    """Share of feature channels dropped in training, the same for every position and head."""
    multilabel: bool = True
    """Train the multi-label classifier f_m (Eq. 3); Table 1 leaves it out."""
    reconstructor: bool = True
    """Train the reconstructor f_r (Eq. 5); Table 1 leaves it out."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Compute type; parameters and statistics are float32 always."""


@dataclass(frozen=True)
class LossConfig:
    """Weights of Eq. 6, and how two of its terms are read."""

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
    """Images a step, over all devices and processes."""
    optimiser: Literal["muon", "adamw"] = "muon"
    """`muon` orthogonalises the updates of convolutions and masks (Jordan et al. 2024) and leaves
    the rest to AdamW; on photographs it learnt more from as many images (docs/log.md)."""
    learning_rate: float = 4e-3
    """Peak of the cosine schedule."""
    warmup: int = 100
    """Steps of linear warm-up from 0."""
    weight_decay: float = 0.05
    """Decoupled decay, on kernels only."""
    clip: float = 100.0
    """Largest global gradient norm; larger ones are scaled down to it."""
    ema: float = 0.0
    """Decay a step of the moving average of weights that is evaluated and kept beside the
    trained ones; 0 evaluates the weights themselves."""
    label_smoothing: float = 0.0
    """Targets of Eq. 1 and 3 are moved this far towards 0.5."""
    seed: int = 0
    """Seed of initialisation, data order, augmentation and dropout."""
    log_every: int = 20
    """Steps between two lines of metrics."""
    validate_every: int = 0
    """Steps between two validations, each with a checkpoint; 0 is once an epoch."""
    save_every: int = 0
    """Steps between two more checkpoints, without validation; 0 makes none."""
    init_from: str | None = None
    """Another workdir whose best checkpoint the network starts from."""
    tensorboard: bool = False
    """Also write TensorBoard events, with inputs, reconstructions and masks."""


@dataclass(frozen=True)
class Config:
    """A whole run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class OtherData:
    """Where else to look than at the data set trained on."""

    root: str | None = None
    """Another data set with the same attributes, of the kind trained on (CelebA-shaped, or a folder
    with a csv); by default the one trained on."""
    labels: str | None = None
    """Another csv, seen from `root`; giving one means a folder of images with a csv."""
    damaged_limit: int = 0
    """Images that may be left out because they cannot be decoded; each one is named."""


AUTO = "auto"
"""A coordinator that the cluster knows."""


@dataclass(frozen=True)
class Processes:
    """One run in many processes: the same command on every host, with these flags."""

    coordinator: str | None = None
    """HOST:PORT of process 0, the same for all; `auto` asks Slurm, Open MPI, Kubernetes or the TPU
    pod for it and for the two numbers. Without it, one process is the whole run."""
    count: int | None = None
    """How many processes there are."""
    index: int | None = None
    """Which of them this is, from 0."""


def _faces() -> Config:
    """Synthetic faces on a laptop CPU, minutes: what `python train.py --workdir W` does."""
    return Config(train=TrainConfig(steps=900, batch_size=32, warmup=50, ema=0.98))


def _small() -> Config:
    """A few thousand photographs in CelebA's layout at 64 pixels, on a CPU."""
    return Config(
        data=DataConfig(name="celeba", shift=0.04, zoom=0.06, rotate=5, colour=0.15, mixup=0.2),
        model=ModelConfig(dilations=(1, 2, 4), dropout=0.1),
        train=TrainConfig(steps=2600, batch_size=32, warmup=50, ema=0.995),
    )


def _celeba() -> Config:
    """The paper's setting, for accelerators: 128 pixels, bfloat16 compute."""
    return Config(
        data=DataConfig(
            name="celeba", size=128, shift=0.03, zoom=0.05, rotate=4, colour=0.1, workers=8
        ),
        model=ModelConfig(
            widths=(64, 128, 128), blocks=(1, 2, 2), dilations=(1, 2, 4, 8), dtype="bfloat16"
        ),
        train=TrainConfig(steps=20000, batch_size=256, warmup=500, ema=0.999, log_every=100),
    )


def _debug() -> Config:
    """Seconds: does everything, learns nothing."""
    return Config(
        data=DataConfig(
            size=32, synthetic=SyntheticConfig(train=64, validation=16, test=16, size=32)
        ),
        model=ModelConfig(widths=(8, 16, 16), blocks=(0, 0, 0), dilations=(2,)),
        train=TrainConfig(steps=8, batch_size=16, warmup=2, log_every=2),
    )


PRESETS = {"faces": _faces(), "small": _small(), "celeba": _celeba(), "debug": _debug()}
"""Name -> config; `faces` is the default."""
