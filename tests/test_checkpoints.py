"""Checkpoints: a damaged one is named and moved, never deleted; a full disk loses none."""

import dataclasses
import json
import shutil
import subprocess
import sys

import chex
import jax
import pytest
from cli import train
from conftest import flags
from faults import one_line

from iamt_jax.runs.checkpoints import CHECKSUMS, best_weights, recover
from iamt_jax.training.step import create


@pytest.fixture
def workdir(finished, tmp_path):
    """A copy of a finished run with checkpoints at steps 2 and 4, to be damaged."""
    return shutil.copytree(finished, tmp_path / "W")


@pytest.fixture(scope="module")
def like(tiny):
    return create(tiny, 40)[1]


def largest(folder):
    """The largest file, which holds the arrays."""
    return max(folder.rglob("*"), key=lambda x: x.stat().st_size if x.is_file() else 0)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


DAMAGE = {
    "truncated": (
        lambda x: largest(x).write_bytes(largest(x).read_bytes()[:-9]),
        "is not what was",
    ),
    "a bit flipped": (lambda x: flip(largest(x)), "is not what was saved"),
    "an empty file": (lambda x: largest(x).write_bytes(b""), "is not what was saved"),
    "a file gone": (lambda x: largest(x).unlink(), "lacks state/"),
    "the state gone": (lambda x: shutil.rmtree(x / "state"), "lacks state/"),
    "broken checksums": (lambda x: flip(x / CHECKSUMS), "its seal.json is not what was written"),
    "no checksums": (lambda x: (x / CHECKSUMS).unlink(), "is not a complete checkpoint"),
    "an empty folder": (lambda x: [shutil.rmtree(x), x.mkdir()], "is not a complete checkpoint"),
    "a foreign folder": (
        lambda x: [shutil.rmtree(x), x.mkdir(), (x / "notes.txt").write_text("mine")],
        "is not a complete checkpoint",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_newest_that_holds_is_used_and_the_other_kept(workdir, like, damage, capsys):
    ruin, reason = DAMAGE[damage]
    ruin(workdir / "checkpoints/4")
    ruined = sorted(x.name for x in (workdir / "checkpoints/4").rglob("*"))
    state, scores = recover(workdir, like)
    assert int(state.step) == 2 and list(scores) == [2]
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1 and reason in warning and "checkpoints/4" in warning
    assert not (workdir / "checkpoints/4").exists()
    assert sorted(x.name for x in (workdir / "damaged/4").rglob("*")) == ruined


def test_a_run_goes_on_from_the_older_and_ends_the_same(workdir, tiny, finished, like):
    flip(largest(workdir / "checkpoints/4"))
    assert train(flags(workdir)) == 0
    (state, _), (other, _) = recover(workdir, like), recover(finished, like)
    chex.assert_trees_all_equal(jax.device_get(state), jax.device_get(other))
    assert (workdir / "damaged/4").is_dir()


@pytest.mark.parametrize("damage", DAMAGE)
def test_evaluation_takes_the_next_best_and_touches_nothing(workdir, damage, capsys):
    _, best = best_weights(workdir)
    folder = workdir / "checkpoints" / str(best.step)
    DAMAGE[damage][0](folder)
    _, next_best = best_weights(workdir)
    assert next_best.step != best.step and folder.is_dir()
    warning = capsys.readouterr().err
    assert f"{folder}: " in warning and f"step {next_best.step} is used" in warning


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_again(workdir, like, capsys):
    for step in (2, 4):
        flip(largest(workdir / f"checkpoints/{step}"))
    before = sorted(str(x) for x in workdir.rglob("*"))
    assert train(flags(workdir)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {workdir / 'checkpoints/4'}: ") and error.count("\n") == 1
    one_line(lambda: best_weights(workdir), "no other checkpoint can be read")
    assert [x for x in before if ".lock" not in x] == [
        str(x) for x in sorted(workdir.rglob("*")) if ".lock" not in str(x)
    ]


def test_a_checkpoint_of_another_network_is_no_checkpoint_of_ours(workdir, tiny):
    run = json.loads((workdir / "run.json").read_text())
    run["config"]["model"]["widths"] = [8, 16, 32]
    (workdir / "run.json").write_text(json.dumps(run))
    one_line(lambda: best_weights(workdir), workdir / "checkpoints", "holds another network")


def test_a_folder_damaged_twice_is_kept_twice(workdir, like):
    for _ in range(2):
        (workdir / "checkpoints/9").mkdir()
        recover(workdir, like)
    assert sorted(x.name for x in (workdir / "damaged").iterdir()) == ["9", "9.1"]


def test_what_a_killed_run_had_not_finished_is_cleared(workdir, like):
    half = workdir / "checkpoints/6.orbax-checkpoint-tmp"
    half.mkdir()
    recover(workdir, like)
    assert not half.exists()


@pytest.mark.slow
def test_a_full_disk_ends_the_run_with_one_line_and_loses_nothing(tmp_path, tiny, like):
    """A limit on the size of files stands in for the disk."""
    workdir = tmp_path / "W"
    assert train(flags(workdir, **{"train.steps": 2})) == 0
    command = [sys.executable, "train.py", *flags(workdir), "--resume.allow", "train.steps"]
    limited = ["bash", "-c", 'ulimit -f 40; exec "$@"', "bash", *command]
    done = subprocess.run(limited, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    lines = [x for x in done.stderr.replace("\r", "\n").splitlines() if x.startswith("error: ")]
    assert len(lines) == 1 and "File too large" in lines[0] and "continues" in lines[0]
    assert "Traceback" not in done.stderr
    assert int(recover(workdir, like)[0].step) == 2
    assert train([*flags(workdir), "--resume.allow", "train.steps"]) == 0
    assert int(recover(workdir, like)[0].step) == 4


def test_only_the_fields_named_may_change(workdir, tiny, capsys):
    longer = flags(workdir, **{"train.steps": 6, "train.clip": 50.0})
    assert train(longer) == 2
    error = capsys.readouterr().err
    assert "train.steps 4 -> 6" in error and "train.clip 100.0 -> 50.0" in error
    assert train([*longer, "--resume.allow", "train.steps"]) == 2
    error = capsys.readouterr().err
    assert "train.clip" in error and "train.steps" not in error
    assert train([*longer, "--resume.allow", "train.steps", "train.clip"]) == 0
    run = json.loads((workdir / "run.json").read_text())
    assert run["history"] == ["train.steps 4 -> 6", "train.clip 100.0 -> 50.0"]
    changed = dataclasses.replace(tiny, train=dataclasses.replace(tiny.train, steps=6, clip=50.0))
    assert run["config"] == json.loads(json.dumps(dataclasses.asdict(changed)))


def test_a_network_is_read_whatever_optimiser_wrote_its_checkpoint(finished, workdir, capsys):
    """Reads weights after an upgrade that changed the optimiser's state."""
    text = (workdir / "run.json").read_text()
    (workdir / "run.json").write_text(text.replace('"optimiser": "muon"', '"optimiser": "adamw"'))
    (_, theirs), (_, ours) = best_weights(finished), best_weights(workdir)
    chex.assert_trees_all_equal(theirs.params, ours.params)
    assert train(flags(workdir, **{"train.optimiser": "adamw"})) == 2
    assert "another optimiser's state" in capsys.readouterr().err
