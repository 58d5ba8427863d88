"""Requests for the tool list over HTTP that need the SDK only once.

It takes several times as long to check one, bring it to its handler and write the answer, as to send a page. So what
was answered is answered again, without it and its span, to a request that differs in nothing but its id.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from mcp_types import RequestId
from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.types import Scope, Send

from dynasaur_mcp.server.ready import Ready, put_in

QUESTION_CHARACTERS = 4096
"""No client that does nothing but list says more; and what was asked is kept."""
SESSION_HEADER = b"mcp-session-id"

_QUESTION = "dynasaur_mcp.question"
"""In the scope of an HTTP request: all of it but its id."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request for the list."""

    id: RequestId
    rest: str
    """All else that its answer could hang on, but who asks: headers and body."""

    def ask(self, scope: Scope) -> Scope:
        """The scope of its request, for `question_of`."""
        return {**scope, _QUESTION: self.rest}


def read_question(scope: Scope, body: bytes) -> Question | None:
    """None where it is none, or one that is seldom asked."""
    if scope["method"] != "POST" or len(body) > QUESTION_CHARACTERS:
        return None
    try:
        message = from_json(body)
    except ValueError:
        return None
    if not isinstance(message, dict) or message.get("method") != "tools/list":
        return None
    request_id = message.pop("id", None)
    if type(request_id) not in (int, str):
        return None
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if name in (b"accept", b"content-type") or (name.startswith(b"mcp-") and name != SESSION_HEADER)
    ]
    rest = repr((headers, message))
    return Question(request_id, rest) if len(rest) <= QUESTION_CHARACTERS else None


def question_of(request: object) -> str | None:
    """What was asked by the request that the SDK brings, if that can be asked again."""
    return request.scope.get(_QUESTION) if isinstance(request, Request) else None


class Answer:
    """A result that has a list in it, as its requests are answered."""

    def __init__(self, result: dict[str, Any], tools: Ready) -> None:
        """
        Args:
            result: With the word for the list.
        """
        self._before, self._list = put_in(b',"result":' + to_json(result) + b"}", [tools], is_whole=True)

    async def send(self, question: Question, session: str | None, send: Send) -> None:
        """
        Args:
            session: Of the protocol, where there is one.
        """
        before = b'{"jsonrpc":"2.0","id":' + json.dumps(question.id).encode() + self._before
        length = str(len(before) + len(self._list)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        if session:
            headers.append((SESSION_HEADER, session.encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": before, "more_body": True})
        await send({"type": "http.response.body", "body": self._list, "more_body": False})
