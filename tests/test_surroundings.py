"""Commands in unusual surroundings: streams, environment, home folder, shared memory, threads."""

import io
import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import cli
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import flags
from faults import one_line, refused
from flax import nnx
from PIL import Image

import iamt_jax
from iamt_jax import files, xla_setup
from iamt_jax.commands import calibrate
from iamt_jax.errors import InputError
from iamt_jax.synthetic import faces_folder
from iamt_jax.training import loop
from iamt_jax.training.loop import Interrupted, stop_signals, train_network

REPOSITORY = Path(__file__).parent.parent


def x64():
    """The setting of a user's program that computes in 64 bits."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64

    return enable_x64()


class Pipe(io.StringIO):
    """A pipe whose reader is gone."""

    encoding = "utf-8"

    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")

    def flush(self):
        self.write("")


COMMANDS = {
    "train": lambda place, run: (flags(place / "T"), "T/checkpoints/4"),
    "evaluate": lambda place, run: (
        ["--workdir", str(run), "--out", str(place / "E"), "--bootstrap=0"],
        "E/metrics.json",
    ),
    "calibrate": lambda place, run: (
        ["--workdir", shutil.copytree(run, place / "C"), "--images=64"],
        "C/calibration.npz",
    ),
    "predict": lambda place, run: (
        [str(place / "IMAGES"), "--model", str(run), "--out", str(place / "p.csv")],
        "p.csv",
    ),
    "export": lambda place, run: (
        ["--workdir", str(run), "--out", str(place / "m.iamt")],
        "m.iamt",
    ),
}
"""Command -> its arguments, and the file that it must write."""


@pytest.fixture
def prepared(tmp_path):
    (tmp_path / "IMAGES").mkdir()
    Image.new("RGB", (40, 50), (80, 90, 20)).save(tmp_path / "IMAGES" / "é.png")
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_needs_a_reader(name, prepared, finished, monkeypatch):
    arguments, result = COMMANDS[name](prepared, finished)
    monkeypatch.setattr(sys, "stdout", Pipe())
    monkeypatch.setattr(sys, "stderr", Pipe())
    assert cli.COMMANDS[name](list(map(str, arguments))) == 0
    assert (prepared / result).exists()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_an_encoding_lacks_is_replaced(encoding, finished, tmp_path, monkeypatch):
    streams = [io.TextIOWrapper(io.BytesIO(), encoding, "strict") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    out = tmp_path / "E 日本"
    assert cli.evaluate(["--workdir", str(finished), "--out", str(out), "--bootstrap=0"]) == 0
    assert cli.evaluate(["--workdir", str(tmp_path / "日本")]) == 2
    told, errors = (stream.buffer.getvalue().decode(encoding) for stream in streams)
    assert "Eyeglasses" in told and f"wrote {tmp_path}/E ??" in told
    assert (out / "metrics.json").is_file()
    assert f"error: --workdir {tmp_path}/\\u65e5\\u672c: holds no run.json" in errors


def test_a_full_disk_behind_standard_output_is_told_once(finished, tmp_path, monkeypatch, capsys):
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        arguments = ["--workdir", str(finished), "--out", str(tmp_path), "--bootstrap=0"]
        assert cli.evaluate(arguments) == 0
        # What the stream still holds cannot be written at its end either.
        monkeypatch.setattr(sys, "stdout", sys.__stdout__)
        with pytest.raises(OSError, match="space"):
            full.close()
    warned = [x for x in capsys.readouterr().err.splitlines() if x.startswith("warning")]
    assert warned == [
        "warning: output cannot be written (No space left on device); lines that were printed are "
        "lost, files are not"
    ]
    assert (tmp_path / "metrics.json").is_file()


def shell(command, **environment):
    """Runs a command line with a real pipe; returns its status and its output."""
    inherited = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
    done = subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=REPOSITORY,
        env={**inherited, **environment},
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("words", ["train.py --help", "-m iamt_jax --help", "-m iamt_jax export"])
@pytest.mark.parametrize("end", ["| true", "2>&1 | true", ">&-", "2>&1 >&-"])
def test_real_pipes_and_closed_descriptors(words, end):
    status, error = shell(f"{shlex.quote(sys.executable)} {words} {end}")
    assert status == (0 if "--help" in words else 2)
    told = "missing --workdir" if "export" in words and "2>&1 |" not in end else ""
    assert (told in error) and "Traceback" not in error and "Exception" not in error


def test_a_file_does_not_become_a_closed_standard_output(tmp_path):
    program = (
        "from iamt_jax.commands import console\n"
        "with console.tolerant_output():\n"
        f"    file = open({str(tmp_path / 'metrics')!r}, 'w')\n"
        "    assert file.fileno() > 2\n"
        "    print('lost')\n"
    )
    status, _ = shell(f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} >&- 2>&- <&-")
    assert status == 0 and (tmp_path / "metrics").read_text() == ""


@pytest.mark.parametrize(
    "setting, told",
    [
        ("JAX_PLATFORMS=nonsense", "JAX_PLATFORMS=nonsense: JAX cannot start these devices"),
        ("JAX_PLATFORMS=rocm", "this installation have cpu"),
        ("JAX_NUM_CPU_DEVICES=x", "JAX refuses a variable of the environment"),
        ("JAX_NUM_CPU_DEVICES=0", "JAX_NUM_CPU_DEVICES=0"),
        ("XLA_FLAGS=--xla_nonsense=1", "this version of XLA does not know --xla_nonsense=1"),
        ("XLA_FLAGS=--xla_force_host_platform_device_count=x", "or its value"),
    ],
)
def test_a_setting_that_jax_cannot_follow_is_one_line(setting, told, finished):
    name, value = setting.split("=", 1)
    command = f"{shlex.quote(sys.executable)} -m iamt_jax export --workdir {finished}"
    status, error = shell(command, **{name: value})
    assert status == 2, error
    (line,) = error.splitlines()
    assert line.startswith("error: ") and told in line


def test_settings_that_change_numbers_are_dropped(monkeypatch):
    for name in xla_setup.DECIDING:
        monkeypatch.setenv(name, "1")
    xla_setup._check_environment("")
    assert not set(xla_setup.DECIDING) & set(os.environ)


def test_a_classifier_says_the_same_in_a_program_of_64_bits(finished):
    images = np.random.default_rng(0).random((2, 32, 32, 3))

    def said():
        classifier = iamt_jax.load(finished)
        return jax.device_get(
            [
                classifier(images, n=2, beta=0.5),
                classifier.sweep(images, [1, 4], [0, 0.5]),
                classifier.masks(images, ["Smiling"]),
                classifier.explain(images, ["Smiling"]),
            ]
        )

    plain = said()
    with x64():
        wide = said()
        assert jnp.zeros(1).dtype == jnp.float64  # The user's setting is left to the user.
    for x, y in zip(*map(jax.tree.leaves, (plain, wide)), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def test_functions_stay_in_float32_in_a_program_of_64_bits(finished):
    network = iamt_jax.load(finished).network
    images = np.random.default_rng(0).random((2, 32, 32, 3)).astype(np.float32)
    mask = np.array([0, 0.2, 0.7], np.float32)

    def computed():
        features = network.extractor(images)
        return {
            "sweep": iamt_jax.sweep(network, images, np.array([1.0, 4.0]), np.array([0, 0.5])),
            "explain": iamt_jax.explain(network, images, [3], jnp.ones(()), jnp.zeros(()), 2),
            "curve": iamt_jax.tone_curve(mask, np.array([2.0, 1.0, 3.0]), jnp.ones(())),
            "heads": network.heads(features, n=jnp.asarray(2.0), beta=np.array(0.5)),
            "slope": jax.grad(lambda f: network.heads(f, jnp.asarray(2.0)).logits.sum())(features),
            "fresh": iamt_jax.AttributeHeads(3, 16, rngs=nnx.Rngs(0))(features),
        }

    plain = computed()
    with x64():
        wide = computed()
    for x, y in zip(*map(jax.tree.leaves, (plain, wide)), strict=True):
        assert y.dtype == x.dtype
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_kept_memory_is_not_cleared_again():
    script = """if True:
        import ctypes, resource, sys
        from iamt_jax import xla_setup
        if sys.argv[1] == "kept":
            xla_setup.keep_memory()
        libc, faults = ctypes.CDLL(None), []
        libc.malloc.restype = ctypes.c_void_p
        for _ in range(3):
            block = ctypes.c_void_p(libc.malloc(2**26))
            ctypes.memset(block, 1, 2**26)
            libc.free(block)
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
        print(faults[2] - faults[1], libc.mallopt(-3, 2**30))
    """

    def counted(way):
        words = [sys.executable, "-c", script, way]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        return map(int, done.stdout.split())

    (kept, accepted), (usual, _) = counted("kept"), counted("usual")
    if not accepted:
        pytest.skip("this glibc maps arrays of 64 MiB anew whatever it is told")
    assert kept < 0.1 * usual


def losses(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line["total"] for line in lines if line["kind"] == "training"]


def test_a_run_is_the_same_in_a_program_of_64_bits(finished, tmp_path):
    with x64():
        assert cli.train(flags(tmp_path / "W")) == 0
    assert losses(tmp_path / "W") == losses(finished)


def test_training_in_a_thread_runs(finished, tmp_path):
    """Only the main thread can set signal handlers; in another, none are set."""
    status = []
    thread = threading.Thread(target=lambda: status.append(cli.train(flags(tmp_path / "W"))))
    thread.start()
    thread.join()
    assert status == [0] and losses(tmp_path / "W") == losses(finished)


@pytest.mark.parametrize("name", ["SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGINT"])
def test_every_signal_that_ends_a_session_saves(name, tiny, dataset, tmp_path, monkeypatch):
    real, number = loop.stepper, getattr(signal, name)

    def signalled(*arguments):
        step, place = real(*arguments)

        def run(state, batch):
            os.kill(os.getpid(), number)
            return step(state, batch)

        return run, place

    monkeypatch.setattr(loop, "stepper", signalled)
    with pytest.raises(Interrupted, match=f"{name} at step 1") as stop:
        train_network(tiny, tmp_path / "W", dataset.split("train"), dataset.split("validation"))
    assert stop.value.signal == number
    assert (tmp_path / "W/checkpoints/1/seal.json").is_file()


def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals() as stopped:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stopped(1)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_hangup_unwinds_any_command(monkeypatch):
    monkeypatch.setattr(calibrate, "run_calibrate", lambda _: os.kill(os.getpid(), signal.SIGHUP))
    with pytest.raises(SystemExit) as end:
        cli.main(["calibrate"])
    assert end.value.code == 128 + signal.SIGHUP


def test_data_that_end_in_the_middle_leave_what_was_trained(tiny, dataset, tmp_path, monkeypatch):
    real = loop.training_batches

    def few(*arguments, **keywords):
        batches = real(*arguments, **keywords)
        yield from (next(batches) for _ in range(3))
        raise InputError("gone")

    monkeypatch.setattr(loop, "training_batches", few)
    with pytest.raises(InputError, match="gone"):
        train_network(tiny, tmp_path / "W", dataset.split("train"), dataset.split("validation"))
    assert (tmp_path / "W/checkpoints/3/seal.json").is_file()


def test_home_is_expanded_in_every_flag(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, tmp_path / "W")
    arguments = ["--workdir=~/W", "--out=~/E", "--bootstrap=0"]
    assert cli.evaluate(arguments) == 0
    assert (tmp_path / "E/metrics.json").is_file() and not (tmp_path / "~").exists()
    assert iamt_jax.load("~/W").workdir == tmp_path / "W"
    capsys.readouterr()
    refused(capsys, cli.train, flags("~/T", **{"data.root": "~/D"}), f"{tmp_path}/D")
    refused(capsys, cli.train, flags("T", **{"train.init-from": "~/I"}), f"{tmp_path}/I")


def test_without_a_home_a_tilde_is_refused(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    told = "--workdir=~/W: the home folder is not known (HOME is not set); give the whole path"
    refused(capsys, cli.evaluate, ["--workdir=~/W"], told)
    one_line(lambda: iamt_jax.load("~/W"), "~/W: the home folder is not known")


@pytest.mark.parametrize("home", ["~", "/dev/null/home"])
def test_faces_are_kept_where_there_is_no_home(home, tmp_path, monkeypatch):
    monkeypatch.delenv("IAMT_CACHE")
    monkeypatch.setattr(os.path, "expanduser", lambda path: str(path).replace("~", home))
    monkeypatch.setattr(files.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = faces_folder({"train": 4})
    assert folder.parent == tmp_path / f"iamt_jax-{os.getuid()}"
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    folder.parent.rmdir()
    folder.parent.symlink_to(tmp_path)
    one_line(lambda: faces_folder({"train": 4}), folder.parent, "IAMT_CACHE")


def test_printed_commands_can_be_pasted(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, "a b")
    assert cli.calibrate(["--workdir", "a b", "--images=64"]) == 0
    assert "now: python evaluate.py --workdir 'a b' --auto\n" in capsys.readouterr().out
    assert cli.export(["--workdir", "a b", "--out", "m o.iamt"]) == 0
    assert "predict --model 'm o.iamt' IMAGES" in capsys.readouterr().out
    assert cli.train([*flags("a b"), "--train.log-every=2", "--resume.allow=train.log-every"]) == 0
    assert "now: python evaluate.py --workdir 'a b'\n" in capsys.readouterr().out
    refused(capsys, cli.evaluate, ["--workdir", "c d"], "with python train.py --workdir 'c d'")
    (Path("a b") / "calibration.npz").write_bytes(b"")
    refused(
        capsys,
        cli.evaluate,
        ["--workdir", "a b", "--auto"],
        "python -m iamt_jax calibrate --workdir 'a b'",
    )


def test_a_current_folder_that_is_gone_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "cwd", lambda: (_ for _ in ()).throw(FileNotFoundError(2, "gone")))
    refused(capsys, cli.evaluate, ["--workdir", "W"], "the current folder does not exist any more")


def test_a_card_s_command_keeps_its_words_and_no_folders():
    from cards import _without_folders

    command = "evaluate.py --workdir '/home/me/my runs/W' --out=/tmp/E/ --data.root ../D"
    assert _without_folders(command) == "evaluate.py --workdir W --out=E --data.root ../D"
