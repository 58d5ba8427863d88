"""Tell clients that the tool list changed, or an action, a run or a file they subscribed to, in both protocol eras.

Clients of the handshake era get a notification on their connection; it is remembered from `notifications/initialized`
until it closes. Clients of 2026-07-28 get one on the `subscriptions/listen` stream they opened, and only there. Both
kinds are *peers*, known by the pipe their answers go out on.

A model sees a new tool at its very next step only if its client has re-read the list by then. So a result that
changed the list is held back until its own client has re-listed, at most `HOLD_SECONDS`. Clients that never re-list
must not pay for this: only a peer that has re-listed promptly after an announcement before is waited for, and one
that lets a wait run out has to show it again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NoReturn

import anyio
from mcp.server.connection import Connection
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.subscriptions import (
    ListenHandler,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_REQUEST,
    EmptyResult,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    ToolListChangedNotification,
    UnsubscribeRequestParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from dynasaur_mcp.runs import Run
from dynasaur_mcp.sandbox.pool import Pool
from dynasaur_mcp.server.watch import Watch
from dynasaur_mcp.types import Ending, LibraryChanged

logger = logging.getLogger(__name__)

HOLD_SECONDS = 1.0
"""A result that changed the list is held back this long at most."""
MAX_SUBSCRIBED = 1000
"""Resources of one client of the handshake era."""
NEWS_SECONDS = 0.25
"""At least, between two pieces of news of one resource."""

FILES_OF_A_RUN = 50
"""A run tells of no more that it wrote."""

Context = ServerRequestContext[Any, Any]

_listening: ContextVar[str] = ContextVar("listening")
"""The principal whose stream is being opened: the SDK's handler does not tell its bus."""


@dataclass(eq=False, slots=True)
class Peer:
    """A client that wants to hear of changes."""

    connection: Connection | None
    """Where to notify; None for one that listens on a stream of its own."""
    principal: str
    announced_at: float | None = None
    """When it was last told of a change that it has not re-listed for."""
    relists: bool = False
    relisted: anyio.Event = field(default_factory=anyio.Event)
    uris: set[str] = field(default_factory=set)
    """What it subscribed to, in the handshake era."""


class Bus:
    """Brings events to the streams of 2026-07-28: to all, or to those of one principal."""

    def __init__(self) -> None:
        self._listeners: dict[object, tuple[str, Callable[[ServerEvent], None]]] = {}

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        token = object()
        self._listeners[token] = (_listening.get(), listener)

        def unsubscribe() -> None:
            self._listeners.pop(token, None)

        return unsubscribe

    async def publish(self, event: ServerEvent, principal: str | None = None) -> None:
        for whose, listener in list(self._listeners.values()):
            if principal in (None, whose):
                listener(event)
        await anyio.lowlevel.checkpoint()  # lets streams drain in a burst


