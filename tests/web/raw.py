"""Messages over HTTP as they are, for what no client of the SDK would do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2


def rpc(number: int, method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def call(number: int, tool: str, **arguments: Any) -> dict[str, Any]:
    return rpc(number, "tools/call", name=tool, arguments=arguments)


ACCEPT = {"Accept": "application/json, text/event-stream"}
INITIALIZE = rpc(
    1, "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo={"name": "raw", "version": "1"}
)


async def shake_hands(http: httpx2.AsyncClient) -> dict[str, str]:
    """The headers of a session of the handshake era."""
    answer = await http.post("/mcp", json=INITIALIZE, headers=ACCEPT)
    headers = ACCEPT | {"Mcp-Session-Id": answer.headers["mcp-session-id"], "MCP-Protocol-Version": "2025-11-25"}
    initialized = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert (await http.post("/mcp", json=initialized, headers=headers)).status_code == 202
    return headers


async def events_of(response: httpx2.Response) -> AsyncIterator[tuple[str, str]]:
    """Id and data of each."""
    event: dict[str, str] = {}
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if line:
            event[name.rstrip(":")] = value
        elif event:
            if "data" in event:
                yield event.get("id", ""), event["data"]
            event = {}
