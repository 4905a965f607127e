"""Holds the maps of the default run to what docs/explain.md says of them.

python .ci/check_explained.py W/evaluation/explanation
"""

import json
import sys
from pathlib import Path


def main(folder: Path) -> int:
    """Prints what fails; returns the exit status."""
    judged = json.loads((folder / "explanation.json").read_text())["judged"]
    ours, rival = judged["scores"]["ours"], judged["scores"]["Grad-CAM"]
    failures = []
    for metric in ("energy_inside", "pointing"):
        least = max(judged["scores"][name][metric] for name in ("centred Gaussian", "random"))
        wanted = max(1.25 * rival[metric], least + 0.1)
        if ours[metric] < wanted:
            failures.append(f"{metric}: {ours[metric]:.3f}, expected at least {wanted:.3f}")
    for metric, sign in (("deletion", -1), ("insertion", 1)):
        if sign * ours[metric] <= sign * rival[metric]:
            failures.append(f"{metric}: {ours[metric]:.3f}, Grad-CAM has {rival[metric]:.3f}")
    if abs(judged["randomised"]["heads"]) >= 0.2:
        failures.append(f"heads drawn anew: rank correlation {judged['randomised']['heads']:.2f}")
    print("\n".join(failures) or f"maps: {ours}, Grad-CAM: {rival}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
