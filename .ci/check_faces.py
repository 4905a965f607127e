"""Fails unless metrics.json keeps what README promises of synthetic faces."""

import json
import sys
from pathlib import Path

ACCURACY, PRECISION, MAJORITY, F1 = 0.99, 0.985, 0.81, 0.6

report = json.loads(Path(sys.argv[1]).read_text())
average, attributes = report["average"], report["attributes"]
worst = min(attributes, key=lambda name: attributes[name]["f1"])
print(
    f"accuracy {average['accuracy']:.2%} (at least {ACCURACY:.1%}), average precision "
    f"{average['average_precision']:.2%} (at least {PRECISION:.1%}), majority "
    f"{average['majority_accuracy']:.2%} (at most {MAJORITY:.0%}), lowest F1 "
    f"{attributes[worst]['f1']:.2f}, {worst} (at least {F1})"
)
kept = (
    average["accuracy"] >= ACCURACY
    and average["average_precision"] >= PRECISION
    and average["majority_accuracy"] <= MAJORITY
    and attributes[worst]["f1"] >= F1
)
sys.exit(0 if kept else 1)
