"""Every command of README and docs does what it says, with few steps on small data.

A command is run as it stands, but for `TINY` flags after it, and with folders under the names that
it gives. What is too slow for that is run by .ci/check_commands.py; what is left is in `ELSEWHERE`.
"""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import cli as main
import commands
import conftest
import pytest
from PIL import Image

from iamt_jax.commands.flags import take_option, take_preset, train_config
from iamt_jax.config import check

pytestmark = pytest.mark.slow

HERE = [
    command
    for command in commands.commands()
    if not commands.elsewhere(command) and not commands.SLOW.match(command.text)
]

PROGRAMS = {
    "train.py": main.train,
    "evaluate.py": main.evaluate,
    **{f"-m iamt_jax {name}": command for name, command in main.COMMANDS.items()},
}

TINY = {
    main.train: [f"--{name}={value}" for name, value in conftest.TINY.items()],
    main.evaluate: ["--bootstrap=0"],
    main.calibrate: ["--images=64"],
}
"""What makes a command small."""

EXAMPLES = {"examples/digits.py": ["--count=80"], "examples/resnet.py": ["--steps=2"]}
"""The same for examples."""


@pytest.fixture(scope="module")
def place(dataset, finished, tmp_path_factory):
    """A folder with what commands name: runs, a data set, images, cards."""
    place = tmp_path_factory.mktemp("commands")
    shutil.copytree(finished, place / "W")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main.calibrate(["--workdir", "W", "--images", "64"]) == 0
        assert main.export(["--workdir", "W", "--out", "model.iamt"]) == 0
        for out, flags in {"evaluation": [], "noise": ["--sigma=0.2"], "auto": ["--auto"]}.items():
            assert main.evaluate(["--workdir", "W", "--bootstrap=0", f"--out=W/{out}", *flags]) == 0
    (place / "FACES").symlink_to("W")
    for name in ("DIR", "celeba10k"):
        (place / name).symlink_to(dataset.root)
    (place / "IMAGES").mkdir()
    for i in range(3):
        Image.new("RGB", (40, 50), (80 * i, 90, 20)).save(place / "IMAGES" / f"{i}.png")
    Image.new("RGB", (40, 50), "olive").save(place / "photograph.jpg")
    shutil.copytree(commands.ROOT / "docs" / "cards", place / "docs" / "cards")
    templates = commands.ROOT / "experiments" / "card_templates"
    shutil.copy(templates / "TEMPLATE_model.md", place / "CARD")
    (place / "examples").symlink_to(commands.ROOT / "examples")
    (place / "experiments").symlink_to(commands.ROOT / "experiments")
    (place / "iamt_jax").symlink_to(commands.ROOT / "iamt_jax")
    copies = commands.ROOT / "experiments" / "degraded_copies.py"
    few = ["--workdir", "W", "--out", "copies", "--images", "64", "--copies", "0"]
    environment = os.environ | {"PYTHONPATH": str(commands.ROOT)}
    subprocess.run([sys.executable, copies, *few], cwd=place, env=environment, check=True)
    return place


def split(command):
    """The function or script that a command calls, and its arguments."""
    words = command.words[1:]
    if words[0] == "-m":
        name = " ".join(words[:3])
        return (name, words[3:]) if name in PROGRAMS else (f"-m {words[1]}", words[2:])
    return words[0], words[1:]


def value(words, flag):
    return words[words.index(flag) + 1] if flag in words[:-1] else None


def own_workdir(place, words, function):
    """Gives a command a workdir: a fresh one to train in, else a trained one under its name."""
    flag = "--model" if function is main.predict else "--workdir"
    if flag not in words:
        words += [flag, "W"]
    at = words.index(flag) + 1
    if function is main.train:
        words[at] += "-trained"
        shutil.rmtree(place / words[at], ignore_errors=True)
    elif not (place / words[at]).exists():
        shutil.copytree(place / "W", place / words[at])


@pytest.mark.parametrize("command", HERE, ids=lambda c: f"{c.page}: {c.text}")
def test_command_runs(command, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    program, words = split(command)
    if "model.onnx" in words:
        pytest.importorskip("jax2onnx", reason="needs pip install -e '.[onnx]'")
    if program in PROGRAMS:
        function = PROGRAMS[program]
        if "--help" in words:
            with pytest.raises(SystemExit) as end:
                function(words)
            assert end.value.code == 0
            return
        if function is main.train:
            preset, rest = take_preset(words)
            words = ["--preset=debug", *rest]
        own_workdir(place, words, function)
        words = ["Smiling" if word == "ATTRIBUTE" else word for word in words]
        assert function(words + TINY.get(function, [])) == 0, capsys.readouterr().err
        if out := value(words, "--out"):
            assert Path(out).exists()
    elif program.startswith("-m"):
        script(lambda: runpy.run_module(program[3:], run_name="__main__"), [program, *words])
    else:
        if program == "examples/digits.py":
            shutil.rmtree(value(words, "--out"), ignore_errors=True)
        monkeypatch.syspath_prepend("examples")
        words += EXAMPLES.get(program, [])
        script(lambda: runpy.run_path(program, run_name="__main__"), [program, *words])


def script(run, argv):
    """Runs what ends by sys.exit."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", argv)
        run()
    assert not end.value.code


TRAININGS = [x for x in HERE if split(x)[0] in ("train.py", "-m iamt_jax train")]


@pytest.mark.parametrize("command", TRAININGS, ids=lambda c: f"{c.page}: {c.text}")
def test_training_as_it_stands_has_a_config(command):
    words = split(command)[1]
    if "--help" not in words:
        preset, rest = take_preset(words)
        _, rest = take_option(rest, "--workdir")
        settings = [word for word in rest if word != "--dry-run"]
        check(train_config(preset, settings, "train.py"))


def test_commands_are_found():
    texts = {command.text for command in commands.commands()}
    assert "python train.py --workdir W" in texts
    assert any(text.startswith("python experiments/") for text in texts)
    assert all(any(commands.re.fullmatch(p, t) for t in texts) for p in commands.ELSEWHERE)
