"""What every HTTP request passes before it is served, from outside in: its Host and Origin, its token, its turn."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import anyio
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.context import CallNext, HandlerResult
from mcp.server.transport_security import (
    DEFAULT_MAX_REQUEST_BODY_SIZE,
    RequestBodyLimitMiddleware,
    TransportSecurityMiddleware,
    TransportSecuritySettings,
)
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dynasaur_mcp.server.announce import Context
from dynasaur_mcp.server.auth import principal_of_token

LISTEN = "subscriptions/listen"
SETTLE_SECONDS = 0.2
"""After the last call has its result: for that to go out on an SSE stream, which nothing tells the end of."""

STOPPING_SECONDS = 10
"""After which a client may find another server where this one was."""


_EXPIRED = PlainTextResponse(
    "The token has expired.\n",
    401,
    {"WWW-Authenticate": 'Bearer error="invalid_token", error_description="The token has expired"'},
)


class Guard:
    """Refuses a Host that is not ours, so that no name can be rebound to us, and an Origin that may not call us."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str], origins: Sequence[str]) -> None:
        self._app = app
        allowed = [pattern for host in hosts for pattern in (host, f"{host}:*")]
        self._security = TransportSecurityMiddleware(
            TransportSecuritySettings(allowed_hosts=allowed, allowed_origins=list(origins))
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The SDK compares as they are; but names are the same in capitals.
        headers = [(name, value.lower() if name == b"host" else value) for name, value in scope["headers"]]
        request = Request({**scope, "headers": headers})
        refused = await self._security.validate_request(request)
        if not refused and is_of_foreign_page(request):
            refused = PlainTextResponse("No pages of other sites\n", 403)
        await (refused or self._app)(scope, receive, send)


def is_of_foreign_page(request: Request) -> bool:
    """Whether a page of another site asks without an Origin, as images, scripts and plain GETs do.

    They could read nothing; but nor should they be able to tell that something is here.
    """
    site = request.headers.get("sec-fetch-site", "none")
    return "origin" not in request.headers and site in ("cross-site", "same-site")


def take_whole(app: ASGIApp) -> ASGIApp:
    """The same application, for requests that have come to their end; of others there is nobody left to answer."""

    async def whole(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        if message["type"] == "http.request" and not message["more_body"]:
            await app(scope, after(message, receive), send)

    return RequestBodyLimitMiddleware(whole, DEFAULT_MAX_REQUEST_BODY_SIZE)


async def peek(receive: Receive) -> tuple[bytes, Receive]:
    """The body of a request that is whole, and what gives it again."""
    message = await receive()
    return message.get("body", b""), after(message, receive)


def after(message: Message, receive: Receive) -> Receive:
    """Gives the message first."""
    messages = [message]

    async def receive_next() -> Message:
        return messages.pop() if messages else await receive()

    return receive_next


class Turns:
    """The requests that are open, and the calls at work: bounded for each principal, waited for at the end."""

    def __init__(self, most_each: int) -> None:
        self.is_closed = False
        """No new request is served."""
        self.calls = 0
        self._most_each = most_each
        self._by_principal: Counter[str] = Counter()
        self._open: dict[anyio.CancelScope, bool] = {}
        """Whether each ends by itself."""
        self._changed = anyio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, app: ASGIApp) -> ASGIApp:
        """The same application, for those who are admitted."""

        async def admitted(scope: Scope, receive: Receive, send: Send) -> None:
            user = scope["user"]
            assert isinstance(user, AuthenticatedUser)
            principal = principal_of_token(user.access_token)
            if self.is_closed:
                refused: Response = refuse(503, "The server is stopping.", STOPPING_SECONDS)
            elif self._by_principal[principal] >= self._most_each:
                refused = refuse(429, f"You have {self._most_each} requests open, which is the most.", 1)
            else:
                self._by_principal[principal] += 1
                try:
                    await self._serve(app, scope, receive, send)
                finally:
                    self._by_principal[principal] -= 1
                    if not self._by_principal[principal]:
                        del self._by_principal[principal]
                return
            await refused(scope, receive, send)

        return admitted

    async def _serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        begun = ended = False

        async def watch(message: Message) -> None:
            nonlocal begun, ended
            begun = True
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        turn = anyio.CancelScope()
        self._open[turn] = ends_by_itself(scope)
        expires_at = scope["user"].access_token.expires_at
        if expires_at and not self._open[turn]:  # a stream may not outlive the token that opened it
            turn.deadline = anyio.current_time() + expires_at - time.time()
        try:
            with turn:
                await app(scope, receive, watch)
            if turn.cancelled_caught and not begun:
                expired = turn.deadline <= anyio.current_time()
                refused = _EXPIRED if expired else refuse(503, "The server is stopping.", STOPPING_SECONDS)
                await refused(scope, receive, send)
            elif turn.cancelled_caught and not ended:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            del self._open[turn]
            self._note_change()

    async def count(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Middleware of the MCP server: a call goes on without its request, where that was answered or broke."""
        if ctx.method == LISTEN:
            return await call_next(ctx)
        self.calls += 1
        try:
            return await call_next(ctx)
        finally:
            self.calls -= 1
            self._note_change()

    async def drain(self, seconds: float) -> None:
        """Take no more requests, and wait for those at work, at most so long."""
        self.is_closed = True
        with anyio.move_on_after(seconds):
            while self.calls or any(self._open.values()):
                await self._changed.wait()
            await anyio.sleep(SETTLE_SECONDS)

    def end(self) -> None:
        """End all that are left: streams that stay open for news."""
        for turn in list(self._open):
            turn.cancel()

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def ends_by_itself(scope: Scope) -> bool:
    return scope["method"] == "POST" and (b"mcp-method", LISTEN.encode()) not in scope["headers"]


def refuse(status: int, reason: str, wait_seconds: int) -> Response:
    return PlainTextResponse(f"{reason}\n", status, {"Retry-After": str(wait_seconds)})
