"""The MCP server over HTTP: streamable HTTP at /mcp, SSE for old clients at /sse, on one port.

Without Host, Origin and a token being looked at, a web page in any browser of this machine could run code here. So they
are, for every path; but for the token at /healthz and /readyz, which say nothing else.
"""

from __future__ import annotations

import asyncio
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
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from mcp.server.auth.settings import AuthSettings
from mcp.server.lowlevel import Server
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp

from dynasaur_mcp.errors import SettingsError
from dynasaur_mcp.server.build import AnnouncingServer
from dynasaur_mcp.server.connection import Connection, TlsListener
from dynasaur_mcp.server.door import Guard, Turns, take_whole
from dynasaur_mcp.server.metrics import Metrics
from dynasaur_mcp.server.ready import Carrier
from dynasaur_mcp.server.scopes import ALL_SCOPES, MANAGE
from dynasaur_mcp.server.sessions import Sessions
from dynasaur_mcp.server.sse import Sse

logger = logging.getLogger(__name__)

MCP_PATH, SSE_PATH, MESSAGES_PATH = "/mcp", "/sse", "/messages/"
METRICS_PATH = "/metrics"
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
    most_each: int = 512
    """Requests of one principal that are open at once, and sessions of the protocol."""
    auth: AuthSettings | None = None
    """Where tokens come from, if an authorization server makes them."""


def build_app(
    server: Server[Any],
    sessions: Sessions,
    verifier: TokenVerifier,
    turns: Turns,
    metrics: Metrics,
    front: Front,
    is_ready: Callable[[], bool],
) -> ASGIApp:
    """Everything that is answered over HTTP."""

    async def healthz(_request: Request) -> Response:
        return Response()

    async def readyz(_request: Request) -> Response:
        return Response(status_code=200 if is_ready() and not turns.is_closed else 503)

    sse = Sse(server, MESSAGES_PATH, front.most_each)
    protected = Router(
        [
            Route(MCP_PATH, Carrier(sessions.handle_request)),
            Route(SSE_PATH, sse, methods=["GET"]),
            Mount(MESSAGES_PATH, sse.post),
            Route(METRICS_PATH, RequireAuthMiddleware(metrics.app, [MANAGE]), methods=["GET"]),
        ]
    )
    routes: list[Route] = []
    metadata_url = None
    if front.auth and (resource := front.auth.resource_server_url):
        metadata_url = build_resource_metadata_url(resource)
        routes = create_protected_resource_routes(
            resource, [front.auth.issuer_url], sorted(ALL_SCOPES), resource_name="dynasaur-mcp"
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
            *routes,
            Mount("/", RequireAuthMiddleware(turns.admit(take_whole(protected)), [], metadata_url)),
        ],
        middleware=[cors, Middleware(AuthenticationMiddleware, backend=BearerAuthBackend(verifier))],
    )
    return metrics.count_answers(Guard(app, front.hosts, front.origins))


class _Uvicorn(uvicorn.Server):
    """Without signal handlers: those of uvicorn would break off calls in flight."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_http(
    server: AnnouncingServer,
    verifier: TokenVerifier,
    front: Front,
    *,
    is_ready: Callable[[], bool],
    gauges: dict[str, tuple[str, Callable[[], float]]],
    on_listening: Callable[[], None],
) -> None:
    """Serve until SIGTERM or SIGINT, and on until the calls in flight have ended; a second one ends at once.

    Raises:
        SettingsError: it cannot listen there, or the certificate cannot be used.
    """
    turns = Turns(front.most_each)
    at_work = {
        "calls_at_work": ("Requests of clients at work", lambda: turns.calls),
        "http_requests_open": ("HTTP requests that are open, streams included", lambda: len(turns)),
        "tasks": ("Tasks of the event loop", lambda: len(asyncio.all_tasks())),
    }
    metrics = Metrics(gauges | at_work)
    server.middleware += [turns.count, metrics.watch]
    sessions = Sessions(server, front.most_each, server.pages)
    app = build_app(server, sessions, verifier, turns, metrics, front, is_ready)
    web = _Uvicorn(configure(app, front))
    with contextlib.closing(listen(front.host, front.port, tls=bool(front.certificate))) as listener:
        async with sessions.run(), anyio.create_task_group() as tasks:
            tasks.start_soon(_stop_on_signal, web, turns, front.drain_seconds)
            on_listening()
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
        http=Connection,
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
        reason = f"The certificate {front.certificate} or its key cannot be used: {error.strerror or error}."
        raise SettingsError(reason) from None
    return config


def listen(host: str, port: int, tls: bool = False) -> socket.socket:
    """
    Raises:
        SettingsError
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Not by `socket.create_server`: asyncio would not know its connections for TCP, and leave each answer to wait 40 ms
    # for the acknowledgement of its own head.
    listener = (TlsListener if tls else socket.socket)(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
        return listener
    except OSError as error:
        listener.close()
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
