"""Trains the preset `debug` for long; checks that memory is constant and nothing recompiles.

python experiments/soak.py [--steps 10000] [--out FILE]

The run also validates, saves and logs. Exit status 1 if the resident memory grows by 1 MB or more
per 1,000 steps (least squares, after the first tenth), or a program compiles after that tenth.
Fewer than 2,000 steps say nothing about growth: they are reported, but not judged.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

LOOKS = 100
"""Number of memory readings."""

SLOPE = 1.0
"""Smallest growth that fails, in MB per 1,000 steps."""

JUDGED = 2000
"""Fewest steps after which the memory's slope means something."""

VALIDATE, SAVE = 1000, 500
"""Steps between validations and between checkpoints; each checkpoint costs some memory in Orbax."""

COMPILATION = "/jax/core/compile/backend_compile_duration"


def resident() -> float:
    """Resident memory of this process, in MB (10^6 bytes)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def soak(steps: int, workdir: Path) -> tuple[np.ndarray, list[int]]:
    """Trains; returns rows (step, MB), and the step at which each program was compiled."""
    import jax

    from iamt_jax import xla_setup
    from iamt_jax.config import PRESETS
    from iamt_jax.data.open import open_source
    from iamt_jax.training import loop

    xla_setup.prepare()
    debug = PRESETS["debug"]
    settings = {"steps": steps, "validate_every": VALIDATE, "save_every": SAVE}
    config = dataclasses.replace(debug, train=dataclasses.replace(debug.train, **settings))
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, mixup=0.2))
    dataset = open_source(config.data)
    rows, compiled, now = [], [], [0]

    def listen(event: str, _: float, **__) -> None:
        if event == COMPILATION:
            compiled.append(now[0])

    class Watched(loop.Fit):
        """Training loop whose batch iterator also reads the memory."""

        def run(self, state, data, mesh, epoch):
            def watched():
                for step, batch in enumerate(data):
                    now[0] = step
                    if step % (steps // LOOKS) == 0:
                        rows.append((step, resident()))
                    yield batch

            return super().run(state, watched(), mesh, epoch)

    jax.monitoring.register_event_duration_secs_listener(listen)
    loop.Fit = Watched
    loop.train_network(config, workdir, dataset.split("train"), dataset.split("validation"))
    return np.array(rows), compiled


def main() -> int:
    """Runs the test and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    chosen = parser.parse_args()
    if chosen.steps < LOOKS:
        parser.error(f"--steps {chosen.steps}: expected at least {LOOKS}")
    with tempfile.TemporaryDirectory(prefix="iamt-soak-") as place:
        rows, compiled = soak(chosen.steps, Path(place) / "W")
    warm = chosen.steps // 10
    later = rows[rows[:, 0] >= warm]
    slope = float(np.polyfit(later[:, 0] / 1000, later[:, 1], 1)[0])
    again = sum(step >= warm for step in compiled)
    print(
        f"{chosen.steps:,} steps: {rows[0, 1]:.0f} MB at the start, {later[0, 1]:.0f} MB after "
        f"{warm:,}, {later[-1, 1]:.0f} MB at the end; {slope:+.2f} MB per 1,000 steps; "
        f"{len(compiled)} compilations, {again} of them after step {warm:,}"
    )
    if chosen.out:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        figures = {"steps": chosen.steps, "slope": slope, "compiled_again": again}
        chosen.out.write_text(
            json.dumps(figures | {"memory": rows.tolist()}, allow_nan=False) + "\n"
        )
    if chosen.steps < JUDGED:
        print(f"not judged: fewer than {JUDGED:,} steps")
        return 0
    return 0 if slope < SLOPE and not again else 1


if __name__ == "__main__":
    sys.exit(main())