class Announcer:
    """Knows who follows the tool list, and tells them. One for all connections of a server."""

    def __init__(self, principal_of: Callable[[Context], str], pool: Pool) -> None:
        self._principal_of = principal_of
        self._peers: dict[object, Peer] = {}
        self._bus = Bus()
        self._listen = ListenHandler(self._bus)
        self._news: set[tuple[str, str]] = set()
        """What changed and was not told yet: whose it is, and its URI."""
        self._has_news = anyio.Event()
        self._listened: list[tuple[str, Collection[str]]] = []
        """Principals, and the URIs that a stream of 2026-07-28 is for."""
        self._watch = Watch(pool, self._uris_of, self._note)
        pool.on_files = self._watch.hear

    async def listen(self, ctx: Context, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        """Serve `subscriptions/listen`."""
        principal = self._principal_of(ctx)
        _listening.set(principal)
        listened = (principal, params.notifications.resource_subscriptions or ())
        self._listened.append(listened)
        try:
            return await self._listen(ctx, params)
        finally:
            self._listened.remove(listened)

    async def watch(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Middleware: see clients come, re-list and go."""
        pipe = pipe_of(ctx)
        if pipe is None:
            return await call_next(ctx)
        if ctx.method == "subscriptions/listen" and pipe not in self._peers:
            self._peers[pipe] = Peer(None, self._principal_of(ctx))
            try:
                return await call_next(ctx)
            finally:
                self._peers.pop(pipe, None)
        result = await call_next(ctx)
        if ctx.method == "notifications/initialized" and ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            connection = connection_of(ctx)
            if pipe not in self._peers:
                self._peers[pipe] = Peer(connection, self._principal_of(ctx))
                connection.exit_stack.callback(self._peers.pop, pipe, None)
        elif ctx.method == "tools/list":
            self.note_listing(pipe)
        return result

    def note_listing(self, pipe: object) -> bool:
        """See a client read the list; whether it is known, and so may."""
        peer = self._peers.get(pipe)
        if peer and peer.announced_at is not None:
            peer.relists = anyio.current_time() - peer.announced_at <= HOLD_SECONDS
            peer.announced_at = None
            peer.relisted.set()
        return peer is not None

    async def subscribe(self, ctx: Context, params: SubscribeRequestParams) -> EmptyResult:
        """Serve `resources/subscribe`. Of actions, of runs and of files there is ever news.

        Raises:
            MCPError: there are too many, or no news could reach this client.
        """
        peer = self._peers.get(pipe_of(ctx))
        if peer is None:
            raise MCPError(INVALID_REQUEST, "Nothing can be sent here unasked: complete the handshake first.")
        if len(peer.uris) >= MAX_SUBSCRIBED:
            raise MCPError(INVALID_REQUEST, f"{MAX_SUBSCRIBED} resources are subscribed to, which is the most.")
        peer.uris.add(params.uri)
        return EmptyResult()

    async def unsubscribe(self, ctx: Context, params: UnsubscribeRequestParams) -> EmptyResult:
        """Serve `resources/unsubscribe`."""
        if peer := self._peers.get(pipe_of(ctx)):
            peer.uris.discard(params.uri)
        return EmptyResult()

    async def publish(self, change: LibraryChanged, ctx: Context | None = None) -> None:
        """Tell everyone; `ctx` is the request that made the change, if one did. Raises nothing but cancellation."""
        now = anyio.current_time()
        caller = None if ctx is None else pipe_of(ctx)
        updated = [f"dynasaur://actions/{name}" for name in change.names]
        with anyio.move_on_after(HOLD_SECONDS) as scope:  # a client that has stopped reading delays nobody longer
            async with anyio.create_task_group() as tasks:
                for pipe, peer in self._peers.items():
                    peer.announced_at = now
                    if peer.relisted.is_set():  # else somebody may be waiting for it
                        peer.relisted = anyio.Event()
                    if peer.connection is not None:
                        news = peer.uris.intersection(updated)
                        tasks.start_soon(_tell, peer.connection, ctx if pipe == caller else None, news)
                tasks.start_soon(self._bus.publish, ToolsListChanged())
                tasks.start_soon(self._bus.publish, ResourcesListChanged())
                for uri in updated:
                    await self._bus.publish(ResourceUpdated(uri))
        if scope.cancelled_caught:
            logger.warning("Not every client could be told of revision %d of the library", change.revision)

    def hear(self, run: Run) -> None:
        """Note that a run printed or ended; `tell_news` tells of it."""
        self._note(run.principal, f"dynasaur://runs/{run.id}/output")
        if run.outcome:
            paths = [file.path for file in run.outcome.files]
            is_all = run.outcome.ending in (Ending.RETURNED, Ending.RAISED) and len(paths) < FILES_OF_A_RUN
            self._watch.hear(run.principal, run.session, paths if is_all else None)

    def _note(self, principal: str, uri: str) -> None:
        self._news.add((principal, uri))
        self._has_news.set()

    def _uris_of(self, principal: str) -> Iterator[str]:
        """What the clients of a principal subscribed to."""
        for peer in self._peers.values():
            if peer.principal == principal:
                yield from peer.uris
        for whose, uris in self._listened:
            if whose == principal:
                yield from uris

    async def tell_news(self) -> None:
        """Tell subscribers of runs, however much these print, and of files, every so often."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch.serve)
            await self._tell_news()

    async def _tell_news(self) -> NoReturn:
        while True:
            await self._has_news.wait()
            self._has_news = anyio.Event()
            news, self._news = self._news, set()
            with anyio.move_on_after(HOLD_SECONDS):  # a client that has stopped reading delays nobody longer
                async with anyio.create_task_group() as tasks:
                    for peer in self._peers.values():
                        uris = peer.uris.intersection(uri for whose, uri in news if whose == peer.principal)
                        if peer.connection is not None and uris:
                            tasks.start_soon(_tell_updated, peer.connection, uris)
                    for principal, uri in news:
                        await self._bus.publish(ResourceUpdated(uri), principal)
            await anyio.sleep(NEWS_SECONDS)

    async def hold(self, ctx: Context) -> None:
        """Return once the caller's client has re-listed after the last announcement, or need not be waited for."""
        peer = self._peers.get(pipe_of(ctx))
        if peer is None or not peer.relists or peer.announced_at is None:
            return
        with anyio.move_on_after(HOLD_SECONDS) as scope:
            await peer.relisted.wait()
        if scope.cancelled_caught:
            peer.relists = False


async def _tell(connection: Connection, ctx: Context | None, news: Collection[str]) -> None:
    try:
        if ctx is None:
            await connection.send_tool_list_changed()
        else:
            # On the caller's own request, so that it also reaches HTTP clients that keep no GET stream open.
            await ctx.session.send_notification(ToolListChangedNotification(), related_request_id=ctx.request_id)
    except Exception:  # boundary: the change is kept, telling of it is best effort
        logger.exception("A client could not be told that the tool list changed")
    await _tell_updated(connection, news)


async def _tell_updated(connection: Connection, uris: Collection[str]) -> None:
    try:
        for uri in uris:
            await connection.send_resource_updated(uri)
    except Exception:  # boundary: as above
        logger.exception("A client could not be told of what it subscribed to")


def connection_of(ctx: Context) -> Connection:
    # The SDK gives handlers no public way to their connection (mcp 2.3).
    return ctx.session._connection


def pipe_of(ctx: Context) -> object | None:
    """What tells clients apart: the session of the protocol, or their outgoing channel, one per connection also where
    2026-07-28 makes a `Connection` for every request. None where there is no lasting one."""
    connection = connection_of(ctx)
    return connection.session_id or (connection.outbound if connection.has_standalone_channel else None)
