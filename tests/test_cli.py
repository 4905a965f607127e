"""The command line: a run from end to end. Mistakes of users are in the corpus."""

import contextlib
import csv
import importlib.metadata
import io
import itertools
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import cli
import numpy as np
import pytest
from cli import evaluate
from conftest import compilations, flags
from faults import refused

import iamt_jax
from iamt_jax import xla_setup
from iamt_jax.attributes import CELEBA_ATTRIBUTES
from iamt_jax.commands.flags import as_flags
from iamt_jax.commands.main import commands
from iamt_jax.config import PRESETS
from iamt_jax.data.dataset import SPLITS
from iamt_jax.degradation.severities import FAMILIES
from iamt_jax.inference.classifier import load
from iamt_jax.robust.treatment import ToneCurve
from iamt_jax.runs.run_file import read_run

REPOSITORY = Path(__file__).parent.parent
METRICS = {
    "accuracy",
    "balanced_accuracy",
    "f1",
    "average_precision",
    "majority_accuracy",
    "gain",
    "ece",
}
PROVENANCE = {"split", "images", "n", "beta", "sigma", "clip", "seed", "versions", "commit"}


def measured(workdir, out, *arguments):
    """metrics.json of an evaluation that must succeed."""
    common = ["--workdir", str(workdir), "--out", str(out), "--bootstrap", "20"]
    assert evaluate([*common, *arguments]) == 0
    return json.loads((out / "metrics.json").read_text())


@pytest.mark.parametrize("arguments, status", [([], 2), (["-h"], 0), (["--help"], 0)])
def test_the_commands_are_listed_with_one_sentence_each(arguments, status, capsys):
    assert cli.main(arguments) == status
    lines = capsys.readouterr().out.splitlines()
    for name, command in commands().items():
        assert command.summary.count(".") == 1
        assert f"{name} {command.summary}" in " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= 80


@pytest.fixture(scope="module")
def helps():
    """Command -> lines of its help, as a file gets them."""
    found = {}
    for name in commands():
        out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
        with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
            cli.main([name, "--help"])
        found[name] = out.buffer.getvalue().decode().splitlines()
    return found


@pytest.mark.parametrize("name", commands())
def test_help_is_wrapped_at_80_columns_without_ragged_lines(name, helps):
    lines = helps[name]
    assert max(map(len, lines)) <= 80
    boxed = [line[2:-2].rstrip() for line in lines if line.startswith("│")]
    for line, following in itertools.pairwise(boxed):
        indents = [len(x) - len(x.lstrip()) for x in (line, following)]
        if indents[0] == indents[1] >= 6:  # Lines of one text: the next word did not fit.
            assert len(f"{line} {following.split()[0]}") > 76, f"{line}\n{following}"
    assert any(line.startswith(" " * 6) for line in boxed)


def test_presets_and_splits_are_listed_as_choices(helps):
    assert f"--preset {{{','.join(PRESETS)}}}" in "\n".join(helps["train"])
    assert f"--split {{{','.join(SPLITS)}}}" in "\n".join(helps["evaluate"])
    assert set(FAMILIES) <= set(re.findall(r"\w+", "\n".join(helps["evaluate"])))


@pytest.mark.parametrize(
    "given, meant",
    [
        ("--train.lr", "--train.learning-rate"),
        ("--lr", "--train.learning-rate"),
        ("--wd", "--train.weight-decay"),
        ("--steps", "--train.steps"),
        ("--batch_size", "--train.batch-size"),
        ("--train.step", "--train.steps"),
    ],
)
def test_short_names_suggest_the_whole_flag(given, meant, capsys):
    refused(capsys, cli.train, ["--workdir", "W", given, 1], f"did you mean {meant}?")


@pytest.mark.parametrize("name", ["evaluate", "calibrate", "export"])
def test_a_workdir_may_be_called_a_model(name, tmp_path, capsys):
    told = f"--workdir {tmp_path}: holds no run.json"
    refused(capsys, cli.COMMANDS[name], ["--model", tmp_path], told)


@pytest.mark.parametrize(
    "arguments, part",
    [
        (["--split", "tset"], "did you mean test?"),
        (["--groups", "male"], "did you mean Male?"),
        (["--degrade", "zoom"], "did you mean zoom_blur?"),
        (["--auto"], "calibration.npz: does not exist"),
        (["--workdir", "absent"], "holds no run.json"),
    ],
)
def test_mistakes_are_found_before_jax_starts(arguments, part, finished, capsys, monkeypatch):
    def started():
        raise AssertionError("JAX was set up")

    monkeypatch.setattr(xla_setup, "prepare", started)
    refused(capsys, cli.evaluate, ["--workdir", finished, *arguments], part)
    if "--auto" in arguments:
        images = REPOSITORY / "docs" / "figures"
        refused(capsys, cli.predict, [images, "--model", finished, "--auto"], part)


