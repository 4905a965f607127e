"""Export of a network with its weights as StableHLO (`jax.export`) or ONNX.

The programs accept any batch size; n and beta are inputs. ONNX needs the extra `onnx`.
"""

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
from jaxtyping import Array, Float, Int

from iamt_jax.files import json_text
from iamt_jax.inference.predictor import probability
from iamt_jax.model.network import IAMT
from iamt_jax.robust.treatment import ToneCurve, Transformation, predict

PLATFORMS = ("cpu", "cuda", "tpu")
"""Platforms that the programs are lowered for; the one to run on is chosen when they are called."""


def by_curve(network: IAMT) -> Callable[[Array, Array, Array], Float[Array, "batch attribute"]]:
    """Function (images, n, beta) -> probabilities, Eq. 9 and a sigmoid, with constant weights.

    Images are in [0, 1] units; noise may leave that range.
    """
    merged = _frozen(network)

    def run(images: Array, n: Array, beta: Array) -> Array:
        return probability(predict(merged(), images, ToneCurve(n, beta))[0])

    return run


def curve_program(network: IAMT, size: int) -> bytes:
    """Serialises `by_curve` in the format of `jax.export`.

    Inputs are images, float32 (batch, size, size, 3), and n and beta, float32 scalars; the output
    is probabilities, float32 (batch, attribute).
    """
    number = jax.ShapeDtypeStruct((), jnp.float32)
    return _exported(by_curve(network), size, number, number)


def automatic_program(network: IAMT, size: int, transformation: Transformation) -> bytes:
    """Serialises `images -> (probabilities, sigma, state)` under the calibrated transformation.

    sigma, float32 (batch,), is the noise level that the transformation was chosen for, and state,
    int32 (batch,), the index in `robust.states.STATES` of the degradation that was undone.
    """
    merged = _frozen(network)
    transformation = jax.tree.map(np.asarray, transformation)

    def run(images: Array) -> tuple[Array, Float[Array, " batch"], Int[Array, " batch"]]:
        logits, treated = predict(merged(), images, transformation)
        return probability(logits), treated.sigma, treated.state

    return _exported(run, size)


def _frozen(network: IAMT) -> Callable[[], IAMT]:
    """Function that builds the network with constant weights, which become part of a program."""
    definition, weights = nnx.split(network)
    weights = jax.tree.map(np.asarray, nnx.to_pure_dict(weights))
    return lambda: nnx.merge(definition, weights)


def _exported(run: Callable, size: int, *others: jax.ShapeDtypeStruct) -> bytes:
    (batch,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
    return bytes(export.export(jax.jit(run), platforms=PLATFORMS)(images, *others).serialize())


_INPUTS = ("images", "n", "beta")
_OUTPUT = "probabilities"


def onnx_program(network: IAMT, size: int, metadata: Mapping) -> bytes:
    """Converts `by_curve` to an ONNX model of any batch size; n and beta are inputs.

    Args:
      network: a network that computes in float32.
      size: height and width of the images.
      metadata: description of the network; each entry becomes a property, in JSON.

    Raises:
      ImportError: the extra `onnx` is not installed.
    """
    from jax2onnx import to_onnx
    from onnx.helper import set_model_props

    with _quiet():
        model = to_onnx(
            by_curve(network),
            [("batch", size, size, 3), (), ()],
            model_name="iamt",
            input_names=_INPUTS,
            output_names=(_OUTPUT,),
        )
    set_model_props(model, {name: json_text(value) for name, value in metadata.items()})
    return model.SerializeToString()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences warnings of the converter, which users cannot act on."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


class OnnxModel:
    """An ONNX model in ONNX Runtime, on the CPU."""

    def __init__(self, content: bytes):
        from onnxruntime import InferenceSession, SessionOptions

        quiet = SessionOptions()
        quiet.log_severity_level = 3
        self._session = InferenceSession(content, quiet, providers=["CPUExecutionProvider"])

    def __call__(
        self, images: Float[np.ndarray, "batch size size 3"], n: float = 1.0, beta: float = 0.0
    ) -> Float[np.ndarray, "batch attribute"]:
        """Probabilities of float32 images in [0, 1] units at the input size of the network."""
        inputs = images, np.array(n, np.float32), np.array(beta, np.float32)
        return self._session.run([_OUTPUT], dict(zip(_INPUTS, inputs, strict=True)))[0]
