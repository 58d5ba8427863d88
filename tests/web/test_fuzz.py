"""Ten thousand bad requests: each is answered or dropped, none breaks the server, nothing of them is left in it."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.flows.conftest import Model

from .conftest import TOKEN, WebServer, start_server
from .garbage import SESSION, SSE_SESSION, Bad, bad_requests
from .raw import INITIALIZE

BATCH = 20
ANSWER_SECONDS = 20
SETTLE_SECONDS = 30
LEFT_UNREAD_BYTES = 1 << 16
"""A request larger than this may be answered before it is read to its end, and the answer lost as it breaks off."""
OURS = re.compile(rb"Traceback|site-packages|dynasaur_mcp/")
"""What no client is to read."""


@pytest.fixture(autouse=True)
def _jail(require: Callable[[str], None]) -> None:
    require("jail")


class Sender:
    """Sends bad requests to one server, and keeps a session of each kind open that they can name."""

    def __init__(self, server: WebServer) -> None:
        self.sent = 0
        self._address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        self._session = self._sse_session = b""

    @contextlib.contextmanager
    def sessions(self) -> Iterator[None]:
        with self._connect() as sse:
            sse.sendall(self._head(b"GET", b"/sse") + b"\r\n")
            heard = sse.makefile("rb")
            while b"session_id=" not in (line := heard.readline()):
                assert line, "the SSE stream ended"
            self._sse_session = line.split(b"session_id=")[1].strip()
            reader = threading.Thread(target=_read_to_the_end, args=[heard])
            reader.start()
            try:
                self._open_session()
                yield
                self._end_session(self._session)
            finally:
                sse.shutdown(socket.SHUT_RDWR)
                reader.join()
                heard.close()

    def send(self, requests: list[Bad]) -> None:
        """Send all, then look at what comes of each."""
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(self._connect()) for _ in requests]
            wires = [self._name_sessions(request.wire()) for request in requests]
            broken = [not _send(*pair) for pair in zip(connections, wires, strict=True)]
            for request, connection, wire, broke in zip(requests, connections, wires, broken, strict=True):
                self.sent += 1
                if not request.ends_too_early:
                    may_break = broke or len(wire) > LEFT_UNREAD_BYTES
                    self._look_at_answer(request, connection, may_break)

    def _look_at_answer(self, request: Bad, connection: socket.socket, may_break: bool) -> None:
        answer = http.client.HTTPResponse(connection, method=request.method.decode("latin-1"))
        with contextlib.closing(answer):
            try:
                answer.begin()
                body = _read_body(request, answer)
            except (ConnectionError, http.client.HTTPException):
                if may_break:
                    return
                raise
            assert answer.status < 500, body
            assert not OURS.search(body), body
            opened = answer.headers.get("Mcp-Session-Id", "").encode()
            if opened and opened != self._session:
                self._end_session(opened)

    def _name_sessions(self, wire: bytes) -> bytes:
        return wire.replace(SESSION, self._session).replace(SSE_SESSION, self._sse_session)

    def _connect(self) -> socket.socket:
        return socket.create_connection(self._address, timeout=ANSWER_SECONDS)

    def _head(self, method: bytes, path: bytes) -> bytes:
        return (
            b"%b %b HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %b\r\nContent-Type: application/json\r\n"
            b"Accept: application/json, text/event-stream\r\nConnection: close\r\n"
        ) % (method, path, TOKEN.encode())

    def _open_session(self) -> None:
        body = json.dumps(INITIALIZE).encode()
        with self._connect() as connection:
            connection.sendall(self._head(b"POST", b"/mcp") + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            with contextlib.closing(http.client.HTTPResponse(connection)) as answer:
                answer.begin()
                answer.read()
                self._session = answer.headers["Mcp-Session-Id"].encode()

    def _end_session(self, session: bytes) -> None:
        with self._connect() as connection:
            connection.sendall(self._head(b"DELETE", b"/mcp") + b"Mcp-Session-Id: %b\r\n\r\n" % session)
            with contextlib.closing(http.client.HTTPResponse(connection)) as answer:
                answer.begin()
                assert answer.status in (200, 404)


def _send(connection: socket.socket, wire: bytes) -> bool:
    try:
        connection.sendall(wire)
    except ConnectionError:
        return False
    return True


def _read_body(request: Bad, answer: http.client.HTTPResponse) -> bytes:
    """To its end; of a stream that stays open, as far as it has something to say."""
    if answer.headers.get_content_type() != "text/event-stream":
        return answer.read()
    body = b""
    deadline = time.monotonic() + ANSWER_SECONDS
    while request.method == b"POST" and (line := answer.readline()):
        body += line
        assert time.monotonic() < deadline, f"no answer to {request}"  # pings are none
        if line.startswith(b"data: {"):
            break
    return body


def _read_to_the_end(stream: object) -> None:
    with contextlib.suppress(OSError, ValueError):
        for _ in stream:  # type: ignore[attr-defined]
            pass


def read_gauges(server: WebServer) -> dict[str, float]:
    asked = urllib.request.Request(f"{server.url}/metrics", headers=server.headers() | {"Connection": "close"})
    with urllib.request.urlopen(asked, timeout=ANSWER_SECONDS) as answer:
        text = answer.read().decode()
    names = ("process_open_fds", "dynasaur_tasks", "dynasaur_http_requests_open", "dynasaur_calls_at_work")
    names += ("dynasaur_sessions", "dynasaur_workers_ready")
    return {name: float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE)[1]) for name in names}  # type: ignore[index]


def is_at_rest(gauges: dict[str, float]) -> bool:
    """Nothing is asked for but the gauges, and the worker to keep is ready: while it is made it has more open."""
    counts = ("http_requests_open", "calls_at_work", "sessions", "workers_ready")
    return [gauges[f"dynasaur_{name}"] for name in counts] == [1, 0, 0, 1]


def wait_for_gauges(server: WebServer, is_so: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    deadline = time.monotonic() + SETTLE_SECONDS
    while not is_so(gauges := read_gauges(server)):
        assert time.monotonic() < deadline, gauges
    return gauges


async def be_a_good_client(server: WebServer) -> None:
    for era in ("legacy", "2026-07-28", "sse"):
        async with server.connect(era) as model:
            assert "search_actions" in await model.tools()
            await model.text("search_actions", query="anything")
            await close_sessions(model)
            assert "42" in await model.text("run_python", code="6 * 7", session="good")
            await close_sessions(model)


async def close_sessions(model: Model) -> None:
    """All, whoever opened them."""
    for line in (await model.text("manage_action", name="x", op="list_sessions")).splitlines():
        if found := line.rpartition(": ")[0]:
            await model.text("manage_action", name=found, op="close_session")


def send_bad_requests(sender: Sender, many: int) -> None:
    @settings(
        max_examples=many // BATCH,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(bad_requests(), min_size=BATCH, max_size=BATCH))
    def send(requests: list[Bad]) -> None:
        sender.send(requests)

    send()
    assert sender.sent >= many


def check_log(server: WebServer) -> None:
    told = re.search(r"^.*(ERROR|Traceback)(.*\n){1,60}", server.log.read_text(), re.MULTILINE)
    assert not told, told[0]


def test_ten_thousand_bad_requests_are_answered_and_leave_nothing_behind(library: Path) -> None:
    with start_server(library, sessions=4, timeout_seconds=5) as server:
        anyio.run(be_a_good_client, server)
        before = wait_for_gauges(server, is_at_rest)
        sender = Sender(server)
        with sender.sessions():
            send_bad_requests(sender, 10_000)
        anyio.run(be_a_good_client, server)
        wait_for_gauges(server, lambda after: is_at_rest(after) and all(after[name] <= before[name] for name in before))
        check_log(server)


def test_bad_requests_to_a_server_that_takes_the_tokens_of_an_issuer_are_answered(library: Path) -> None:
    issuer = {"token": "", "auth_issuer": "http://127.0.0.1:9", "audience": "http://127.0.0.1/mcp"}
    with start_server(library, **issuer) as server:
        send_bad_requests(Sender(server), 1_000)
        with urllib.request.urlopen(f"{server.url}/readyz", timeout=ANSWER_SECONDS) as answer:
            assert answer.status == 200
        check_log(server)