def test_the_version_is_that_of_the_installed_package(monkeypatch, capsys):
    monkeypatch.setattr(importlib.metadata, "version", {"iamt-jax": "1.2.3"}.get)
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == "1.2.3\n"


def test_the_version_of_a_checkout_that_is_not_installed(monkeypatch, capsys):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"{project['version']}\n"
    assert iamt_jax.__version__ == project["version"]


@pytest.mark.parametrize(
    "message, printed",
    [
        ("`train.batch_size` 0: must be at least 1", "--train.batch-size 0: must be at least 1"),
        ("give `data.root`, or `preset` faces", "give --data.root, or --preset faces"),
        ("W/`x`.csv: no `attribute`, run `pip install y`", None),
        ("images[0] (`n.png", None),
    ],
)
def test_arguments_in_messages_become_flags(message, printed):
    assert as_flags(message) == (printed or message)


def test_flags_make_the_config(finished, tiny):
    run = read_run(finished)
    assert run.config == tiny
    assert run.attributes == CELEBA_ATTRIBUTES


def test_evaluation_writes_what_it_promises(finished, tmp_path, capsys):
    report = measured(finished, tmp_path / "E", "--n", "4", "--beta", "0.5")
    assert set(report) == {"average", "attributes", "provenance"}
    assert set(report["average"]) == METRICS | {"interval"}
    assert set(report["average"]["interval"]) == METRICS
    assert tuple(report["attributes"]) == CELEBA_ATTRIBUTES
    assert all(set(values) == METRICS for values in report["attributes"].values())
    provenance = report["provenance"]
    assert set(provenance) >= PROVENANCE
    assert (provenance["n"], provenance["beta"], provenance["images"]) == (4, 0.5, 16)
    assert "average accuracy" in capsys.readouterr().out
    rows = list(csv.reader((tmp_path / "E/metrics.csv").open()))
    assert len(rows) >= 41
    assert "Eyeglasses" in (tmp_path / "E/metrics.md").read_text()


@pytest.mark.parametrize(
    "flags, recorded",
    [
        (["--sigma", "0.1", "--clip-noise"], {"sigma": 0.1, "clip": True}),
        (["--degrade", "snow"], {"family": "snow", "severity": 3}),
    ],
)
def test_evaluation_repeats_itself_at_any_batch_size(finished, tmp_path, flags, recorded):
    reports = [
        measured(finished, tmp_path / str(i), "--batch-size", size, *flags)
        for i, size in enumerate(["128", "128", "3"])
    ]
    first, again, small = ({k: r[k] for k in ("average", "attributes")} for r in reports)
    assert first == again
    for name, values in first["attributes"].items():
        for metric, value in values.items():
            # float32 sums of another batch size may differ in the last digit.
            assert small["attributes"][name][metric] == pytest.approx(value, abs=1e-5), name
    assert reports[0]["provenance"].items() >= recorded.items()


def test_a_degradation_changes_the_metrics(finished, tmp_path):
    reports = [
        measured(finished, tmp_path / str(i), *flags)["attributes"]
        for i, flags in enumerate([[], ["--degrade", "spatter", "--severity", "5"]])
    ]
    assert reports[0] != reports[1]


def test_another_curve_compiles_nothing(finished, caplog):
    predictor = load(finished).predictor
    images = np.zeros((8, 32, 32, 3), np.uint8)
    with compilations(caplog, 1):
        logits = [
            np.asarray(predictor.predict(images, ToneCurve(n, beta)).logits)
            for n, beta in ((1.0, 0.0), (4, 0.5), (0.0, 1), (np.float64(2.5), 0.25))
        ]
    assert all((x != logits[0]).any() for x in logits[1:])


def test_the_scripts_run(tmp_path):
    """As a user runs them, except for what makes the shared run short."""

    def run(script, *arguments):
        command = [sys.executable, str(REPOSITORY / script), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        return done.returncode, done.stdout, done.stderr

    status, out, error = run("train.py", *flags("W"))
    assert status == 0, error
    assert "python evaluate.py --workdir W" in out
    status, out, error = run("evaluate.py", "--workdir", "W", "--n", "4", "--beta", "0.5")
    assert status == 0, error
    assert "Eyeglasses" in out and (tmp_path / "W/evaluation/metrics.json").is_file()
    status, out, error = run("evaluate.py", "--workdir", "absent")
    assert (status, error.count("\n"), "Traceback" in error) == (2, 1, False)
    assert os.listdir(tmp_path) == ["W"]
