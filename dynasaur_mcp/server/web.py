"""The MCP server over HTTP: streamable HTTP at /mcp, SSE for old clients at /sse, on one port.

Without Host, Origin and a token being looked at, a web page in any browser of this machine could run code here. So they
are, for every path; but for the token at /healthz and /readyz, which say nothing else.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.provider import TokenVerifier
from mcp.server.lowlevel import Server
from mcp.server.sse import SseServerTransport
from mcp.server.streamable_http import EventStore
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from dynasaur_mcp.errors import SettingsError
from dynasaur_mcp.server.door import Guard, Turns
from dynasaur_mcp.server.events import EventLog, Events

logger = logging.getLogger(__name__)

MCP_PATH, SSE_PATH, MESSAGES_PATH = "/mcp", "/sse", "/messages/"
_KEEP_ALIVE_SECONDS = 30
_CLOSE_SECONDS = 5
"""For connections to close once their requests have ended."""


@dataclass(frozen=True, slots=True)
class Front:
    """How the server is reached."""

    host: str
    port: int
    hosts: tuple[str, ...]
    """Names that it goes by."""
    origins: tuple[str, ...]
    """Of web pages that may call it."""
    certificate: Path | None = None
    key: Path | None = None
    drain_seconds: float = 30.0


class Sessions(StreamableHTTPSessionManager):
    """The sessions of clients of the handshake era, each with events of its own."""

    def __init__(self, server: Server[Any]) -> None:
        self._log = EventLog()
        super().__init__(server)

    # The SDK reads it once for each session that it opens.
    @property
    def event_store(self) -> EventStore | None:
        return Events(self._log)

    @event_store.setter
    def event_store(self, _none: EventStore | None) -> None:
        pass


class Sse:
    """GET /sse: a stream of answers, for as long as the client reads it."""

    def __init__(self, server: Server[Any], transport: SseServerTransport) -> None:
        self._server = server
        self._transport = transport

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._transport.connect_sse(scope, receive, send) as (read, write):
            await self._server.run(read, write, self._server.create_initialization_options())


def build_app(
    server: Server[Any],
    sessions: Sessions,
    verifier: TokenVerifier,
    turns: Turns,
    front: Front,
    is_ready: Callable[[], bool],
) -> ASGIApp:
    """Everything that is answered over HTTP."""

    async def healthz(_request: Request) -> Response:
        return Response()

    async def readyz(_request: Request) -> Response:
        return Response(status_code=200 if is_ready() and not turns.is_closed else 503)

    sse = SseServerTransport(MESSAGES_PATH)
    protected = Router(
        [
            Route(MCP_PATH, StreamableHTTPASGIApp(sessions)),
            Route(SSE_PATH, Sse(server, sse), methods=["GET"]),
            Mount(MESSAGES_PATH, sse.handle_post_message),
        ]
    )
    cors = Middleware(
        CORSMiddleware,
        allow_origins=front.origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=["Mcp-Session-Id", "WWW-Authenticate", "Retry-After"],
    )
    app = Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Mount("/", RequireAuthMiddleware(turns.admit(protected), [])),
        ],
        middleware=[cors, Middleware(AuthenticationMiddleware, backend=BearerAuthBackend(verifier))],
    )
    return Guard(app, front.hosts, front.origins)


class _Uvicorn(uvicorn.Server):
    """Without signal handlers: those of uvicorn would break off calls in flight."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_http(
    server: Server[Any], verifier: TokenVerifier, front: Front, turns: Turns, is_ready: Callable[[], bool]
) -> None:
    """Serve until SIGTERM or SIGINT, and on until the calls in flight have ended; a second one ends at once.

    Raises:
        SettingsError: it cannot listen there, or the certificate cannot be used.
    """
    server.middleware.append(turns.count)
    sessions = Sessions(server)
    app = build_app(server, sessions, verifier, turns, front, is_ready)
    web = _Uvicorn(configure(app, front))
    with contextlib.closing(listen(front.host, front.port)) as listener:
        async with sessions.run(), anyio.create_task_group() as tasks:
            tasks.start_soon(_stop_on_signal, web, turns, front.drain_seconds)
            host = f"[{front.host}]" if ":" in front.host else front.host
            address = f"{'https' if front.certificate else 'http'}://{host}:{listener.getsockname()[1]}"
            sys.stderr.write(f"dynasaur-mcp: serving {address}{MCP_PATH}, and {address}{SSE_PATH} for old clients\n")
            sys.stderr.flush()
            await web.serve([listener])
            tasks.cancel_scope.cancel()


def configure(app: ASGIApp, front: Front) -> uvicorn.Config:
    """uvicorn, quiet: neither an access log, where tokens could end up, nor a word on what it is."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_CLOSE_SECONDS,
        ssl_certfile=front.certificate,
        ssl_keyfile=front.key,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"The certificate of tls_certificate and tls_key cannot be used: {error}") from None
    return config


def listen(host: str, port: int) -> socket.socket:
    """
    Raises:
        SettingsError
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise SettingsError(f"Cannot listen on {host!r}, port {port}: {error.strerror or error}") from None


async def _stop_on_signal(web: uvicorn.Server, turns: Turns, drain_seconds: float) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        number = await anext(signals)
        logger.info("Stopping on %s once the calls in flight have ended", number.name)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cancel_on_next, signals, tasks.cancel_scope)
            await turns.drain(drain_seconds)
            tasks.cancel_scope.cancel()
    turns.end()
    web.should_exit = True


async def _cancel_on_next(signals: AsyncIterator[signal.Signals], scope: anyio.CancelScope) -> None:
    await anext(signals)
    scope.cancel()
