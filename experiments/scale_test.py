"""Checks that the numbers of devices and processes do not change a run.

    python experiments/scale_test.py [--out FILE]

Trains the debug preset for 20 steps on 1, 2 and 8 devices of one process, and in 2 and 4 processes
on this machine, evaluates each run, and compares losses and printed numbers with those of one
device. A run begun in 2 processes is resumed on 8 devices. Then one of two processes is killed,
stopped or preempted; the test reports how soon the other ends, with which message, and whether the
run can be resumed. Exit status 1 if something differs or takes more than two minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent

SHAPES = {"1 device": (1, 1), "2 devices": (1, 2), "8 devices": (1, 8)} | {
    "2 processes": (2, 1),
    "4 processes": (4, 2),
}
"""Name -> (processes, devices of each)."""

MOVED = ("2 processes", "8 devices")
"""Shapes in which a run is begun and resumed."""

STEPS = 20

TRAIN = [
    *("--preset", "debug", "--train.steps", str(STEPS), "--train.log-every", "1"),
    *("--model.dropout", "0.2", "--data.noise-max", "0.1", "--train.ema", "0.9"),
]

EXACT, LATER = 1e-5, 1e-4
"""Largest relative differences of losses, in the first 5 steps and in all steps."""


def environment(devices: int, compiled: Path) -> dict[str, str]:
    """Environment of a run: virtual devices, and a shared compilation cache."""
    return os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
    }


def free_port() -> int:
    """An unused port of 127.0.0.1."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def launch(script: str, flags: list[str], processes: int, env: dict) -> list[subprocess.Popen]:
    """Starts the same command in every process."""
    command = [sys.executable, str(REPOSITORY / script), *flags]
    join = ["--processes.coordinator", f"127.0.0.1:{free_port()}", "--processes.count"]
    several = [[*join, str(processes), "--processes.index", str(i)] for i in range(processes)]
    return [
        subprocess.Popen(
            command + (extra if processes > 1 else []),
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for extra in several
    ]


def run(script: str, flags: list[str], processes: int, env: dict) -> None:
    """Runs the command to its end in every process.

    Raises:
      RuntimeError: one of them failed; the message holds the end of its output.
    """
    running = launch(script, flags, processes, env)
    for index, one in enumerate(running):
        text, _ = one.communicate(timeout=600)
        if one.returncode:
            for other in running:
                other.kill()
            raise RuntimeError(
                f"{script}, process {index}: status {one.returncode}\n{text[-3000:]}"
            )


def losses(workdir: Path) -> np.ndarray:
    """Loss of every step."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return np.array([line["total"] for line in lines if line["kind"] == "training"])


def printed(workdir: Path) -> str:
    """Rows of the table in metrics.md, without the provenance."""
    lines = (workdir / "evaluation/metrics.md").read_text().splitlines()
    return "\n".join(line for line in lines if line.startswith("|"))


def compare(names: list[str], place: Path) -> list[dict]:
    """Trains and evaluates every shape; returns one row for each."""
    rows = []
    for name in names:
        processes, devices = SHAPES[name]
        env, workdir = environment(devices, place / "compiled"), place / name.replace(" ", "-")
        run("train.py", [*TRAIN, "--workdir", str(workdir)], processes, env)
        # The same checkpoint for all shapes, so that only the evaluation is compared.
        shared = place / "evaluated" / name.replace(" ", "-")
        shutil.copytree(place / names[0].replace(" ", "-"), shared)
        run("evaluate.py", ["--workdir", str(shared), "--sigma", "0.1"], processes, env)
        found, first = losses(workdir), losses(place / names[0].replace(" ", "-"))
        differ = np.abs(found / first - 1)
        same = printed(shared) == printed(place / "evaluated" / names[0].replace(" ", "-"))
        fits = len(found) == STEPS and differ[:5].max() <= EXACT and differ.max() <= LATER
        rows.append(
            {
                "shape": name,
                "first 5": float(differ[:5].max()),
                "all": float(differ.max()),
                "same evaluation": same,
                "fits": bool(fits and same),
            }
        )
        print(
            f"{name:12} losses differ by {rows[-1]['first 5']:.1e} in 5 steps, "
            f"{rows[-1]['all']:.1e} in {STEPS}; evaluation {'the same' if same else 'DIFFERS'}",
            flush=True,
        )
    return rows


def move(origin: str, target: str, place: Path) -> dict:
    """Resumes a run at its middle with other numbers of devices and processes; its losses must
    equal those of the shape in which it began."""
    flags = [*TRAIN, "--train.save-every", str(STEPS // 2)]
    workdir = place / "moved"
    for name in (origin, target):
        processes, devices = SHAPES[name]
        env = environment(devices, place / "compiled")
        run("train.py", [*flags, "--workdir", str(workdir)], processes, env)
        if name == origin:
            before = losses(workdir)
            shutil.rmtree(workdir / "checkpoints" / str(STEPS))
    found = losses(workdir)
    differ = float(np.abs(found / before - 1).max())
    fits = len(found) == STEPS and differ <= LATER
    print(f"begun on {origin}, continued on {target}: losses differ by {differ:.1e}", flush=True)
    return {"moved": f"{origin} to {target}", "all": differ, "fits": bool(fits)}


ENDINGS = {
    "kill-1": (1, signal.SIGKILL),
    "kill-0": (0, signal.SIGKILL),
    "hang-1": (1, signal.SIGSTOP),
    "preempt-1": (1, signal.SIGTERM),
}
"""Name -> (process that is ended, of two; signal)."""


def end_one(name: str, place: Path) -> dict:
    """Ends one of two processes during training, waits for the other, and resumes the run."""
    index, number = ENDINGS[name]
    env, workdir = environment(1, place / "compiled"), place / name
    endless = ["--train.steps", "100000", "--train.validate-every", "100000"]
    flags = [*TRAIN, "--train.save-every", "20", "--workdir", str(workdir), *endless]
    running = launch("train.py", flags, 2, env)
    while len(complete_steps(workdir)) < 2:
        if any(one.poll() is not None for one in running):
            raise RuntimeError("".join(one.communicate()[0][-2000:] for one in running))
        time.sleep(0.2)
    running[index].send_signal(number)
    began = time.perf_counter()
    text, _ = running[1 - index].communicate(timeout=300)
    seconds = time.perf_counter() - began
    running[index].kill()
    running[index].communicate()
    status, newest = running[1 - index].returncode, max(complete_steps(workdir))
    until = ["--train.steps", str(newest + 20), "--resume.allow", "train.steps"]
    run("train.py", [*flags, *until], 2, env)
    done = newest + 20 in complete_steps(workdir)
    print(
        f"{name}: the other ended after {seconds:.0f} s with status {status} ({message(text)}); "
        f"the run {'resumed' if done else 'did NOT resume'}",
        flush=True,
    )
    fits = bool(seconds < 120 and status and done)
    return {"ending": name, "seconds": seconds, "message": message(text), "fits": fits}


def complete_steps(workdir: Path) -> list[int]:
    """Steps of the complete checkpoints."""
    return [int(path.parent.name) for path in workdir.glob("checkpoints/*/seal.json")]


def message(text: str) -> str:
    """Line of the output that says why a process ended, shortened."""
    lines = [line for line in text.replace("\r", "\n").splitlines() if line.strip()]
    known = ("error: ", "stopped by", "Terminating process because")
    tells = [line[line.index(x) :] for line in lines for x in known if x in line]
    return (tells + [lines[-1] if lines else "nothing"])[0][:150]


def main() -> int:
    """Runs the test and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=[*SHAPES])
    parser.add_argument("--endings", nargs="*", default=list(ENDINGS), choices=[*ENDINGS])
    parser.add_argument("--out", type=Path, help="also write the rows as JSON")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="iamt-scale-") as place:
        rows = compare(chosen.shapes, Path(place))
        if set(MOVED) <= set(chosen.shapes):
            rows.append(move(*MOVED, Path(place)))
        rows += [end_one(name, Path(place)) for name in chosen.endings]
    if chosen.out:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text(json.dumps(rows, indent=2, allow_nan=False) + "\n")
    return 0 if all(row["fits"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
