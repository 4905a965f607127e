"""Intentional attention mask transformation (Kimura & Tanaka, arXiv 1905.02719) in JAX."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iamt_jax.inference import Classifier, load

__all__ = ["Classifier", "load"]


def __getattr__(name: str) -> Any:
    """What users call, imported when it is asked for: JAX must not start before the command line
    has set it up, and spawned decoding workers do without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from iamt_jax import inference

    return getattr(inference, name)
