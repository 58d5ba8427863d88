"""Sessions of the protocol, as clients of the handshake era open them over streamable HTTP."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import anyio
from mcp.server.auth.middleware.bearer_auth import authorization_context
from mcp.server.lowlevel import Server
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER, EventStore
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dynasaur_mcp.server.door import peek, refuse
from dynasaur_mcp.server.events import EventLog, Events
from dynasaur_mcp.server.pages import Pages
from dynasaur_mcp.server.questions import Question, read_question

RETRY_MILLISECONDS = 1000
"""After which a client is to come back for a stream that ended before its answer."""
MOST_SESSIONS = 10_000
"""Sessions of the protocol, of all principals together."""
LEFT_SECONDS = 60
"""A client that was killed has not ended its session; after so long without a request it need not be kept for it."""


class Sessions(StreamableHTTPSessionManager):
    """The sessions of clients of the handshake era, each with events of its own."""

    def __init__(
        self,
        server: Server[Any],
        most_each: int,
        pages: Pages | None = None,
        most: int = MOST_SESSIONS,
        left_seconds: float = LEFT_SECONDS,
    ) -> None:
        """
        Args:
            pages: Of the tool list, if there is one.
            most_each: Of one principal.
            most: Of all.
            left_seconds: One without a request for so long makes room for another of its principal's.
        """
        self._pages = pages
        self._left_seconds = left_seconds
        self._log = EventLog()
        self._most_each = most_each
        self._most = most
        self._asked: set[tuple[str | None, str | None]] = set()
        # The SDK's own bound does not tell a client when to come back.
        super().__init__(server, retry_interval=RETRY_MILLISECONDS, max_sessions=None)

    async def handle_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, receive = await peek(receive)
        question = read_question(scope, body)
        if self._pages is None or question is None:
            await super().handle_request(scope, receive, send)
            return
        answer = self._pages.find_answer(question, frozenset(scope["user"].scopes))
        if answer and is_stateless(scope):
            await answer.send(question, None, send)
        elif answer and (session := self._find_to_list(self._pages, question, scope)):
            await answer.send(question, session, send)
        else:
            await super().handle_request(question.ask(scope), receive, send)

    def _find_to_list(self, pages: Pages, question: Question, scope: Scope) -> str | None:
        """The session of the protocol of a client that may list there, and now has; None where the SDK is to judge."""
        session = session_of(scope) or ""
        transport = self._server_instances.get(session)
        idle = transport.idle_scope if transport else None
        if (
            idle is None
            or idle.cancel_called
            or self._session_owners.get(session) != authorization_context(scope["user"])
            or (session, str(question.id)) in self._asked
            or not pages.note_listing(session)
        ):
            return None
        if idle.deadline != math.inf:  # else another request is open
            idle.deadline = anyio.current_time() + (self.session_idle_timeout or 0)
        return session

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
        session = session_of(scope)
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


def session_of(scope: Scope) -> str | None:
    """Of the protocol."""
    return Request(scope).headers.get(MCP_SESSION_ID_HEADER)


def is_stateless(scope: Scope) -> bool:
    """Whether a request is of the era without sessions."""
    return Request(scope).headers.get("mcp-protocol-version") in MODERN_PROTOCOL_VERSIONS


def read_id(body: bytes) -> str | None:
    """Of a request; 1 and "1" are the same for the SDK. None where there is none."""
    try:
        message = from_json(body)
    except ValueError:
        return None
    return str(message["id"]) if isinstance(message, dict) and {"id", "method"} <= message.keys() else None
