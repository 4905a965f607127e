"""Serving the page: port, security headers, host names, shutdown."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from iamt_jax.errors import InputError

PORTS = range(7860, 7960)
"""Ports that are tried in this order if none is given."""

GRADIO_SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_SSR_MODE": "False",
    "GRADIO_SHARE": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""Environment variables for Gradio: no usage statistics, version check, history or tunnel."""

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)
"""Content-Security-Policy: the browser loads nothing from elsewhere. Gradio's own scripts need
inline and eval."""

SECURITY_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def bind_port(host: str, port: int | None) -> socket.socket:
    """Returns a listening socket on the port, or on the first free one of `PORTS`.

    Raises:
      InputError: the host is no address of this machine, or the port is not available.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise _no_host(host, error) from None
    for tried in PORTS if port is None else [port]:
        listener = socket.socket(family, socket.SOCK_STREAM)
        if os.name == "posix":  # Reuses a closed port; on Windows, even one in use.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address[0], tried, *address[2:]))
            listener.listen()
            return listener
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRNOTAVAIL:
                raise _no_host(host, error) from None
            if port is not None:
                raise InputError(
                    f"`port` {port}: cannot be had on {host} ({error.strerror}); name another, or "
                    "leave it out for the first free one"
                ) from None
    raise InputError(f"`port`: all from {PORTS[0]} to {PORTS[-1]} are taken; name another")


def _no_host(host: str, error: OSError) -> InputError:
    return InputError(
        f"`host` {host}: is no address of this machine ({error.strerror}); leave it out for "
        "127.0.0.1, or name 0.0.0.0 for all"
    )


def is_local(host: str) -> bool:
    """True if only this machine can reach the address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def gradio_environment() -> Iterator[None]:
    """Sets Gradio's environment variables, to be used before it is imported; deletes its temporary
    files at the end."""
    with tempfile.TemporaryDirectory(prefix="iamt-explore-", ignore_cleanup_errors=True) as folder:
        os.environ.update(GRADIO_SETTINGS | {"GRADIO_TEMP_DIR": folder})
        yield


def serve(page: Any, listener: socket.socket, host: str, ready: Callable[[], None]) -> None:
    """Serves a page until Ctrl-C or SIGTERM, which are raised here as usual.

    Args:
      page: Gradio's Blocks, in an `explorer.app.Page`.
      listener: of `bind_port`.
      host: the address as given by the user; a local one answers only to local host names.
      ready: called once the server accepts connections.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

    config = uvicorn.Config(
        application(page, host),
        log_level="error",
        access_log=False,
        # An open page keeps an event stream, which does not end by itself.
        timeout_graceful_shutdown=1,
    )
    logging.getLogger("uvicorn.error").addFilter(lambda record: "graceful" not in record.msg)
    Server(config).run(sockets=[listener])


def application(page: Any, host: str) -> Callable:
    """The page as an ASGI application, with `SECURITY_HEADERS` in every response."""
    import fastapi
    import gradio

    from iamt_jax.explorer.app import UPLOAD_MB
    from iamt_jax.explorer.style import CSS, FONTS

    theme = gradio.themes.Default(
        primary_hue=gradio.themes.colors.violet, font=FONTS, font_mono=["ui-monospace", "monospace"]
    )
    undocumented = {"docs_url": None, "redoc_url": None, "openapi_url": None}
    mounted = gradio.mount_gradio_app(
        fastapi.FastAPI(**undocumented),
        page.blocks,
        path="/",
        max_file_size=f"{UPLOAD_MB}mb",
        enable_monitoring=False,
        footer_links=[],
        ssr_mode=False,
        app_kwargs=undocumented,
        theme=theme,
        css=CSS,
    )
    return secured(mounted, local_names(host) if is_local(host) else ["*"])


def local_names(host: str) -> list[str]:
    """Host names that a page on this address of the machine itself answers to."""
    # Starlette before 1.10 reads the name of [::1]:7860 as "[".
    return [host, "127.0.0.1", "localhost", "[::1]", "["]


def secured(inner: Callable, names: Sequence[str]) -> Callable:
    """Adds `SECURITY_HEADERS` and a check of the Host header to an ASGI application.

    Args:
      inner: the application.
      names: accepted host names; requests to others get status 400, which prevents DNS rebinding.
        "*" accepts all.
    """
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    trusted = TrustedHostMiddleware(inner, names, www_redirect=False)
    headers = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]

    async def run(scope: dict, receive: Callable, send: Callable) -> None:
        async def send_with(message: dict) -> None:
            if message["type"] == "http.response.start":
                message = message | {"headers": [*message.get("headers", ()), *headers]}
            await send(message)

        await trusted(scope, receive, send_with)

    return run


def open_browser(address: str) -> None:
    """Opens the page in a browser, unless only a text browser in this terminal is available."""
    if sys.platform.startswith("linux") and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        return
    threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()
