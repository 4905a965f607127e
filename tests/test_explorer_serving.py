"""How the explorer is served: flags, port, host names, headers, temporary files."""

import asyncio
import importlib.metadata
import os
import socket
from pathlib import Path

import pytest
from cli import explore

from iamt_jax.errors import InputError
from iamt_jax.explorer import serving


def refused(capsys, *flags):
    """Returns the single error line for these flags."""
    assert explore([str(x) for x in flags]) == 2
    said = capsys.readouterr()
    (line,) = [x for x in said.err.splitlines() if not x.startswith("warning: ")]
    return line


@pytest.fixture
def gradio(monkeypatch):
    """Pretends that Gradio is installed; all errors tested here occur before it is imported."""
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "6.31.0" if name == "gradio" else version(name)
    )


@pytest.fixture
def taken():
    """A port in use."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_without_gradio_it_says_how_to_get_it(monkeypatch, capsys, tmp_path):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    line = refused(capsys, "--workdir", tmp_path)
    assert line == (
        "error: explore: Gradio is not installed, and the page needs it; run "
        "pip install 'iamt-jax[explore]'"
    )
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "4.44.1")
    assert "found Gradio 4.44.1, expected 6.x" in refused(capsys, "--workdir", tmp_path)


@pytest.mark.parametrize(
    "flags, expected",
    [
        ([], "missing --workdir"),
        (["--workdir", "W", "--port", "0"], "--port 0: must be a number from 1 to 65535"),
        (["--workdir", "W", "--port", "x"], "--port: found 'x'"),
        (["--workdir", "W", "--seed", "-1"], "--seed -1: must be"),
        (["--workdir", "W", "--share"], "--share: no such flag"),
        (["--workdir", "W", "--host", "192.0.2.1"], "--host 192.0.2.1: is no address of this"),
        (["--workdir", "W", "--host", "no such"], "--host no such: is no address of this"),
        (["--workdir", "no-such-run"], "--workdir no-such-run: holds no run.json"),
    ],
)
def test_bad_flags_are_one_line(gradio, capsys, flags, expected):
    assert expected in refused(capsys, *flags)


def test_a_named_port_that_is_taken_is_refused(gradio, capsys, taken):
    line = refused(capsys, "--workdir", "W", "--port", taken)
    assert f"--port {taken}: cannot be had on 127.0.0.1 (Address already in use)" in line


def test_another_host_is_warned_of(gradio, capsys):
    assert explore(["--workdir", "no-such-run", "--host", "0.0.0.0"]) == 2
    said = capsys.readouterr().err
    assert "warning: --host 0.0.0.0: whoever reaches this machine can use the page" in said
    assert explore(["--workdir", "no-such-run"]) == 2
    assert "warning" not in capsys.readouterr().err


def test_the_first_free_port_is_taken(monkeypatch, taken):
    monkeypatch.setattr(serving, "PORTS", [taken, 0])
    with serving.bind_port("127.0.0.1", None) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
        assert listener.getsockname()[1] != taken
    monkeypatch.setattr(serving, "PORTS", [taken])
    with pytest.raises(InputError, match="all from"):
        serving.bind_port("127.0.0.1", None)


@pytest.mark.parametrize(
    "host, local",
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("a.b", False)],
)
def test_what_counts_as_local(host, local):
    assert serving.is_local(host) == local


def answer(names, host):
    """Status and headers of a response to a request with this host name."""
    pytest.importorskip("starlette")

    async def inner(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"page"})

    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "headers": [(b"host", host.encode())]}
    asyncio.run(serving.secured(inner, names)(scope, None, send))
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize(
    "host, status",
    [
        ("127.0.0.1:7860", 200),
        ("localhost", 200),
        ("[::1]:7860", 200),
        ("evil.example:7860", 400),
        ("", 400),
    ],
)
def test_a_local_page_answers_to_local_names_and_allows_no_other_source(host, status):
    found, headers = answer(serving.local_names("127.0.0.1"), host)
    assert found == status
    policy = headers[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy and "http" not in policy and "*" not in policy
    assert answer(["*"], host)[0] == 200


def test_gradio_is_told_to_be_quiet_and_its_files_go(monkeypatch):
    for name in (*serving.GRADIO_SETTINGS, "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, "True")
    with serving.gradio_environment():
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        (folder / "photograph.png").write_bytes(b"x")
        assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
        assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert not folder.exists()
