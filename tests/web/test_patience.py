"""Clients that send half of what they announce, or read nothing: none keeps the server from others, or grows in it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
import trustme
from anyio.abc import SocketStream
from mcp.server.lowlevel import Server
from starlette.types import ASGIApp, Receive, Scope, Send

from dynasaur_mcp.server import connection
from dynasaur_mcp.server.auth import GivenTokens
from dynasaur_mcp.server.door import Turns
from dynasaur_mcp.server.metrics import Metrics
from dynasaur_mcp.server.sessions import Sessions
from dynasaur_mcp.server.web import Front, _Uvicorn, build_app, configure, listen
from tests.flows.conftest import SERVER

from .conftest import TOKEN, StartServer, WebServer
from .raw import INITIALIZE, rpc

pytestmark = pytest.mark.anyio

PART_BYTES = 1 << 20
HEAD = "{} {} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + TOKEN + "\r\n"


class Large:
    """Answers /large with parts until nobody is there, anything else at once."""

    def __init__(self) -> None:
        self.parts = 0
        self.ended = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/large":
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._send_parts, send)
                while (await receive())["type"] != "http.disconnect":
                    pass
                tasks.cancel_scope.cancel()
            self.ended.set()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_parts(self, send: Send) -> None:
        while True:
            await send({"type": "http.response.body", "body": bytes(PART_BYTES), "more_body": True})
            self.parts += 1
            await anyio.lowlevel.checkpoint()  # uvicorn takes what nobody gets at once


@asynccontextmanager
async def serve(app: ASGIApp, certificate: Path | None = None) -> AsyncIterator[int]:
    """In this process, on the port that is given."""
    with closing(listen("127.0.0.1", 0, tls=bool(certificate))) as listener:
        web = _Uvicorn(configure(app, Front("127.0.0.1", 0, (), (), certificate)))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(web.serve, [listener])
            yield listener.getsockname()[1]
            web.should_exit = True


async def ask(port: int, path: str = "/") -> SocketStream:
    stream = await anyio.connect_tcp("127.0.0.1", port)
    await stream.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    assert b" 200 " in await stream.receive()
    return stream


async def read_to_the_end(stream: SocketStream) -> bytes:
    data = b""
    with anyio.fail_after(20):
        try:
            while True:
                data += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return data


HALVES = {
    "nothing": b"",
    "half a line": b"GET /he",
    "half of the headers": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-",
    "half a body": b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n12345",
    "half a chunk": b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12",
    "one and a half": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET / HT",
}


@pytest.mark.parametrize("half", HALVES)
async def test_request_that_does_not_come_whole_is_waited_for_only_so_long(
    half: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REQUEST_SECONDS", 0.3)
    async with serve(Large()) as port, await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(HALVES[half])
        await read_to_the_end(stream)
        await (await ask(port)).aclose()


LARGE = f"Content-Length: {1 << 30}\r\n"
TOO_LARGE = HEAD.format("POST", "/mcp") + LARGE
NO_TOKEN = "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n" + LARGE
REFUSED = {
    "no head that has an end": (
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: ",
        b" 400 ",
        b"Invalid HTTP request received.",
    ),
    "too large": (TOO_LARGE + "\r\n", b" 413 ", b"Request body too large"),
    "too large, and the last": (TOO_LARGE + "Connection: close\r\n\r\n", b" 413 ", b"Request body too large"),
    "without a token": (NO_TOKEN + "\r\n", b" 401 ", b'"Authentication required"}'),
    "without a token, and the last": (
        NO_TOKEN + "Connection: close\r\n\r\n",
        b" 401 ",
        b'"Authentication required"}',
    ),
}


def build_door() -> ASGIApp:
    """All that a request passes before it is served."""
    server = Server[Any]("tests")
    front = Front("127.0.0.1", 0, ("127.0.0.1",), ())
    verifier = GivenTokens({"ada": TOKEN})
    return build_app(server, Sessions(server, 8), verifier, Turns(8), Metrics({}), front, lambda: True)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("refused", REFUSED)
async def test_client_that_is_refused_while_it_sends_reads_why(
    refused: str, secure: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(connection, "LINGER_SECONDS", 60.0)
    head, status, reason = REFUSED[refused]
    authority = trustme.CA()
    certificate = tmp_path / "both.pem" if secure else None
    context = None
    if certificate:
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
        context = ssl.create_default_context()
        authority.configure_trust(context)
    async with (
        serve(build_door(), certificate) as port,
        await anyio.connect_tcp("127.0.0.1", port, ssl_context=context) as stream,
    ):
        await stream.send(head.encode() + bytes(1 << 18))
        with anyio.fail_after(60):
            answer = await stream.receive(1)
            for _ in range(20):
                await stream.send(bytes(1 << 18))
            while not answer.endswith(reason):
                answer += await stream.receive()
            assert status in answer.partition(b"\r\n")[0]
            is_last = refused.endswith(("an end", "the last"))
            assert (b"connection: close" in answer.lower()) == is_last
            if is_last and not secure:
                assert await read_to_the_end(stream) == b""
                await stream.send_eof()


async def test_client_that_was_refused_is_not_heard_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LINGER_SECONDS", 600.0)
    monkeypatch.setattr(connection, "LINGER_BYTES", 1 << 20)
    async with serve(build_door()) as port, await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send((TOO_LARGE + "Connection: close\r\n\r\n").encode())

        async def send_on() -> None:
            while True:
                await stream.send(bytes(1 << 18))

        with anyio.fail_after(60), pytest.raises(anyio.BrokenResourceError):
            await send_on()


async def test_client_that_was_refused_and_stays_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LINGER_SECONDS", 0.1)
    async with serve(Large()) as port, await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"\0\r\n\r\n")
        await read_to_the_end(stream)

        async def send_on() -> None:
            while True:
                await stream.send(b"x")
                await anyio.lowlevel.checkpoint()

        with anyio.fail_after(20), pytest.raises(anyio.BrokenResourceError):
            await send_on()


async def test_client_that_reads_nothing_is_dropped_and_held_little_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "UNREAD_SECONDS", 0.3)
    app = Large()
    async with serve(app) as port, await ask(port, "/large"):
        with anyio.fail_after(20):
            await app.ended.wait()
        # What the system's own buffers took of it, and one part.
        assert app.parts * PART_BYTES < 64 << 20
        await (await ask(port)).aclose()


async def test_client_that_reads_what_is_sent_is_served_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REQUEST_SECONDS", 0.1)
    monkeypatch.setattr(connection, "UNREAD_SECONDS", 0.5)
    app = Large()
    async with serve(app) as port, await ask(port, "/large") as stream:
        with anyio.fail_after(60):
            while app.parts < 200:
                await stream.receive(PART_BYTES)
        assert not app.ended.is_set()


async def test_where_connections_are_too_many_the_one_waited_for_longest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "most_connections", lambda: 3)
    async with serve(Large()) as port, AsyncExitStack() as stack:
        working = [await stack.enter_async_context(await ask(port, "/large")) for _ in range(2)]
        idle = await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
        newer = await stack.enter_async_context(await ask(port))
        assert await read_to_the_end(idle) == b""
        working.append(await stack.enter_async_context(await ask(port, "/large")))
        await read_to_the_end(newer)
        refused = await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
        assert await read_to_the_end(refused) == b""
        for stream in working:
            assert await stream.receive()


async def test_hundreds_of_half_open_connections_keep_nobody_out(
    serve_http: StartServer, require: Callable[[str], None]
) -> None:
    require("jail")
    async with serve_http() as server:
        process = psutil.Process(server.process.pid)
        async with server.connect("legacy") as model:
            await model.text("run_python", code="kept = 1")
            before = process.num_fds()
            port = int(server.url.rpartition(":")[2])
            sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(600)]
            try:
                for number, one in enumerate(sockets):
                    one.sendall(list(HALVES.values())[number % len(HALVES)])
                assert "1" in await model.text("run_python", code="kept")
                async with server.connect("2026-07-28") as other:
                    assert "1" in await other.text("run_python", code="kept")
            finally:
                for one in sockets:
                    one.close()
        with anyio.fail_after(20):
            while process.num_fds() > before:
                await anyio.sleep(0.05)


async def test_hundreds_that_never_shake_hands_keep_nobody_out_of_a_server_with_a_certificate(
    serve_http: StartServer, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    few_descriptors = ["sh", "-c", 'ulimit -n 256; exec "$0" "$@"', *SERVER]
    async with serve_http(tls_certificate=tmp_path / "both.pem", server=few_descriptors) as server:
        server.verify = ssl.create_default_context()
        authority.configure_trust(server.verify)
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        with ExitStack() as stack:
            async with server.connect("2026-07-28") as kept:
                for _ in range(600):
                    stack.enter_context(socket.create_connection(address))
                assert await kept.tools()
                async with server.connect("legacy") as new:
                    assert await new.tools()


async def open_sse(server: WebServer) -> tuple[SocketStream, str]:
    """A stream that is read no further, and where its messages go."""
    stream = await anyio.connect_tcp("127.0.0.1", int(server.url.rpartition(":")[2]))
    await stream.send((HEAD.format("GET", "/sse") + "\r\n").encode())
    heard = b""
    while b"session_id=" not in heard:
        heard += await stream.receive()
    return stream, "/messages/?session_id=" + heard.partition(b"session_id=")[2][:32].decode()


async def test_head_of_the_stream_for_old_clients_opens_none(serve_http: StartServer) -> None:
    async with serve_http(requests_each=1) as server, server.http() as http:
        assert (await http.head("/sse")).status_code == 405
        async with http.stream("GET", "/sse") as stream:
            assert stream.status_code == 200


async def test_client_that_posts_and_never_reads_its_stream_is_stopped_in_time(serve_http: StartServer) -> None:
    async with serve_http(requests_each=50) as server, server.http() as http:
        stream, path = await open_sse(server)
        async with stream:
            assert (await http.post(path, json=INITIALIZE)).status_code == 202
            initialized = {"jsonrpc": "2.0", "method": "notifications/initialized"}
            assert (await http.post(path, json=initialized)).status_code == 202
            for number in range(20_000):
                answer = await http.post(path, json=rpc(number + 2, "tools/list"))
                if answer.status_code == 429:
                    break
                assert answer.status_code == 202
            assert answer.status_code == 429, number
            assert int(answer.headers["retry-after"]) >= 1
            others, other_path = await open_sse(server)
            async with others:
                assert (await http.post(other_path, json=INITIALIZE)).status_code == 202
