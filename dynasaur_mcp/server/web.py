"""The MCP server over HTTP: streamable HTTP at /mcp, SSE for old clients at /sse, on one port.

Without Host, Origin and a token being looked at, a web page in any browser of this machine could run code here. So they
are, for every path; but for the token at /healthz and /readyz, which say nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
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
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware, authorization_context
from mcp.server.auth.provider import TokenVerifier
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from mcp.server.auth.settings import AuthSettings
from mcp.server.lowlevel import Server
from mcp.server.streamable_http import EventStore
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from pydantic_core import from_json
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from dynasaur_mcp.errors import SettingsError
from dynasaur_mcp.server.connection import Connection, TlsListener
from dynasaur_mcp.server.door import Guard, Turns, peek, refuse, take_whole
from dynasaur_mcp.server.events import EventLog, Events
from dynasaur_mcp.server.metrics import Metrics
from dynasaur_mcp.server.ready import Carrier
from dynasaur_mcp.server.scopes import ALL_SCOPES, MANAGE
from dynasaur_mcp.server.sse import Sse

logger = logging.getLogger(__name__)

MCP_PATH, SSE_PATH, MESSAGES_PATH = "/mcp", "/sse", "/messages/"
METRICS_PATH = "/metrics"
RETRY_MILLISECONDS = 1000
"""After which a client is to come back for a stream that ended before its answer."""
MOST_SESSIONS = 10_000
"""Sessions of the protocol, of all principals together."""
LEFT_SECONDS = 60
"""A client that was killed has not ended its session; after so long without a request it need not be kept for it."""
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


class Sessions(StreamableHTTPSessionManager):
    """The sessions of clients of the handshake era, each with events of its own."""

    def __init__(
        self, server: Server[Any], most_each: int, most: int = MOST_SESSIONS, left_seconds: float = LEFT_SECONDS
    ) -> None:
        """
        Args:
            most_each: Of one principal.
            most: Of all.
            left_seconds: One without a request for so long makes room for another of its principal's.
        """
        self._left_seconds = left_seconds
        self._log = EventLog()
        self._most_each = most_each
        self._most = most
        self._asked: set[tuple[str | None, str | None]] = set()
        # The SDK's own bound does not tell a client when to come back.
        super().__init__(server, retry_interval=RETRY_MILLISECONDS, max_sessions=None)

    async def _handle_stateful_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        if all(name != b"mcp-session-id" for name, _ in scope["headers"]):
            await self._make_room(scope)
            if refused := self._refuse_to_open(scope):
                await refused(scope, receive, send)
                return
        body, receive = await peek(receive)
        with self._asking(scope, body) as is_new:
            if is_new:
                await super()._handle_stateful_request(scope, receive, send)
            else:
                reused = Response("A request with this id is not yet answered\n", 400)
                await reused(scope, receive, send)

    def _refuse_to_open(self, scope: Scope) -> Response | None:
        if len(self._held_by(scope)) >= self._most_each:
            told = f"You have {self._most_each} sessions of the protocol open, which is the most."
            return refuse(429, told, LEFT_SECONDS)
        if len(self._session_owners) >= self._most:
            return refuse(503, f"{self._most} sessions of the protocol are open, which is the most.", LEFT_SECONDS)
        return None

    def _held_by(self, scope: Scope) -> list[str]:
        who = authorization_context(scope["user"])
        return [session for session, owner in self._session_owners.items() if owner == who]

    async def _make_room(self, scope: Scope) -> None:
        """End the one that its principal has left for longest, where only that lets another open."""
        held = self._held_by(scope)
        if len(held) < self._most_each and len(self._session_owners) < self._most:
            return
        left = min(held, key=self._left_at, default=None)
        if left and self._left_at(left) <= anyio.current_time() - self._left_seconds:
            await self._discard_session(left, self._server_instances[left])

    def _left_at(self, session: str) -> float:
        """When its last request ended, by the SDK's countdown to its end; never, while one is open."""
        transport = self._server_instances.get(session)
        idle = transport.idle_scope if transport else None
        return idle.deadline - (self.session_idle_timeout or 0) if idle else math.inf

    @contextlib.contextmanager
    def _asking(self, scope: Scope, body: bytes) -> Iterator[bool]:
        """False if the session has a request of this id open: the answer to one of both would reach nobody."""
        session = Request(scope).headers.get("mcp-session-id")
        request_id = read_id(body) if session else None
        asked = session, request_id
        if request_id is None:
            yield True
        elif asked in self._asked:
            yield False
        else:
            self._asked.add(asked)
            try:
                yield True
            finally:
                self._asked.discard(asked)

    # The SDK reads it once for each session that it opens.
    @property
    def event_store(self) -> EventStore | None:
        return Events(self._log)

    @event_store.setter
    def event_store(self, _none: EventStore | None) -> None:
        pass


def read_id(body: bytes) -> str | None:
    """Of a request; 1 and "1" are the same for the SDK. None where there is none."""
    try:
        message = from_json(body)
    except ValueError:
        return None
    return str(message["id"]) if isinstance(message, dict) and {"id", "method"} <= message.keys() else None


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
            Route(MCP_PATH, Carrier(StreamableHTTPASGIApp(sessions))),
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
    server: Server[Any],
    verifier: TokenVerifier,
    front: Front,
    *,
    is_ready: Callable[[], bool],
    gauges: dict[str, tuple[str, Callable[[], float]]],
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
    sessions = Sessions(server, front.most_each)
    app = build_app(server, sessions, verifier, turns, metrics, front, is_ready)
    web = _Uvicorn(configure(app, front))
    with contextlib.closing(listen(front.host, front.port, tls=bool(front.certificate))) as listener:
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
        raise SettingsError(f"The certificate of tls_certificate and tls_key cannot be used: {error}") from None
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
