"""Each fault of the data ends a command with exit status 2, one line, and nothing written."""

import zipfile

import layouts
import pytest
from test_data_faults import FAULTS, ZIP

from iamt_jax import cli


def run(root, workdir, *flags):
    return cli.train(
        ["--preset", "debug", "--data.root", str(root), "--workdir", str(workdir), *flags]
    )


def one_error(capsys):
    """Standard error without the progress bar's drawings; it must be one error line."""
    text = capsys.readouterr().err
    lines = [x for x in text.replace("\r", "\n").splitlines() if x.strip() and "step/s" not in x]
    assert len(lines) == 1 and lines[0].startswith("error: "), text
    return lines[0]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_ends_the_command(tmp_path, fault, capsys):
    inject, parts = FAULTS[fault]
    root = layouts.write_official(tmp_path)
    inject(root)
    assert run(root, tmp_path / "W") == 2
    line = one_error(capsys)
    assert all(part in line for part in parts)
    assert not (tmp_path / "W").exists()


def test_a_truncated_photograph_ends_training(tmp_path, capsys):
    """It is found by the thread that decodes it, in the middle of the run."""
    root = layouts.write_official(tmp_path)
    with zipfile.ZipFile(root / ZIP) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(root / ZIP, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data[: len(data) // 2])
    assert run(root, tmp_path / "W", "--train.batch-size", "8", "--model.norm", "batch") == 2
    assert "cannot be decoded" in one_error(capsys)
