"""What comes from outside runs no code, leaves its folder nowhere, and nothing calls home."""

import ast
import socket
from pathlib import Path

import cli as main
import pytest
from conftest import flags

import iamt_jax

PACKAGE = Path(iamt_jax.__file__).parent

CODE = {"eval", "exec", "compile", "__import__"}
"""Built-in functions that turn data into code."""

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
"""Formats that run code when they are read."""

CALLS_HOME = {"urllib", "requests", "http", "ftplib", "socket", "smtplib"}

LISTENS = "serving.py"
"""The explorer's server: it finds a free port of this machine, and connects to nothing."""


def nodes(kind):
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, kind):
                yield path, node


def test_nothing_of_ours_reads_a_format_that_runs_code_or_calls_home():
    for path, node in nodes((ast.Import, ast.ImportFrom)):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names]
        refused = MODULES | CALLS_HOME - ({"socket"} if path.name == LISTENS else set())
        assert not {name.split(".")[0] for name in names} & refused, path


def test_nothing_of_ours_turns_data_into_code():
    for path, node in nodes(ast.Call):
        if isinstance(node.func, ast.Name):
            assert node.func.id not in CODE, path
        if isinstance(node.func, ast.Attribute) and node.func.attr == "load":
            pickles = [k.value for k in node.keywords if k.arg == "allow_pickle"]
            assert not any(getattr(value, "value", True) for value in pickles), path


def test_zip_members_are_never_unpacked():
    for path, node in nodes(ast.Attribute):
        assert node.attr not in ("extractall", "unpack_archive"), path
        assert (getattr(node.value, "id", ""), node.attr) != ("archive", "extract"), path


@pytest.fixture
def no_network(monkeypatch):
    """Every connection but to this machine is an error, and every name unknown."""
    real = socket.socket.connect

    def connect(self, address):
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"tried to reach {address}")
        return real(self, address)

    def resolve(host, *_, **__):
        if host in ("127.0.0.1", "::1", "localhost"):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]
        raise AssertionError(f"asked for the address of {host}")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def test_a_run_from_first_to_last_needs_no_network(no_network, tmp_path):
    """Training, calibration, and the whole report; only `--data.name celeb_a` downloads."""
    workdir = str(tmp_path / "W")
    assert main.train(flags(workdir)) == 0
    assert main.calibrate(["--workdir", workdir, "--images", "64"]) == 0
    assert main.evaluate(["--workdir", workdir, "--auto", "--bootstrap", "10"]) == 0
    page = (PACKAGE / "report/template/page.html.j2").read_text()
    assert "http://" not in page and "https://" not in page
