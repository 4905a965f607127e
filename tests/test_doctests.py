"""Runs every example in a docstring, where "W" is the workdir of a trained run."""

import doctest
import importlib
from pathlib import Path

import pytest

import iamt_jax

pytestmark = pytest.mark.slow

PACKAGE = Path(iamt_jax.__file__).parent
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def module_name(path):
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


MODULES = [module_name(path) for path in sorted(PACKAGE.rglob("*.py")) if ">>>" in path.read_text()]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, finished, monkeypatch):
    monkeypatch.chdir(finished.parent)
    module = importlib.import_module(name)
    examples = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    written = Path(module.__file__).read_text().count(">>>")
    assert sum(len(test.examples) for test in examples) == written  # All examples are found.
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    for test in examples:
        test.globs = {}  # An example has only its own imports.
        report = []
        failures, _ = runner.run(test, out=report.append)
        assert not failures, "".join(report)


def test_no_example_is_skipped():
    skipping = [path for path in PACKAGE.rglob("*.py") if "+SKIP" in path.read_text()]
    assert not skipping
