"""Executes the notebooks, each in a folder and a kernel of its own.

    pip install -e '.[notebooks,test]'
    python .ci/check_notebooks.py                     # all, with IAMT_TINY: few steps, little data
    python .ci/check_notebooks.py quickstart --full --write

The kernel is this interpreter; none needs to be registered. --full takes the steps that a reader
takes, without a time limit; --write keeps the outputs, less progress bars and this machine's paths.
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import io
import os
import re
import resource
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import nbformat
import traitlets
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from PIL import Image

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
LIMIT = 120
"""Seconds that a notebook may take."""

LARGEST = 150_000
"""Bytes of a notebook with its outputs."""

COLOURS = re.compile(r"\x1b\[[0-9;]*m")

SHOWN = 15
"""Lines of a failure."""


class Here(AsyncKernelManager):
    """Starts the kernel of this interpreter."""

    @traitlets.default("kernel_spec_manager")
    def _only_native(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[], ensure_native_kernel=True)


def main() -> int:
    """Flags in, exit status out."""
    known = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"which; by default all: {', '.join(known)}")
    parser.add_argument("--limit", type=int, default=LIMIT, help="seconds for each")
    parser.add_argument("--full", action="store_true", help="all steps, and no limit")
    parser.add_argument("--write", action="store_true", help="keep the outputs")
    chosen = parser.parse_args()
    names = [Path(name).stem for name in chosen.names] or known
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"{unknown[0]}: no such notebook; known are {', '.join(known)}")
    if importlib.util.find_spec("iamt_jax") is None:  # The first cell would fetch another one.
        parser.error(f"iamt_jax is not installed for {sys.executable}; pip install -e .")
    if chosen.full:
        os.environ.pop("IAMT_TINY", None)
    else:
        os.environ["IAMT_TINY"] = "1"
    with tempfile.TemporaryDirectory(prefix="compiled-") as compiled:
        # Commands build the same programs again, in one notebook and in another.
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", compiled)
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
        failed = [name for name in names if not passes(name, chosen)]
    print(f"failed: {', '.join(failed)}" if failed else f"{len(names)} notebooks passed")
    return 1 if failed else 0


def passes(name: str, chosen: argparse.Namespace) -> bool:
    """Executes a notebook, and says how that went."""
    path = NOTEBOOKS / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":  # What an earlier run left would be taken for this one's.
            cell.outputs, cell.execution_count = [], None
    limit = None if chosen.full else chosen.limit
    start, cpu = time.monotonic(), children()
    problem, folder = executed(notebook, limit)
    took, worked, longest = time.monotonic() - start, children() - cpu, slowest(notebook)
    if not problem and limit and took > limit:
        problem = f"took longer than {limit} s"
    if not problem and chosen.write:
        tidy(notebook, {folder: "/content", cache(): "~/.cache/iamt_jax"})
        nbformat.write(notebook, path)
    if not problem and path.stat().st_size > LARGEST:
        problem = f"has {path.stat().st_size:,} bytes, more than {LARGEST:,}: smaller pictures"
    print(f"{name}: {took:.0f} s ({worked:.0f} s of CPU, {longest}), {problem or 'passed'}")
    return not problem


def children() -> float:
    """CPU seconds of the kernels that ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def slowest(notebook: nbformat.NotebookNode) -> str:
    """Which cell took longest, counted from 1 with the text cells, and how long."""
    took = {}
    for number, cell in enumerate(notebook.cells, 1):
        times = cell.metadata.get("execution", {})
        if {"iopub.execute_input", "shell.execute_reply"} <= set(times):
            begin, end = (
                datetime.fromisoformat(times[x])
                for x in ("iopub.execute_input", "shell.execute_reply")
            )
            took[number] = (end - begin).total_seconds()
    if not took:
        return "no cell ended"
    number = max(took, key=took.get)
    return f"cell {number} alone {took[number]:.0f} s"


def executed(notebook: nbformat.NotebookNode, limit: int | None) -> tuple[str | None, str]:
    """Executes all cells in a fresh folder; returns what went wrong, and the folder's name."""
    with (
        tempfile.TemporaryDirectory(prefix="notebook-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile("w+") as log,
    ):
        started = time.monotonic()

        def left(_: nbformat.NotebookNode) -> int | None:
            return None if limit is None else max(1, int(started + limit - time.monotonic()))

        client = NotebookClient(
            notebook,
            kernel_name="python3",
            kernel_manager_class=Here,
            startup_timeout=LIMIT,
            timeout_func=left,
            resources={"metadata": {"path": folder}},
        )
        try:
            client.execute(stderr=log)  # The kernel's own, not the cells'.
        except (CellExecutionError, CellTimeoutError) as error:
            return f"failed\n{failure(notebook, str(error))}", folder
        except DeadKernelError as error:
            log.seek(0)
            return f"failed\n{failure(notebook, f'{log.read()}{error}')}", folder
    return None, folder


def failure(notebook: nbformat.NotebookNode, error: str) -> str:
    """The source of the cell that failed, and the last lines of what it said, and the error."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    begun = [cell for cell in code if cell.execution_count or cell.outputs]
    cell = next((c for c in code if any(o.output_type == "error" for o in c.outputs)), None)
    cell = cell or (begun or code)[-1]
    said = "".join(o.text for o in cell.outputs if o.output_type == "stream")
    lines = said.replace("\r", "\n").splitlines() + COLOURS.sub("", error).splitlines()
    last = [line for line in lines if line.strip()][-SHOWN:]
    return "\n".join(["--- cell", cell.source, "--- last lines", *last])


def cache() -> str:
    """Where rendered faces are kept."""
    return os.environ.get("IAMT_CACHE") or str(Path.home() / ".cache" / "iamt_jax")


def tidy(notebook: nbformat.NotebookNode, places: dict[str, str]) -> None:
    """Takes out what belongs to this run alone: progress bars and warnings, which stand on standard
    error, times, versions, paths."""
    notebook.metadata.pop("language_info", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        cell.outputs = [x for x in cell.outputs if x.get("name") != "stderr"]
        for output in cell.outputs:
            if output.output_type == "stream":
                output.text = moved(output.text, places)
                continue
            # Tables are text and HTML, pictures PNG and a text without meaning.
            output.data.pop("text/html", None)
            if "image/png" in output.data:
                output.data.pop("text/plain", None)
                output.data["image/png"] = smaller(output.data["image/png"])
            elif "text/plain" in output.data:
                output.data["text/plain"] = COLOURS.sub(
                    "", moved(output.data["text/plain"], places)
                )


def moved(text: str, places: dict[str, str]) -> str:
    """A text with other places in it."""
    for ours, theirs in places.items():
        text = text.replace(os.path.realpath(ours), theirs).replace(ours, theirs)
    return text


def smaller(png: str) -> str:
    """A picture with 64 colours, in base64: a quarter of the size, and hardly anybody sees it."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    buffer = io.BytesIO()
    picture.quantize(64, Image.Quantize.MEDIANCUT).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


if __name__ == "__main__":
    sys.exit(main())
