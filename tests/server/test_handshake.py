"""What clients are told as they connect, each in its own era's words."""

from __future__ import annotations

from base64 import b64decode
from xml.etree import ElementTree

import pytest
from mcp.client import Client
from mcp.client._memory import InMemoryTransport
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from .conftest import Keep, Serve

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("era", ["legacy", "auto"])
async def test_clients_are_given_an_icon_as_they_connect_and_not_again(serve: Serve, keep: Keep, era: str) -> None:
    keep("add")
    async with serve() as (server, _), Client(InMemoryTransport(server), mode=era) as client:
        assert client.protocol_version == ("2025-11-25" if era == "legacy" else "2026-07-28")
        assert client.server_info is not None
        (icon,) = client.server_info.icons or []
        listed = await client.list_tools()
        called = await client.call_tool("search_actions", {"query": "add"})
    kind, _, data = icon.src.partition(",")
    assert kind == f"data:{icon.mime_type};base64"
    assert ElementTree.fromstring(b64decode(data, validate=True)).tag == "{http://www.w3.org/2000/svg}svg"
    assert len(icon.src) < 1000
    assert "icons" not in listed.model_dump_json(by_alias=True, exclude_none=True)
    assert "icons" not in called.model_dump_json(by_alias=True, exclude_none=True)


async def test_clients_of_before_icons_are_given_none(serve: Serve) -> None:
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "old", "version": "1"}}
    request = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    async with serve() as (server, _), InMemoryTransport(server) as (read, write):
        await write.send(SessionMessage(jsonrpc_message_adapter.validate_python(request)))
        answer = await read.receive()
        assert isinstance(answer, SessionMessage)
        told = answer.message.model_dump(by_alias=True)["result"]
    assert told["protocolVersion"] == "2025-06-18"
    assert told["serverInfo"]["name"] == "dynasaur-mcp"
    assert "icons" not in told["serverInfo"]


async def test_both_eras_get_their_own_envelope(serve: Serve) -> None:
    async with (
        serve() as (server, _),
        Client(InMemoryTransport(server), mode="legacy") as old,
        Client(InMemoryTransport(server), mode="2026-07-28") as new,
    ):
        for client in (old, new, old, new):
            result = await client.list_tools(cache_mode="bypass")
            assert bool(result.meta and "io.modelcontextprotocol/serverInfo" in result.meta) is (client is new)


async def test_handshake_says_that_the_list_changes(serve: Serve) -> None:
    async with serve() as (server, _), Client(InMemoryTransport(server), mode="legacy") as client:
        assert client.server_capabilities.tools is not None
        assert client.server_capabilities.tools.list_changed
        assert client.instructions is not None
        assert len(client.instructions.split()) <= 120
