"""The version of this package."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path


def package_version() -> str:
    """The version of the installed package, or that of the checkout if it is not installed.

    Returns:
      A version such as "0.2.0"; "unknown" for a copy of the package without pyproject.toml.
    """
    try:
        return importlib.metadata.version("iamt-jax")
    except importlib.metadata.PackageNotFoundError:
        project = Path(__file__).parents[1] / "pyproject.toml"
        if not project.is_file():
            return "unknown"
        return tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
