"""Clients of both eras hear of changes, and a client that re-lists has done so before its own definition returns."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.client._memory import InMemoryTransport
from mcp.client.subscriptions import ResourceUpdated, ToolsListChanged
from mcp.shared.exceptions import MCPError
from mcp_types import ResourceUpdatedNotification, ToolListChangedNotification

from dynasaur_mcp.server import announce
from dynasaur_mcp.types import LibraryChanged

from .conftest import Keep, Serve

pytestmark = pytest.mark.anyio


class Listener:
    """A client, what it heard, and whether it re-lists when it hears of a change."""

    def __init__(self, *, relists: bool) -> None:
        self.client: Client
        self._relists = relists
        self.heard = 0
        self.seen: list[str] = []
        self._heard_event = anyio.Event()

    async def on_change(self) -> None:
        self.heard += 1
        if self._relists:
            listed = await self.client.list_tools(cache_mode="bypass")
            self.seen = [tool.name for tool in listed.tools]
        self._heard_event.set()

    async def wait(self) -> None:
        with anyio.fail_after(5):
            await self._heard_event.wait()
        self._heard_event = anyio.Event()


@asynccontextmanager
async def open_old(server: Any, *, relists: bool = True) -> AsyncIterator[Listener]:
    """A client of the handshake era. It re-lists in a task of its own, as its reader must go on reading."""
    listener = Listener(relists=relists)
    async with anyio.create_task_group() as tasks:

        async def on_message(message: Any) -> None:
            if isinstance(message, ToolListChangedNotification):
                tasks.start_soon(listener.on_change)

        async with Client(InMemoryTransport(server), mode="legacy", message_handler=on_message) as client:
            listener.client = client
            await client.list_tools()
            yield listener


@asynccontextmanager
async def open_new(server: Any, *, relists: bool = True) -> AsyncIterator[Listener]:
    """A client of 2026-07-28 that listens for changes of the tool list."""
    listener = Listener(relists=relists)

    async def follow(subscription: Any) -> None:
        async for event in subscription:
            assert isinstance(event, ToolsListChanged)
            await listener.on_change()

    async with Client(InMemoryTransport(server), mode="2026-07-28") as client:
        listener.client = client
        await client.list_tools()
        async with client.listen(tools_list_changed=True) as subscription, anyio.create_task_group() as tasks:
            tasks.start_soon(follow, subscription)
            yield listener
            tasks.cancel_scope.cancel()


OPENERS = pytest.mark.parametrize("open_client", [open_old, open_new])


@OPENERS
async def test_change_found_in_the_folder_reaches_every_client(serve: Serve, open_client: Any) -> None:
    async with serve() as (server, announcer), open_client(server) as one, open_client(server) as other:
        await announcer.publish(LibraryChanged(2, ("add",)))
        await one.wait()
        await other.wait()


@OPENERS
async def test_change_made_by_one_client_reaches_the_others_too(serve: Serve, keep: Keep, open_client: Any) -> None:
    keep("add")
    async with serve(expose="pinned") as (server, _), open_client(server) as one, open_client(server) as other:
        result = await one.client.call_tool("manage_action", {"name": "add", "op": "pin"})
        assert not result.is_error
        await one.wait()
        await other.wait()
        assert "add" in one.seen
        assert "add" in other.seen
        assert (one.heard, other.heard) == (1, 1)


@OPENERS
async def test_result_waits_until_a_client_known_to_relist_has_done_so(
    serve: Serve, keep: Keep, open_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep("add")
    monkeypatch.setattr(announce, "HOLD_SECONDS", 60.0)  # so that a missed re-listing shows as a failure
    async with serve(expose="pinned") as (server, _), open_client(server) as listener:
        await listener.client.call_tool("manage_action", {"name": "add", "op": "pin"})
        await listener.wait()
        with anyio.fail_after(5):
            await listener.client.call_tool("manage_action", {"name": "add", "op": "unpin"})
        assert "add" not in listener.seen


@OPENERS
async def test_client_that_never_relists_does_not_wait(
    serve: Serve, keep: Keep, open_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep("add")
    monkeypatch.setattr(announce, "HOLD_SECONDS", 60.0)
    async with serve() as (server, _), open_client(server, relists=False) as listener:
        with anyio.fail_after(5):
            for op in ("pin", "unpin", "pin"):
                await listener.client.call_tool("manage_action", {"name": "add", "op": op})


@OPENERS
async def test_client_that_stops_relisting_is_waited_for_once(
    serve: Serve, keep: Keep, open_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep("add")
    async with serve() as (server, _), open_client(server) as listener:
        await listener.client.call_tool("manage_action", {"name": "add", "op": "pin"})
        await listener.wait()
        listener._relists = False
        monkeypatch.setattr(announce, "HOLD_SECONDS", 0.01)
        await listener.client.call_tool("manage_action", {"name": "add", "op": "unpin"})
        monkeypatch.setattr(announce, "HOLD_SECONDS", 60.0)
        with anyio.fail_after(5):
            await listener.client.call_tool("manage_action", {"name": "add", "op": "pin"})


@OPENERS
async def test_request_that_changes_nothing_is_not_held(
    serve: Serve, keep: Keep, open_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep("add")
    async with serve() as (server, announcer), open_client(server) as listener:
        await listener.client.call_tool("manage_action", {"name": "add", "op": "pin"})
        await listener.wait()
        listener._relists = False
        await announcer.publish(LibraryChanged(2, ("add",)))
        monkeypatch.setattr(announce, "HOLD_SECONDS", 60.0)
        with anyio.fail_after(5):
            await listener.client.call_tool("manage_action", {"name": "add", "op": "show"})


@OPENERS
async def test_client_that_left_is_forgotten(serve: Serve, open_client: Any) -> None:
    async with serve() as (server, announcer):
        async with open_client(server):
            assert len(announcer._peers) == 1
        assert len(announcer._peers) == 0
        await announcer.publish(LibraryChanged(2, ("add",)))


async def test_client_that_does_not_listen_hears_nothing_unasked(serve: Serve, keep: Keep) -> None:
    keep("add")
    unasked: list[Any] = []

    async def on_message(message: Any) -> None:
        unasked.append(message)

    async with (
        serve() as (server, _),
        Client(InMemoryTransport(server), mode="2026-07-28", message_handler=on_message) as client,
    ):
        await client.call_tool("manage_action", {"name": "add", "op": "pin"})
        await client.list_tools(cache_mode="bypass")
        assert unasked == []


@pytest.mark.filterwarnings("ignore:resources/(un)?subscribe is removed")
async def test_subscriber_of_an_action_hears_of_its_changes_only_and_only_until_it_unsubscribes(serve: Serve) -> None:
    heard: list[str] = []

    async def hear(message: Any) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            heard.append(message.params.uri)

    async with (
        serve() as (server, announcer),
        Client(InMemoryTransport(server), mode="legacy", message_handler=hear) as client,
    ):
        await client.list_tools()
        assert client.server_capabilities.resources.subscribe
        await client.subscribe_resource("dynasaur://actions/add")
        await announcer.publish(LibraryChanged(1, ("add", "other")))
        await client.list_tools()  # its answer comes after what was sent before
        assert heard == ["dynasaur://actions/add"]
        await client.unsubscribe_resource("dynasaur://actions/add")
        await announcer.publish(LibraryChanged(2, ("add",)))
        await client.list_tools()
        assert heard == ["dynasaur://actions/add"]


async def test_listener_hears_of_the_actions_that_it_named(serve: Serve) -> None:
    async with (
        serve() as (server, announcer),
        Client(InMemoryTransport(server), mode="2026-07-28") as client,
        client.listen(resource_subscriptions=["dynasaur://actions/add"]) as subscription,
    ):
        await announcer.publish(LibraryChanged(1, ("other", "add")))
        with anyio.fail_after(5):
            assert await subscription.__anext__() == ResourceUpdated("dynasaur://actions/add")


@pytest.mark.filterwarnings("ignore:resources/(un)?subscribe is removed")
async def test_subscriptions_of_a_client_are_bounded(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announce, "MAX_SUBSCRIBED", 1)
    async with serve() as (server, _), Client(InMemoryTransport(server), mode="legacy") as client:
        await client.subscribe_resource("dynasaur://actions/add")
        with pytest.raises(MCPError, match="which is the most"):
            await client.subscribe_resource("dynasaur://actions/other")
