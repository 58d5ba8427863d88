"""SSE as it was before streamable HTTP: a stream of answers at one path, messages at another."""

from __future__ import annotations

import re
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.sse import SseServerTransport
from mcp_types import JSONRPCNotification, JSONRPCRequest, RequestId, jsonrpc_message_adapter
from pydantic import ValidationError
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from dynasaur_mcp.server.door import peek, refuse

_PREFIX = re.compile(r"(/[\w.~-]+)+")


class Sse:
    """The application of the first path; `post` is that of the other."""

    def __init__(self, server: Server[Any], messages_path: str, most_unanswered: int) -> None:
        """
        Args:
            most_unanswered: Requests of one stream. What is posted is taken at once, also where nobody reads that.
        """
        self._server = server
        self._transport = SseServerTransport(messages_path)
        self._most_unanswered = most_unanswered
        self._unanswered: dict[str, set[RequestId]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The stream, for as long as the client reads it. Where messages go it tells as a path, as clients there are
        take no other; behind a proxy that has taken a prefix off ours, with that prefix."""
        if scope["method"] != "GET":  # starlette takes HEAD for it, which would hold a stream that says nothing
            await PlainTextResponse("Method Not Allowed\n", 405, {"Allow": "GET"})(scope, receive, send)
            return
        prefix = Request(scope).headers.get("x-forwarded-prefix", "").rstrip("/")
        scope = {**scope, "root_path": prefix if _PREFIX.fullmatch(prefix) else ""}
        unanswered: set[RequestId] = set()
        session = ""

        async def watch(event: Message) -> None:
            nonlocal session
            name, _, data = event.get("body", b"").partition(b"\r\ndata: ")
            if name == b"event: endpoint":
                session = data.partition(b"session_id=")[2].strip().decode()
                self._unanswered[session] = unanswered
            await send(event)
            if name == b"event: message" and "method" not in (message := from_json(data)):
                unanswered.discard(message.get("id"))

        try:
            async with self._transport.connect_sse(scope, receive, watch) as (read, write):
                await self._server.run(read, write, self._server.create_initialization_options())
        finally:
            self._unanswered.pop(session, None)

    async def post(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One message. What is none, the SDK would log with a traceback."""
        body, receive = await peek(receive)
        response: Response | None = None
        try:
            message = jsonrpc_message_adapter.validate_json(body, by_name=False) if scope["method"] == "POST" else None
        except ValidationError:
            response = PlainTextResponse("No message of JSON-RPC\n", 400)
        else:
            unanswered = self._unanswered.get(Request(scope).query_params.get("session_id", ""), set())
            if len(unanswered) >= self._most_unanswered:
                response = refuse(429, f"{self._most_unanswered} requests are unanswered, which is the most.", 1)
            elif isinstance(message, JSONRPCRequest):
                unanswered.add(message.id)
            elif isinstance(message, JSONRPCNotification) and message.method == "notifications/cancelled":
                unanswered.discard((message.params or {}).get("requestId"))
        await (response or self._transport.handle_post_message)(scope, receive, send)
