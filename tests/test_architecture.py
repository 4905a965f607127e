"""The shape of the code: packages import only from those above them in one list."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

import iamt_jax

PACKAGE = Path(iamt_jax.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

LAYERS = (
    "errors",
    "config",
    "files",
    "version",
    "attributes",
    "signals",
    "progress",
    "xla_setup",
    "distributed",
    "synthetic",
    "data",
    "degradation",
    "ops",
    "model",
    "metrics",
    "robust",
    "runs",
    "explanation",
    "inference",
    "training",
    "evaluation",
    "report",
    "export",
    "explorer",
    "commands",
    "__main__",
)
"""Packages and top-level modules; each imports only from those above it."""

FOREIGN = {
    "report": ("jax", "flax", "optax"),
    "metrics": ("jax", "flax", "optax"),
    "model": ("optax", "grain"),
    "config": ("jax", "flax", "tyro"),
}
"""Package -> libraries that it must not import."""


def name(path):
    return str(path.relative_to(PACKAGE))


def layer(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    """Full names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", [x for x in FILES if layer(x) != "__init__"], ids=name)
def test_packages_import_only_from_those_above(path):
    ours = {module.split(".")[1] for module in imported(path) if module.startswith("iamt_jax.")}
    above = LAYERS[: LAYERS.index(layer(path)) + 1]
    assert ours <= set(above)


@pytest.mark.parametrize("path", [x for x in FILES if layer(x) in FOREIGN], ids=name)
def test_each_package_keeps_to_its_libraries(path):
    assert not {module.split(".")[0] for module in imported(path)} & set(FOREIGN[layer(path)])


def test_the_model_imports_only_ops_config_errors_and_jaxs_libraries():
    """The paper can be read, and copied, without the rest."""
    modules = {
        module for path in FILES if layer(path) in ("model", "ops") for module in imported(path)
    }
    ours = {module.split(".")[1] for module in modules if module.startswith("iamt_jax.")}
    assert ours <= {"config", "errors", "ops", "model"}
    foreign = {module.split(".")[0] for module in modules} - {"iamt_jax"}
    assert foreign - sys.stdlib_module_names <= {"jax", "flax", "jaxtyping", "numpy"}


def test_no_base_name_occurs_twice():
    names = Counter(path.stem for path in FILES if path.stem != "__init__")
    assert not [stem for stem, count in names.items() if count > 1]


def public_names(path):
    """Names that a module defines at its top level, without a leading underscore."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found = [node.name]
        elif isinstance(node, ast.Assign):
            found = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found = [node.target.id]
        else:
            continue
        yield from (one for one in found if not one.startswith("_"))


def test_no_public_name_is_defined_in_two_modules():
    places = {}
    for path in FILES:
        for one in public_names(path):
            places.setdefault(one, set()).add(name(path))
    assert {one: where for one, where in places.items() if len(where) > 1} == {}


SHELL = re.compile(
    r"((python )?-m iamt_jax \w+|(python )?(train|evaluate)\.py|docker run|tfds convert_format)"
    r"( --\S+( \w+)?)*"
)
"""A whole shell command, which a message may quote."""

FOREIGN_FLAGS = (
    *("--always", "--dirty", "--match="),
    "--xla_cpu_experimental_ynn_fusion_type=",
    " --out_file_format=array_record`",
)
"""Flags of git, XLA and tensorflow-datasets."""


@pytest.mark.parametrize("path", [x for x in FILES if layer(x) != "commands"], ids=name)
def test_nothing_below_the_commands_names_a_flag(path):
    """Messages name arguments in backticks; `commands.flags.as_flags` turns them into flags."""
    if name(path) == "explorer/style.py":  # Its variables of CSS begin with hyphens as well.
        return
    texts = {x.value for x in ast.walk(ast.parse(path.read_text())) if isinstance(x, ast.Constant)}
    for text in texts - set(FOREIGN_FLAGS):
        assert not re.search(r"--[a-z]", SHELL.sub("", str(text))), text


def test_json_is_written_by_one_function():
    """`files.json_text`, which never writes NaN; a checkpoint's digest is of what was written."""
    writers = {name(path) for path in FILES if "json.dump" in path.read_text()}
    assert writers == {"files.py", "runs/checkpoints.py"}


def test_importing_the_package_starts_nothing():
    code = "import sys, iamt_jax; print('jax' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_flags_are_checked_without_jax():
    """Importing JAX takes a second, and its devices more."""
    code = (
        "import sys; from iamt_jax.commands.main import commands; commands(); "
        "import iamt_jax.metrics.groups; print('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False"], done.stderr


def test_the_public_names_need_neither_pytest_nor_tensorflow_datasets():
    """requirements.txt has both, for the tests and for one kind of data."""
    code = (
        "import sys; sys.modules |= dict.fromkeys(['pytest', 'tensorflow_datasets']); "
        "import iamt_jax; [getattr(iamt_jax, name) for name in iamt_jax.__all__]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_wheel_says_that_the_package_is_typed():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())
    data = project["tool"]["setuptools"]["package-data"]["iamt_jax"]
    assert "py.typed" in data and (PACKAGE / "py.typed").is_file()


def test_only_the_explorers_page_knows_gradio():
    importers = {
        name(path)
        for path in FILES
        if {"gradio", "fastapi", "uvicorn"} & {module.split(".")[0] for module in imported(path)}
    }
    assert importers == {"explorer/app.py", "explorer/serving.py"}
