"""Listing ten thousand exposed actions, over stdio and HTTP, against the transfer of the same bytes alone.

    python benchmarks/listing.py [--actions 10000] [--rounds 10] [--transports stdio http handshake]

The floor is a process that writes the same answers, made before, as soon as it has read a request: no MCP, no work;
over HTTP by uvicorn, as ours. Beside it stands the bare low-level server of the SDK with those answers ready made: what
the SDK costs by itself. All page alike, and take turns. Nobody parses what comes: that is the client's time. Over HTTP,
in the stateless era and that of the handshake, each page is a request on a connection that stays.

A list is first made when it is first asked for, and again when the library has changed: both are timed too, the second
after one new version of one action.
"""

import argparse
import http.client
import json
import pickle
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server
from mcp_types import PaginatedRequestParams
from peer import OURS, Peer
from synthetic import fill_library
from timing import Row, check, median, print_rows, take_turns
from web import ERAS, TOKEN, headers_of, start_http, with_meta

from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.types import Status

TRANSPORTS = ["stdio", "http", "handshake"]
"""The last two over HTTP, in the stateless era and that of the handshake."""
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": "hello",
    "method": "initialize",
    "params": {"protocolVersion": ERAS[1], "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}},
}

Page = tuple[bytes, bytes]
"""A request for it, and the answer."""
Exchange = Callable[[bytes], bytes]


class Web:
    """A client of the least weight over HTTP, on one connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self._headers = headers_of("tools/list")

    def shake_hands(self) -> None:
        """Be one of that era from now on."""
        self._headers = {name: value for name, value in self._headers.items() if not name.upper().startswith("MCP-")}
        self.exchange(json.dumps(INITIALIZE).encode())
        self.exchange(json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}).encode())

    def exchange(self, request: bytes) -> bytes:
        self._connection.request("POST", "/mcp", request, self._headers)
        answer = self._connection.getresponse()
        if session := answer.headers["mcp-session-id"]:
            self._headers["Mcp-Session-Id"] = session
        body = answer.read()
        # An event of a stream, or the answer itself.
        return body if body.startswith(b"{") else body[body.find(b"data: {") + 6 :].rstrip()


@contextmanager
def open_ours(transport: str, library: Path) -> Iterator[Exchange]:
    # By words alone: to embed ten thousand texts meanwhile would be timed too.
    options = {"library": str(library), "expose": "all", "model": "./none"}
    if transport == "stdio":
        with Peer([*OURS, *(part for name, value in options.items() for part in (f"--{name}", value))]) as peer:
            yield peer.exchange
    else:
        settings = options | {"transport": "http", "port": 0, "token": TOKEN, "sandbox": "jail"}
        with start_http(OURS, settings) as served:
            yield open_web(transport, served.port).exchange


def open_web(transport: str, port: int) -> Web:
    web = Web(port)
    if transport == "handshake":
        web.shake_hands()
    return web


@contextmanager
def open_other(transport: str, name: str, pages: Path) -> Iterator[Exchange]:
    command = [sys.executable, __file__, "--serve", name, "--pages", str(pages), "--transports", transport]
    if transport == "stdio":
        with Peer(command) as peer:
            yield peer.exchange
    else:
        with start_http(command, {}) as served:
            yield (Web(served.port) if name == "raw" else open_web(transport, served.port)).exchange


def list_all(exchange: Exchange, transport: str) -> list[Page]:
    """All pages, each asked for as the one before says."""
    pages: list[Page] = []
    cursor = None
    while True:
        params: dict[str, Any] = {"cursor": cursor} if cursor else {}
        params = with_meta(params) if transport == "http" else params
        request = {"jsonrpc": "2.0", "id": len(pages), "method": "tools/list", "params": params}
        line = json.dumps(request).encode() + b"\n"
        pages.append((line, exchange(line)))
        cursor = json.loads(pages[-1][1])["result"].get("nextCursor")
        if cursor is None:
            return pages


def serve_raw_stdio(pages: list[Page]) -> None:
    answers = dict(pages)
    while line := sys.stdin.buffer.readline():
        answer = answers.get(line)
        if answer is None and "id" in json.loads(line):
            answer = json.dumps({"jsonrpc": "2.0", "id": json.loads(line)["id"], "result": {}}).encode() + b"\n"
        sys.stdout.buffer.write(answer or b"")
        sys.stdout.buffer.flush()


def serve_raw_http(pages: list[Page]) -> None:
    answers = dict(pages)

    async def answer(_scope: object, receive: Any, send: Any) -> None:
        body = answers[(await receive())["body"]]
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    anyio.run(serve_app, answer)


def serve_bare(transport: str, pages: list[Page]) -> None:
    answers: dict[str | None, dict[str, Any]]
    answers = {json.loads(line)["params"].get("cursor"): json.loads(answer)["result"] for line, answer in pages}

    async def list_tools(_context: object, params: PaginatedRequestParams) -> dict[str, Any]:
        return answers[params.cursor]

    server = Server("bare")
    server.add_request_handler("tools/list", PaginatedRequestParams, list_tools)

    async def serve() -> None:
        if transport != "stdio":
            await serve_app(server.streamable_http_app())
            return
        async with stdio_server() as (reading, writing):
            await server.run(reading, writing, server.create_initialization_options())

    anyio.run(serve)


async def serve_app(app: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        sys.stderr.write(f"http://127.0.0.1:{listener.getsockname()[1]}\n")
        sys.stderr.flush()
        await uvicorn.Server(uvicorn.Config(app, http="h11", log_level="critical", access_log=False)).serve([listener])


def change(library: Path) -> None:
    """Pin or unpin the first action, and so end the library's revision."""
    with closing(FileStore(library)) as store:
        first = store.entries("", 1, Status.ACTIVE)[0]
        store.set_pinned(first.name, not first.pinned)


