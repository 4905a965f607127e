"""Intentional attention mask transformation (Kimura & Tanaka, arXiv 1905.02719) in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from iamt_jax.config import ModelConfig
    from iamt_jax.errors import InputError
    from iamt_jax.explanation.explain import Explanation, explain
    from iamt_jax.inference.classifier import Classifier, load
    from iamt_jax.model.heads import AttributeHeads, sweep
    from iamt_jax.model.network import IAMT
    from iamt_jax.model.tone_curve import tone_curve

__all__ = [
    "IAMT",
    "AttributeHeads",
    "Classifier",
    "Explanation",
    "InputError",
    "ModelConfig",
    "explain",
    "load",
    "sweep",
    "tone_curve",
]

_MODULES = {
    "IAMT": "model.network",
    "AttributeHeads": "model.heads",
    "Classifier": "inference.classifier",
    "Explanation": "explanation.explain",
    "InputError": "errors",
    "ModelConfig": "config",
    "explain": "explanation.explain",
    "load": "inference.classifier",
    "sweep": "model.heads",
    "tone_curve": "model.tone_curve",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: the command line must configure JAX before JAX
    starts, and flags are checked without it."""
    if name == "__version__":
        from iamt_jax.version import package_version

        return package_version()
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from iamt_jax import xla_setup

    xla_setup.turn_off_ynn()
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
