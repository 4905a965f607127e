"""The command line: a run from end to end, and one line for each thing that users get wrong."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import layouts
import numpy as np
import pytest
from conftest import flags
from faults import refused

from iamt_jax.cli import evaluate, train
from iamt_jax.data.attributes import CELEBA_ATTRIBUTES
from iamt_jax.inference import load
from iamt_jax.prediction import Setting
from iamt_jax.workdir import read_run

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


# What works.


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


def test_evaluation_repeats_itself_at_any_batch_size(finished, tmp_path):
    noisy = ("--sigma", "0.1", "--clip-noise")
    reports = [
        measured(finished, tmp_path / str(i), "--batch-size", size, *noisy)
        for i, size in enumerate(["128", "128", "3"])
    ]
    first, again, small = ({k: r[k] for k in ("average", "attributes")} for r in reports)
    assert first == again
    for name, values in first["attributes"].items():
        for metric, value in values.items():
            # float32 sums of another batch size may differ in the last digit.
            assert small["attributes"][name][metric] == pytest.approx(value, abs=1e-5), name
    assert reports[0]["provenance"]["sigma"] == 0.1


def test_another_curve_compiles_nothing(finished):
    predictor = load(finished).predictor
    images = np.zeros((8, 32, 32, 3), np.uint8)
    logits = [
        np.asarray(predictor.logits(images, Setting(n, beta)))
        for n, beta in ((1.0, 0.0), (4.0, 0.5), (0.0, 1.0), (2.5, 0.25))
    ]
    assert predictor._curve._cache_size() == 1
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


# What users get wrong, before anything is read.

TRAIN_FLAGS = {
    "unknown flag": (["--train.stps", 3], ["--train.stps", "did you mean --train.steps?"]),
    "not a number": (["--train.steps", "many"], ["train.steps", "many"]),
    "not a choice": (["--model.norm", "layer"], ["model.norm", "layer", "batch"]),
    "unknown preset": (["--preset", "smal"], ["--preset", "'smal'", "did you mean small?"]),
    "preset without a name": (["--preset"], ["--preset"]),
    "no root": (["--preset", "small"], ["--data.root"]),
    "absent root": (["--data.root", "/absent/folder"], ["/absent/folder", "does not exist"]),
    "no steps": (["--train.steps", 0], ["--train.steps 0", "at least 1"]),
    "no batch": (["--train.batch-size", 0], ["--train.batch-size 0", "at least 1"]),
    "dropout": (["--model.dropout", 1], ["--model.dropout 1", "from 0 to below 1"]),
    "size": (["--data.size", 60], ["--data.size 60"]),
    "groups": (["--preset", "debug", "--model.norm", "group"], ["--model.widths", "16"]),
}


@pytest.mark.parametrize("arguments, parts", TRAIN_FLAGS.values(), ids=TRAIN_FLAGS)
def test_training_refuses(arguments, parts, tmp_path, capsys):
    refused(capsys, train, ["--workdir", tmp_path / "W", *arguments], *parts)
    assert not (tmp_path / "W").exists()


EVALUATE_FLAGS = {
    "unknown flag": (["--btea", 1], ["--btea", "did you mean --beta?"]),
    "not a number": (["--n", "four"], ["n", "four"]),
    "n below": (["--n", -1], ["--n -1", "at least 0"]),
    "n infinite": (["--n", "inf"], ["--n inf"]),
    "n not a number": (["--n", "nan"], ["--n nan"]),
    "beta above": (["--beta", 1.5], ["--beta 1.5", "from 0 to 1"]),
    "beta below": (["--beta", -0.1], ["--beta -0.1"]),
    "sigma below": (["--sigma", -0.1], ["--sigma -0.1"]),
    "sigma not a number": (["--sigma", "nan"], ["--sigma nan"]),
    "no batch": (["--batch-size", 0], ["--batch-size 0", "at least 1"]),
    "before training": ([], ["run.json", "python train.py --workdir"]),
}


@pytest.mark.parametrize("arguments, parts", EVALUATE_FLAGS.values(), ids=EVALUATE_FLAGS)
def test_evaluation_refuses(arguments, parts, tmp_path, capsys):
    refused(capsys, evaluate, ["--workdir", tmp_path / "W", *arguments], *parts)
    assert not (tmp_path / "W").exists()


@pytest.mark.parametrize("command", [train, evaluate])
def test_a_workdir_is_needed(command, capsys):
    refused(capsys, command, [], "missing", "--workdir")


# What users get wrong about files.


@pytest.mark.parametrize("command, first", [(train, ["--preset", "debug"]), (evaluate, [])])
def test_a_workdir_that_is_a_file(command, first, dataset, tmp_path, capsys):
    (tmp_path / "W").write_text("mine")
    refused(capsys, command, [*first, "--workdir", tmp_path / "W"], tmp_path / "W")
    assert (tmp_path / "W").read_text() == "mine"


def test_a_root_without_data(tmp_path, capsys):
    arguments = ["--workdir", tmp_path / "W", "--data.root", tmp_path]
    refused(capsys, train, arguments, tmp_path, "holds no data that we know")


def test_an_unknown_split(finished, capsys):
    arguments = ["--workdir", finished, "--split", "tset"]
    refused(capsys, evaluate, arguments, "'tset'", "train, validation, test")


def test_a_split_without_images(finished, tmp_path, capsys):
    root = layouts.write_official(tmp_path / "celeba")
    partitions = root / "Eval/list_eval_partition.txt"
    partitions.write_text(partitions.read_text().replace(".jpg 2\n", ".jpg 0\n"))
    arguments = ["--workdir", finished, "--data.root", root]
    refused(capsys, evaluate, arguments, root, "test split has no images")


def test_data_with_other_attributes(finished, tmp_path, capsys):
    root = layouts.write_official(tmp_path / "celeba")
    arguments = ["--workdir", finished, "--data.root", root]
    refused(capsys, evaluate, arguments, root, "lacks 35 of the network's 40 attributes")


def test_a_run_json_of_another_version(finished, tmp_path, capsys):
    run = json.loads((finished / "run.json").read_text())
    del run["config"]["model"]["widths"]
    (tmp_path / "run.json").write_text(json.dumps(run))
    arguments = ["--workdir", tmp_path]
    refused(capsys, evaluate, arguments, tmp_path / "run.json", "widths")


def test_the_out_folder_is_a_file(finished, tmp_path, capsys):
    (tmp_path / "E").write_text("mine")
    refused(capsys, evaluate, ["--workdir", finished, "--out", tmp_path / "E"], tmp_path / "E")