def transfer(exchange: Exchange, pages: list[Page]) -> None:
    for request, answer in pages:
        check(len(exchange(request)) == len(answer))


def measure(transport: str, library: Path, rounds: int) -> tuple[int, dict[str, list[float]]]:
    """Bytes of the whole list, and seconds of each way to get it."""
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        ours = stack.enter_context(open_ours(transport, library))
        pages: list[Page] = []
        first = take_turns({"first": lambda: pages.extend(list_all(ours, transport))}, 1)["first"]
        recorded = Path(temporary, "pages")
        recorded.write_bytes(pickle.dumps(pages))
        turns = {
            name: partial(transfer, stack.enter_context(open_other(transport, name, recorded)), pages)
            for name in ("raw", "bare")
        }
        times = take_turns({**turns, "ours": lambda: transfer(ours, pages)}, rounds, warm_up=1, every={"bare": 5})

        def list_changed() -> float:
            change(library)
            began = time.perf_counter()
            list_all(ours, transport)
            return time.perf_counter() - began

        changed = take_turns({"changed": list_changed}, 3)
        return sum(len(answer) for _, answer in pages), {**times, "first": first, **changed}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--actions", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--transports", nargs="*", choices=TRANSPORTS, default=TRANSPORTS)
    options.add_argument("--serve", choices=["raw", "bare"], help=argparse.SUPPRESS)
    options.add_argument("--pages", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.serve:
        pages = pickle.loads(given.pages.read_bytes())
        (transport,) = given.transports
        if given.serve == "bare":
            serve_bare(transport, pages)
        else:
            (serve_raw_stdio if transport == "stdio" else serve_raw_http)(pages)
        return
    with tempfile.TemporaryDirectory() as library:
        fill_library(Path(library), given.actions)
        for transport in given.transports:
            size, times = measure(transport, Path(library), given.rounds)
            raw = median(times["raw"])
            print_rows(
                f"{transport}: a list of {given.actions:,} tools, {size / 1e6:.1f} MB",
                [
                    Row("the same bytes alone", times["raw"]),
                    Row("bare low-level server, answers ready", times["bare"], raw, "the bytes"),
                    Row("ours, from the second time on", times["ours"], raw, "the bytes", "2"),
                    Row("ours, the first time", times["first"], raw, "the bytes"),
                    Row("ours, after a change", times["changed"], raw, "the bytes"),
                ],
            )


if __name__ == "__main__":
    main()
