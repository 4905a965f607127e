"""The shape of the code: imports flow one way, files and functions stay small."""

import ast
from pathlib import Path

import pytest

import iamt_jax

PACKAGE = Path(iamt_jax.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

FILE_LINES, FUNCTION_LINES = 400, 60

ORCHESTRATION = (
    "training",
    "evaluation",
    "report",
    "calibration",
    "inference",
    "prediction",
    "explorer",
    "cli",
    "flags",
)
NEVER = {
    "config": ("data", "model", "losses", *ORCHESTRATION),
    "data": ("model", "losses", "pooling", "transformation", *ORCHESTRATION),
    "transformation": ("model", "losses", "pooling", *ORCHESTRATION),
    "pooling": ("model", "data", "losses", *ORCHESTRATION),
    "model": ("data", "losses", *ORCHESTRATION),
    "losses": ORCHESTRATION,
    "training": ("report", "inference", "explorer", "cli"),
    "evaluation": ("report", "explorer", "cli"),
    "explorer": ("training", "evaluation", "calibration", "losses", "cli"),
    "report": (
        *("model", "losses", "pooling", "training"),
        *("inference", "prediction", "explorer", "cli"),
    ),
}
"""Part of the package -> parts that it must not import."""

FOREIGN = {
    "report": ("jax", "flax", "optax"),
    "losses": ("optax", "flax"),
    "model": ("optax", "grain"),
    "config": ("jax", "flax", "tyro"),
}
"""Part of the package -> libraries that it must not import."""


def name(path):
    return str(path.relative_to(PACKAGE))


def parts_and_files(rules):
    return [
        pytest.param(path, rules[part], id=name(path))
        for path in FILES
        if (part := path.relative_to(PACKAGE).parts[0].removesuffix(".py")) in rules
    ]


def imported(path):
    """Full names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions(path):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]


@pytest.mark.parametrize("path, parts", parts_and_files(NEVER))
def test_imports_flow_one_way(path, parts):
    ours = {m.split(".")[1] for m in imported(path) if m.startswith("iamt_jax.")}
    assert not ours & set(parts)


@pytest.mark.parametrize("path, libraries", parts_and_files(FOREIGN))
def test_each_part_keeps_to_its_libraries(path, libraries):
    assert not {module.split(".")[0] for module in imported(path)} & set(libraries)


def test_json_is_written_by_one_function():
    """`files.json_text`, which never writes NaN; a seal's digest is of what was written."""
    writers = {name(path) for path in FILES if "json.dump" in path.read_text()}
    assert writers == {"files.py", "training/seal.py"}


def test_only_the_entry_points_import_the_command_line():
    importers = {name(path) for path in FILES if any("iamt_jax.cli" in m for m in imported(path))}
    assert importers <= {"__main__.py"}


def test_only_the_explorers_page_knows_gradio():
    importers = {
        name(path)
        for path in FILES
        if {"gradio", "fastapi", "uvicorn"} & {m.split(".")[0] for m in imported(path)}
    }
    assert importers == {"explorer/page.py", "explorer/serving.py"}


def test_nothing_is_named_utils():
    assert not [path for path in FILES if "util" in path.stem or "helper" in path.stem]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_and_functions_are_small(path):
    assert len(path.read_text().splitlines()) <= FILE_LINES
    for function in functions(path):
        docstring = len((ast.get_docstring(function) or "").splitlines())
        lines = function.end_lineno - function.lineno - docstring
        assert lines < FUNCTION_LINES, function.name


@pytest.mark.parametrize("path", FILES, ids=name)
def test_public_names_are_described(path):
    tree = ast.parse(path.read_text())
    assert not tree.body or ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name
