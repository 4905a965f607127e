"""Settings: each is read, described, and survives run.json."""

import ast
import dataclasses
import json
from pathlib import Path

import pytest
from faults import one_line

import iamt_jax
from iamt_jax import config as config_module
from iamt_jax.config import PRESETS, Config
from iamt_jax.runs.run_file import Run, differences, read_run, write_run

PACKAGE = Path(iamt_jax.__file__).parent
CONFIG = PACKAGE / "config.py"
CLASSES = [
    getattr(config_module, node.name)
    for node in ast.parse(CONFIG.read_text()).body
    if isinstance(node, ast.ClassDef)
]
FIELDS = [(kind, field.name) for kind in CLASSES for field in dataclasses.fields(kind)]


@pytest.fixture(scope="module")
def attributes_read():
    """Every name that the package's code reads as an attribute, outside config.py."""
    trees = [ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py") if path != CONFIG]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    return {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


@pytest.mark.parametrize("kind, field", FIELDS)
def test_every_field_is_read(attributes_read, kind, field):
    assert field in attributes_read, f"{kind.__name__}.{field} changes nothing: remove it"


@pytest.mark.parametrize("kind", CLASSES)
def test_every_field_has_a_docstring_below_it(kind):
    body = next(
        node.body
        for node in ast.parse(CONFIG.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == kind.__name__
    )
    for node, below in zip(body, [*body[1:], None], strict=True):
        # The four parts of a run describe themselves.
        if isinstance(node, ast.AnnAssign) and not ast.unparse(node.annotation).endswith("Config"):
            described = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            assert described, f"{kind.__name__}.{node.target.id}"


@pytest.mark.parametrize("kind", CLASSES)
def test_configs_are_frozen(kind):
    field = dataclasses.fields(kind)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(kind(), field, None)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_run_survives_its_json(preset, tmp_path):
    run = Run(PRESETS[preset], ("Bald", "Young"), (False, True))
    write_run(tmp_path, run)
    assert read_run(tmp_path) == run
    json.loads((tmp_path / "run.json").read_text())


@pytest.fixture
def earlier(tmp_path):
    """Writes the run.json of an earlier version, with the fields that were removed since."""

    def write(erase=0.0, label_smoothing=0.0):
        write_run(tmp_path, Run(Config(), ("Bald", "Young"), (False, True)))
        fields = json.loads((tmp_path / "run.json").read_text())
        fields["config"]["data"]["erase"] = erase
        fields["config"]["train"]["label_smoothing"] = label_smoothing
        (tmp_path / "run.json").write_text(json.dumps(fields))
        return tmp_path

    return write


def test_removed_fields_of_an_earlier_version_are_read_at_their_default(earlier):
    assert read_run(earlier()).config == Config()


@pytest.mark.parametrize(
    "field, told",
    [("erase", "data.erase is 0.3"), ("label_smoothing", "train.label_smoothing is 0.3")],
)
def test_removed_fields_with_another_value_are_refused(earlier, field, told):
    workdir = earlier(**{field: 0.3})
    one_line(lambda: read_run(workdir), workdir / "run.json", told, "a setting that was removed")


def test_differences_name_the_fields():
    old = Config()
    data = dataclasses.replace(old.data, size=128)
    train = dataclasses.replace(old.train, steps=7)
    new = dataclasses.replace(old, data=data, train=train)
    assert list(differences(old, new).values()) == [
        "data.size 64 -> 128",
        "train.steps 1000 -> 7",
    ]
    assert differences(old, old) == {}
