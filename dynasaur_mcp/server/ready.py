"""Lists within results that are kept as JSON, and written as they are, however often they are asked for.

The SDK serialises what goes over HTTP, and has no way past that. So it gets a word that stands for the list, which
takes its place in what the SDK sends. Over SSE, where no answer goes back with its request, lists they are.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from contextvars import ContextVar
from functools import cached_property

from mcp_types import JSONRPCMessage, JSONRPCResponse
from pydantic_core import from_json
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dynasaur_mcp.types import JSON

takes_words: ContextVar[bool] = ContextVar("takes_words", default=False)
"""Whether the answer to the request at hand goes through `write_message`."""

_CARRIED = "dynasaur_mcp.lists"
"""In the scope of an HTTP request: the lists in its answer."""


class Ready(str):
    """The word that stands for a list: nobody can know it, and no other text holds it."""

    json: bytes
    _ending: tuple[bytes, bytes] = (b"", b"")

    def __new__(cls, items: Iterable[bytes]) -> Ready:
        """
        Args:
            items: Each as JSON.
        """
        word = super().__new__(cls, secrets.token_hex(16))
        word.json = b"[" + b",".join(items) + b"]"
        return word

    @cached_property
    def items(self) -> list[JSON]:
        """Not to be changed."""
        return from_json(self.json)  # type: ignore[no-any-return]

    def ending_in(self, end: bytes) -> bytes:
        """The list and what comes after it, joined and kept: that is the same in all answers of the stateless era."""
        if self._ending[0] != end:
            self._ending = end, self.json + end
        return self._ending[1]


def carry(ready: Ready, request: object) -> str | list[JSON]:
    """What goes into the result of a request: the word where the list will take its place."""
    if takes_words.get():
        return ready
    carried = request.scope.get(_CARRIED) if isinstance(request, Request) else None
    if carried is None:
        return ready.items
    carried.append(ready)
    return ready


def write_message(message: JSONRPCMessage) -> list[bytes]:
    """A message as JSON, in parts."""
    text = message.model_dump_json(by_alias=True, exclude_unset=True).encode()
    values = message.result.values() if isinstance(message, JSONRPCResponse) else ()
    return put_in(text, [value for value in values if isinstance(value, Ready)])


def put_in(text: bytes, lists: Iterable[Ready], *, is_whole: bool = False) -> list[bytes]:
    """JSON, with lists in place of the words for them, in parts: to join these takes as long as to send them.

    Args:
        is_whole: It is an answer by itself, no event of a stream.
    """
    parts = [text]
    for ready in lists:
        before, word, after = parts.pop().partition(b'"' + ready.encode() + b'"')
        if not word:
            parts.append(before)
        elif is_whole:
            parts += [before, ready.ending_in(after)]
        else:
            parts += [before, ready.json, after]
    return parts


class Carrier:
    """An application whose answers have lists in place of the words for them."""

    def __init__(self, app: ASGIApp) -> None:
        """
        Args:
            app: Sends an answer whole, or event by event.
        """
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        carried: list[Ready] = []
        head: Message | None = None

        async def send_lists(message: Message) -> None:
            nonlocal head
            if message["type"] == "http.response.start":
                if "content-length" in MutableHeaders(scope=message):
                    head = message  # its body follows at once, and may become longer
                else:
                    await send(message)
                return
            *parts, last = put_in(message.get("body", b""), carried, is_whole=head is not None)
            if head:
                if parts:
                    MutableHeaders(scope=head)["content-length"] = str(sum(map(len, (*parts, last))))
                await send(head)
                head = None
            for part in parts:
                await send({**message, "body": part, "more_body": True})
            await send({**message, "body": last})

        await self._app({**scope, _CARRIED: carried}, receive, send_lists)
