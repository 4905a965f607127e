"""Every command that README and docs give: found, and made small enough for a test."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "experiments" / "card_templates").glob("*.md")),
]

FIRST = ("python", "pip", "bash", "srun", "gcloud")
"""What a command starts with, once `.venv/bin/` and settings of the environment are off."""

ELSEWHERE = {
    r"pip install .*": "the gate installs the extras that it needs",
    r"python -m venv .*": "the gate runs README's two commands as they stand",
    r"python -m pytest.*": "the gate runs README's two commands as they stand",
    r"srun .*": "needs Slurm",
    r"gcloud .*": "needs a TPU pod",
    r"python train\.py \.\.\. .*": "experiments/scale_test.py, in the gate",
    r"python -m iamt_jax explore.*": "tests/test_explorer_browser.py, in the gate",
    r"python evaluate\.py --workdir \w+ --(report|explain)": "the gate writes the whole report",
    r"python -m sphinx .*": "the gate builds the site",
    r"python \.ci/check_.*": "a part of the gate",
}
"""Commands that no test here runs -> who does, or why nobody can."""

SLOW = re.compile(r"(python (experiments/(?!cards)|benchmarks/)|bash benchmarks/)")
"""Those that .ci/check_commands.py runs."""


@dataclass(frozen=True)
class Command:
    """One command of a page, with its python and its paths made plain."""

    page: str
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)


def commands() -> list[Command]:
    """Every command, once a text, with the first page that gives it."""
    found: dict[str, Command] = {}
    for page in PAGES:
        for text in _given(page.read_text(encoding="utf-8")):
            for piece in re.split(r"&&|;|\|(?!\|)", text):
                if plain := _plain(piece):
                    found.setdefault(plain, Command(str(page.relative_to(ROOT)), plain))
    return list(found.values())


def elsewhere(command: Command) -> bool:
    """Whether another check has it."""
    return any(re.fullmatch(pattern, command.text) for pattern in ELSEWHERE)


def _given(text: str):
    """What stands as code: fenced, indented, or between backticks."""
    fence = re.compile(r"^```.*?\n(.*?)^```", re.MULTILINE | re.DOTALL)
    for block in fence.findall(text):
        yield from block.replace("\\\n", " ").splitlines()
    text = fence.sub("", text)
    indented = re.compile(r"^(?: {4,}|\t)(.*(?:\\\n.*)*)$", re.MULTILINE)
    yield from (line.replace("\\\n", " ") for line in indented.findall(text))
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", indented.sub("", text)))


def _plain(piece: str) -> str | None:
    """A command without its environment; None if it is none."""
    piece = re.sub(r"\s+#\s.*", "", piece.strip().removeprefix("$ ").removeprefix("!"))
    piece = re.sub(r"^(\w+=\S*\s+)+", "", piece).replace(".venv/bin/", "")
    piece = re.sub(r"^python3(\.\d+)?\b", "python", " ".join(piece.split()))
    words = piece.split()
    if len(words) < 2 or words[0] not in FIRST:
        return None
    return piece
