"""What no good client sends, for hypothesis to draw: requests as good ones send them, broken in one place or more."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st
from mcp_types import CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY, PROTOCOL_VERSION_META_KEY

from .conftest import TOKEN
from .raw import INITIALIZE, call, rpc
from .test_clients import DOUBLE

Draw = st.DrawFn
Headers = list[tuple[bytes, bytes]]

SESSION, SSE_SESSION = b"{session}", b"{sse}"
"""In place of the ids of two that are open as it is sent."""

MESSAGES = [
    INITIALIZE,
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1, "reason": "none"}},
    {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 0.5}},
    {"jsonrpc": "2.0", "id": 1, "result": {"roots": []}},
    {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "no"}},
    rpc(2, "ping"),
    rpc(2, "server/discover"),
    rpc(2, "tools/list", cursor="0"),
    rpc(2, "resources/list"),
    rpc(2, "resources/templates/list"),
    rpc(2, "resources/read", uri="dynasaur://actions/double"),
    rpc(2, "resources/read", uri="dynasaur://sessions/default/files/a.txt?offset=1"),
    rpc(2, "resources/subscribe", uri="dynasaur://runs/00000000/output"),
    rpc(2, "prompts/list"),
    rpc(2, "prompts/get", name="dynasaur", arguments={"task": "none"}),
    rpc(
        2, "completion/complete", ref={"type": "ref/prompt", "name": "dynasaur"}, argument={"name": "task", "value": ""}
    ),
    rpc(2, "logging/setLevel", level="debug"),
    rpc(2, "subscriptions/listen", notifications={"toolsListChanged": True}),
    call(2, "search_actions", query="double a number", limit=5, detail="full"),
    call(2, "run_python", code="1 + 1", session="default", timeout_seconds=5),
    call(2, "define_action", source=DOUBLE, tags=["number"], anyway=False),
    call(2, "execute_action", name="double", arguments={"number": 2}, session="default"),
    call(2, "manage_action", name="double", op="show", version=1),
    call(2, "check_run", run="00000000", wait_seconds=0, cancel=True),
    rpc(2, "tools/call", name="double", arguments={"number": 2}),
]
META = {
    PROTOCOL_VERSION_META_KEY: "2026-07-28",
    CLIENT_INFO_META_KEY: {"name": "raw", "version": "1"},
    CLIENT_CAPABILITIES_META_KEY: {},
}
_DEEP = 100_000
FRAGMENTS = [
    *(b"null", b"true", b"0", b"-1", b"1.5", b'""', b"[]", b"{}", b"NaN", b"-Infinity", b"1e999", b"-0"),
    *(b"9" * 400, b"9" * 5000, b"9223372036854775808", b'"\\ud800"', b'"\\u0000"', b'"\xff\xfe"', b"\x00", b"'"),
    *(b"[" * _DEEP, b"[" * _DEEP + b"]" * _DEEP, b'{"a":' * _DEEP, b"[" * 150 + b"]" * 150, b'{"id":1,"id":2}'),
    *(b'"2026-07-28"', b'"2025-11-25"', b'"1999-01-01"', b'"../../../etc/passwd"', b'"file:///etc/passwd"', b'"%00"'),
    *(b'"' + b"x" * 300_000 + b'"', b"[" + b"0," * 50_000 + b"0]", b'"{{7*7}}${jndi:ldap://x}<script>"', b"1,,2"),
    *(b'["a"]', b'{"a":{"b":1}}', b'"dynasaur://"', b'"dynasaur://actions/"', b'"dynasaur://[::1"', b'"\\n\\r\\u2028"'),
]
"""To stand for any part of a message; not all are JSON."""
_MARK = "\x7fmark\x7f"
ODD_BODIES = [
    *(b"", b" ", b"[]", b"{", b"null", b'"text"', b"1", b"\x00" * 64, b"\xef\xbb\xbf{}", bytes(range(256))),
    *(b"x" * 100_000, b"[" * 4_500_000, b"{" * 1_000_000, b'{"jsonrpc":' * 9999, b"<xml/>", b"a=1&b=2"),
    '{"jsonrpc":"2.0","id":1,"method":"ping"}'.encode("utf-16"),
]
PATHS = [
    *(b"/mcp", b"/mcp", b"/mcp", b"/mcp", b"/mcp", b"/mcp", b"/messages/?session_id={sse}", b"/sse", b"/healthz"),
    *(b"/readyz", b"/metrics", b"/", b"/mcp/", b"/MCP", b"//mcp", b"/messages/", b"/messages/?session_id=" + b"0" * 32),
    *(b"/messages/?session_id=x", b"/messages/%00", b"/sse/../mcp", b"/mcp?%ff=%00", b"/nothing", b"*", b"/%2e%2e/%2e"),
    *(b"/.well-known/oauth-protected-resource", b"/.well-known/oauth-protected-resource/mcp", b"/\xc3\xa9", b"/a b"),
    *(b"/" + b"x" * 8_000, b"/" + b"x" * 100_000, b"http://127.0.0.1/mcp", b"mcp", b"/metrics?name[]=%ff", b"/mcp#x"),
]
METHODS = [
    *(b"POST", b"POST", b"POST", b"POST", b"POST", b"POST", b"GET", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"HEAD"),
    *(b"TRACE", b"CONNECT", b"post", b"PRI", b"X" * 5_000, b"\x00", b""),
]
ODD_VALUES = [
    *(b"", b" ", b"0", b"-1", b"\xff\xfe", b"*/*", b"text/plain", b"application/json; charset=utf-16", b"1999-01-01"),
    *(b"2026-07-28", b"2025-11-25", b"2024-11-05", b"x" * 10_000, b"x" * 200_000, b"gzip", b"null", b"tools/call"),
    *(b"multipart/form-data; boundary=" + b"-" * 100, b"text/event-stream", b"a,b,,c;q=9", b"\x00", b"a\r\n b", b'"'),
    *(b"=?base64?////?=", b"Bearer", b"Bearer \xff", b"Bearer " + b"x" * 9_000, b"Bearer a.b.c", b"Basic OjpAOg=="),
    *(
        b"Bearer eyJhbGciOiJub25lIiwia2lkIjoiLi4vLi4ifQ.e30.",
        b"websocket",
        b"upgrade",
        b"127.0.0.1",
        b"[::1",
        b"999999",
    ),
]
NAMES = [
    *(b"Host", b"Accept", b"Content-Type", b"Authorization", b"Mcp-Session-Id", b"MCP-Protocol-Version", b"Mcp-Method"),
    *(b"Mcp-Name", b"Mcp-Param-X", b"Last-Event-ID", b"Origin", b"Sec-Fetch-Site", b"Content-Encoding", b"Cookie"),
    *(
        b"Upgrade",
        b"Connection",
        b"Content-Length",
        b"Transfer-Encoding",
        b"Expect",
        b"Range",
        b"X" * 9_000,
        b"a b",
        b"",
    ),
    *(b"Access-Control-Request-Method", b"Access-Control-Request-Headers", b"X-Forwarded-For", b"traceparent"),
]
FRAMINGS = ["length", "length", "length", "length", "chunked", "none", "short", "long", "cut", "cut chunk", "bad chunk"]


@dataclass(frozen=True, slots=True)
class Bad:
    """One request."""

    method: bytes
    path: bytes
    headers: Headers
    body: bytes
    framing: str

    @property
    def ends_too_early(self) -> bool:
        """What was announced does not come."""
        return self.framing in ("long", "cut", "cut chunk")

    def wire(self) -> bytes:
        size, body = len(self.body), self.body
        match self.framing:
            case "length":
                framing, sent = f"Content-Length: {size}", body
            case "chunked":
                framing, sent = (
                    "Transfer-Encoding: chunked",
                    b"%x\r\n%b\r\n0\r\n\r\n" % (size, body) if size else b"0\r\n\r\n",
                )
            case "none":
                framing, sent = "X-Framing: none", body
            case "short":
                framing, sent = f"Content-Length: {size // 2}", body
            case "long":
                framing, sent = f"Content-Length: {size + 1000}", body
            case "cut":
                framing, sent = f"Content-Length: {size}", body[: size // 2]
            case "cut chunk":
                framing, sent = "Transfer-Encoding: chunked", b"%x\r\n%b" % (size + 10, body)
            case _:
                framing, sent = "Transfer-Encoding: chunked", b"-1\r\n%b\r\n" % body
        lines = [b"%b %b HTTP/1.1" % (self.method, self.path), framing.encode()]
        lines += [b"%b: %b" % header for header in self.headers]
        return b"\r\n".join([*lines, b"", sent])


def _places(node: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of all parts of a message."""
    yield place
    for key, part in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from _places(part, (*place, key))


