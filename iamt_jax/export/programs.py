"""The network as StableHLO with its weights, for any batch, on any platform, n and beta free."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export
from jaxtyping import Array, Float

from iamt_jax.errors import InputError
from iamt_jax.files import json_text
from iamt_jax.inference.predictor import probability
from iamt_jax.model.network import IAMT
from iamt_jax.robust.statistics import corrected
from iamt_jax.robust.transform import Transformation, transform

PLATFORMS = ("cpu", "cuda", "tpu")
"""What the programs are lowered for; which of them runs is decided where they are called."""

Curved = Callable[
    [Float[Array, "batch size size 3"], Float[Array, ""], Float[Array, ""]],
    Float[Array, "batch attribute"],
]
"""(images, n, beta) -> probabilities; images in [0, 1] units, which noise may leave."""


def by_curve(network: IAMT) -> Curved:
    """Eq. 9 and a sigmoid, with the weights as constants."""
    merged = _frozen(network)

    def run(images: Array, n: Array, beta: Array) -> Array:
        return probability(merged().predict(images, n, beta))

    return run


def curve_program(network: IAMT, size: int) -> bytes:
    """`by_curve` in `jax.export`'s format: images float32 (batch, size, size, 3), n and beta
    float32 scalars, probabilities float32 (batch, attribute)."""
    number = jax.ShapeDtypeStruct((), jnp.float32)
    return _exported(by_curve(network), size, number, number)


def automatic_program(network: IAMT, size: int, transformation: Transformation) -> bytes:
    """`images -> (probabilities, sigma)`: each image under the calibrated transformation, and the
    noise that it was chosen for, float32 (batch,)."""
    merged = _frozen(network)
    transformation = jax.tree.map(np.asarray, transformation)

    def run(images: Array) -> tuple[Array, Float[Array, " batch"]]:
        done = transform(images, transformation, jnp.full(images.shape[:1], jnp.nan))
        after_norm = corrected(done.correction)
        logits = merged().predict(done.images, None, done.beta, after_norm)
        return probability(logits), done.sigma

    return _exported(run, size)


def _frozen(network: IAMT) -> Callable[[], IAMT]:
    """The network with constants for weights: a program then needs nothing beside itself."""
    definition, weights = nnx.split(network)
    weights = jax.tree.map(np.asarray, nnx.to_pure_dict(weights))
    return lambda: nnx.merge(definition, weights)


def _exported(run: Callable, size: int, *others: jax.ShapeDtypeStruct) -> bytes:
    (batch,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
    return bytes(export.export(jax.jit(run), platforms=PLATFORMS)(images, *others).serialize())


SUFFIX = ".onnx"
INPUTS = ("images", "n", "beta")
OUTPUT = "probabilities"


def convert(network: IAMT, size: int, metadata: Mapping) -> bytes:
    """`by_curve` as an ONNX model, whose batch is free; n and beta are inputs too.

    Args:
      network: which computes in float32.
      size: height and width of the images.
      metadata: what to know of the network; each entry becomes a property, in JSON.

    Raises:
      InputError: the converter is not installed.
    """
    try:
        from jax2onnx import to_onnx
        from onnx.helper import set_model_props
    except ImportError:
        raise InputError(
            f"--out: a file that ends in {SUFFIX} needs jax2onnx, which is not installed; install "
            "it with pip install 'iamt-jax[onnx]', or name a file that ends in .iamt"
        ) from None
    with _quiet():
        model = to_onnx(
            by_curve(network),
            [("batch", size, size, 3), (), ()],
            model_name="iamt",
            input_names=INPUTS,
            output_names=(OUTPUT,),
        )
    set_model_props(model, {name: json_text(value) for name, value in metadata.items()})
    return model.SerializeToString()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within it the converter does not tell what concerns its authors alone."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


class OnnxModel:
    """A converted model in ONNX Runtime, on the CPU."""

    def __init__(self, content: bytes):
        from onnxruntime import InferenceSession, SessionOptions

        quiet = SessionOptions()
        quiet.log_severity_level = 3
        self._session = InferenceSession(content, quiet, providers=["CPUExecutionProvider"])

    def __call__(
        self, images: Float[np.ndarray, "batch size size 3"], n: float = 1.0, beta: float = 0.0
    ) -> Float[np.ndarray, "batch attribute"]:
        """Probabilities, of float32 images in [0, 1] units at the network's size."""
        inputs = images, np.array(n, np.float32), np.array(beta, np.float32)
        return self._session.run([OUTPUT], dict(zip(INPUTS, inputs, strict=True)))[0]
