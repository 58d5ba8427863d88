"""Tell clients that the tool list changed, or an action that they subscribed to, in both protocol eras.

Clients of the handshake era get a notification on their connection; it is remembered from `notifications/initialized`
until it closes. Clients of 2026-07-28 get one on the `subscriptions/listen` stream they opened, and only there. Both
kinds are *followers*, known by the pipe their answers go out on.

A model sees a new tool at its very next step only if its client has re-read the list by then. So a result that
changed the list is held back until its own client has re-listed, at most `HOLD_SECONDS`. Clients that never re-list
must not pay for this: only a follower that has re-listed promptly after an announcement before is waited for, and one
that lets a wait run out has to show it again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import anyio
from mcp.server.connection import Connection
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    ResourcesListChanged,
    ResourceUpdated,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_REQUEST,
    EmptyResult,
    SubscribeRequestParams,
    ToolListChangedNotification,
    UnsubscribeRequestParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from dynasaur_mcp.types import LibraryChanged

logger = logging.getLogger(__name__)

HOLD_SECONDS = 1.0
"""A result that changed the list is held back this long at most."""
MAX_SUBSCRIBED = 1000
"""Resources of one client of the handshake era."""

Context = ServerRequestContext[Any, Any]


@dataclass(eq=False, slots=True)
class Follower:
    """A client that wants to hear of changes."""

    connection: Connection | None
    """Where to notify; None for one that listens on a stream of its own."""
    announced_at: float | None = None
    """When it was last told of a change that it has not re-listed for."""
    relists: bool = False
    relisted: anyio.Event = field(default_factory=anyio.Event)
    uris: set[str] = field(default_factory=set)
    """What it subscribed to, in the handshake era."""


class Announcer:
    """Knows who follows the tool list, and tells them. One for all connections of a server."""

    def __init__(self) -> None:
        self._followers: dict[object, Follower] = {}
        self._bus = InMemorySubscriptionBus()
        self.listen = ListenHandler(self._bus)
        """Serves `subscriptions/listen`."""

    async def watch(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Middleware: see clients come, re-list and go."""
        pipe = pipe_of(ctx)
        if pipe is None:
            return await call_next(ctx)
        if ctx.method == "subscriptions/listen" and pipe not in self._followers:
            self._followers[pipe] = Follower(None)
            try:
                return await call_next(ctx)
            finally:
                self._followers.pop(pipe, None)
        result = await call_next(ctx)
        if ctx.method == "notifications/initialized" and ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            connection = connection_of(ctx)
            if pipe not in self._followers:
                self._followers[pipe] = Follower(connection)
                connection.exit_stack.callback(self._followers.pop, pipe, None)
        elif ctx.method == "tools/list":
            self._note_listing(self._followers.get(pipe))
        return result

    def _note_listing(self, follower: Follower | None) -> None:
        if follower is None or follower.announced_at is None:
            return
        follower.relists = anyio.current_time() - follower.announced_at <= HOLD_SECONDS
        follower.announced_at = None
        follower.relisted.set()

    async def subscribe(self, ctx: Context, params: SubscribeRequestParams) -> EmptyResult:
        """Serve `resources/subscribe`. Only of actions is there ever news.

        Raises:
            MCPError: there are too many, or no news could reach this client.
        """
        follower = self._followers.get(pipe_of(ctx))
        if follower is None:
            raise MCPError(INVALID_REQUEST, "Nothing can be sent here unasked: complete the handshake first.")
        if len(follower.uris) >= MAX_SUBSCRIBED:
            raise MCPError(INVALID_REQUEST, f"{MAX_SUBSCRIBED} resources are subscribed to, which is the most.")
        follower.uris.add(params.uri)
        return EmptyResult()

    async def unsubscribe(self, ctx: Context, params: UnsubscribeRequestParams) -> EmptyResult:
        """Serve `resources/unsubscribe`."""
        if follower := self._followers.get(pipe_of(ctx)):
            follower.uris.discard(params.uri)
        return EmptyResult()

    async def publish(self, change: LibraryChanged, ctx: Context | None = None) -> None:
        """Tell everyone; `ctx` is the request that made the change, if one did. Raises nothing but cancellation."""
        now = anyio.current_time()
        caller = None if ctx is None else pipe_of(ctx)
        updated = [f"dynasaur://actions/{name}" for name in change.names]
        with anyio.move_on_after(HOLD_SECONDS) as scope:  # a client that has stopped reading delays nobody longer
            async with anyio.create_task_group() as tasks:
                for pipe, follower in self._followers.items():
                    follower.announced_at = now
                    if follower.relisted.is_set():  # else somebody may be waiting for it
                        follower.relisted = anyio.Event()
                    if follower.connection is not None:
                        news = follower.uris.intersection(updated)
                        tasks.start_soon(_tell, follower.connection, ctx if pipe is caller else None, news)
                tasks.start_soon(self._bus.publish, ToolsListChanged())
                tasks.start_soon(self._bus.publish, ResourcesListChanged())
                for uri in updated:
                    await self._bus.publish(ResourceUpdated(uri))
        if scope.cancelled_caught:
            logger.warning("Not every client could be told of revision %d of the library", change.revision)

    async def hold(self, ctx: Context) -> None:
        """Return once the caller's client has re-listed after the last announcement, or need not be waited for."""
        follower = self._followers.get(pipe_of(ctx))
        if follower is None or not follower.relists or follower.announced_at is None:
            return
        with anyio.move_on_after(HOLD_SECONDS) as scope:
            await follower.relisted.wait()
        if scope.cancelled_caught:
            follower.relists = False


async def _tell(connection: Connection, ctx: Context | None, news: Collection[str]) -> None:
    try:
        if ctx is None:
            await connection.send_tool_list_changed()
        else:
            # On the caller's own request, so that it also reaches HTTP clients that keep no GET stream open.
            await ctx.session.send_notification(ToolListChangedNotification(), related_request_id=ctx.request_id)
        for uri in news:
            await connection.send_resource_updated(uri)
    except Exception:  # boundary: the change is kept, telling of it is best effort
        logger.exception("A client could not be told that the tool list changed")


def connection_of(ctx: Context) -> Connection:
    # The SDK gives handlers no public way to their connection (mcp 2.3).
    return ctx.session._connection


def pipe_of(ctx: Context) -> object | None:
    """What tells clients apart: their outgoing channel, one per connection also where 2026-07-28 makes a `Connection`
    for every request. None where there is no lasting one."""
    connection = connection_of(ctx)
    return connection.outbound if connection.has_standalone_channel else None
