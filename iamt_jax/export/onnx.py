"""The network as an ONNX model, for runtimes that know no JAX; needs the extra `onnx`."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Float

from iamt_jax.errors import InputError
from iamt_jax.export.programs import by_curve
from iamt_jax.files import json_text
from iamt_jax.model.network import IAMT

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
