"""SSE as it was before streamable HTTP: a stream of answers at one path, messages at another."""

from __future__ import annotations

from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.sse import SseServerTransport
from mcp_types import jsonrpc_message_adapter
from pydantic import ValidationError
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from dynasaur_mcp.server.door import peek


class Sse:
    """The application of the first path; `post` is that of the other."""

    def __init__(self, server: Server[Any], messages_path: str) -> None:
        self._server = server
        self._transport = SseServerTransport(messages_path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The stream, for as long as the client reads it."""
        async with self._transport.connect_sse(scope, receive, send) as (read, write):
            await self._server.run(read, write, self._server.create_initialization_options())

    async def post(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One message. What is none, the SDK would log with a traceback."""
        body, receive = await peek(receive)
        try:
            if scope["method"] == "POST":
                jsonrpc_message_adapter.validate_json(body, by_name=False)
        except ValidationError:
            await PlainTextResponse("No message of JSON-RPC\n", 400)(scope, receive, send)
            return
        await self._transport.handle_post_message(scope, receive, send)