_CHOICES = {id(message): list(_places(message))[1:] for message in MESSAGES}


@st.composite
def broken_messages(draw: Draw) -> bytes:
    """A JSON-RPC message that is wrong in a place, as bytes; a few are whole."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.one_of(st.sampled_from(ODD_BODIES), st.binary(max_size=200)))
    chosen = draw(st.sampled_from(MESSAGES))
    message: Any = copy.deepcopy(chosen)
    if message.get("id") == 2:
        message["id"] = draw(st.integers(2, 99))
    if draw(st.booleans()):
        message.setdefault("params", {})["_meta"] = META
    fragment = b"null"
    place = draw(st.sampled_from(_CHOICES[id(chosen)]))
    parent = message
    for key in place[:-1]:
        parent = parent[key]
    how = draw(st.sampled_from(["replace", "replace", "replace", "text", "delete", "add", "whole"]))
    if how == "replace":
        parent[place[-1]], fragment = _MARK, draw(st.sampled_from(FRAGMENTS))
    elif how == "text":
        parent[place[-1]] = draw(st.text(max_size=20))
    elif how == "delete":
        del parent[place[-1]]
    elif how == "add" and isinstance(parent, dict):
        parent[draw(st.sampled_from(["", "extra", "id", "_meta", "__class__", "params", "result", "error"]))] = _MARK
        fragment = draw(st.sampled_from(FRAGMENTS))
    if (many := draw(st.integers(0, 19))) < 2:
        message = [message] * (1000 if many else 2)
    text = json.dumps(message).encode().replace(json.dumps(_MARK).encode(), fragment)
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, min(len(text), 400)))
        text = text[:at] + draw(st.sampled_from([b"", b"\x00", b"\xff", b"\n", b"}", b'"'])) + text[at + 1 :]
    return text


@st.composite
def bad_requests(draw: Draw) -> Bad:
    """One that is wrong in a place at least, but for a few."""
    body = draw(broken_messages())
    headers: Headers = [(b"Host", b"127.0.0.1"), (b"Accept", b"application/json, text/event-stream")]
    headers += [(b"Content-Type", b"application/json"), (b"Connection", b"close")]
    if draw(st.integers(0, 2)):
        headers.append((b"Authorization", b"Bearer " + TOKEN.encode()))
    match draw(st.sampled_from(["none", "legacy", "session", "session", "modern", "modern"])):
        case "legacy":
            headers.append((b"MCP-Protocol-Version", b"2025-11-25"))
        case "session":
            headers += [(b"MCP-Protocol-Version", b"2025-11-25"), (b"Mcp-Session-Id", SESSION)]
        case "modern":
            headers.append((b"MCP-Protocol-Version", b"2026-07-28"))
            headers += _routing(body)
    request = Bad(b"POST", b"/mcp", headers, body, "length")
    for what in draw(st.lists(st.sampled_from(["header", "header", "method", "path", "framing"]), max_size=2)):
        if what == "header":
            request = replace(request, headers=draw(_wrong_headers(request.headers)))
        elif what == "method":
            request = replace(request, method=draw(st.sampled_from(METHODS)))
        elif what == "path":
            request = replace(request, path=draw(st.sampled_from(PATHS)))
        else:
            request = replace(request, framing=draw(st.sampled_from(FRAMINGS)))
    if request.method == b"DELETE":  # else it may be a good one, and end what others are sent to
        request = replace(request, headers=[header for header in request.headers if header[1] != SESSION])
    return request


def _routing(body: bytes) -> Headers:
    """What 2026-07-28 wants to be said in headers too."""
    try:
        message = json.loads(body)
        headers = [(b"Mcp-Method", message["method"].encode())]
        name = message["params"].get("name") or message["params"].get("uri")
        return headers + ([(b"Mcp-Name", name.encode("latin-1"))] if name else [])
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return [(b"Mcp-Method", b"ping")]


@st.composite
def _wrong_headers(draw: Draw, headers: Headers) -> Headers:
    how = draw(st.sampled_from(["drop", "change", "add", "double", "many"]))
    at = draw(st.integers(0, len(headers) - 1))
    if how == "drop":
        return headers[:at] + headers[at + 1 :]
    if how == "double":
        return [*headers, headers[at]]
    if how == "many":
        return headers + [(b"X-%d" % number, b"x") for number in range(draw(st.sampled_from([100, 5000])))]
    value = draw(st.one_of(st.sampled_from(ODD_VALUES), st.binary(max_size=30)))
    if how == "add":
        return [*headers, (draw(st.sampled_from(NAMES)), value)]
    return [*headers[:at], (headers[at][0], value), *headers[at + 1 :]]
