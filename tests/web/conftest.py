"""The server over HTTP as clients know it: a subprocess on a free port, and the `mcp` package's own clients."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from tests.flows.conftest import SERVER, Ask, Hear, Model, OpenClient, environment, open_client, sandbox

__all__ = ["open_client", "sandbox"]

TOKEN = "a-token-of-the-tests-0123456789"
ERAS = ["legacy", "2026-07-28", "sse"]
"""How a client speaks: the handshake and the stateless era of streamable HTTP, and SSE as before."""

StartServer = Callable[..., AbstractAsyncContextManager["WebServer"]]
Connect = Callable[..., AbstractAsyncContextManager[Model]]


@dataclass
class WebServer:
    """A server that has said where it listens."""

    process: subprocess.Popen[bytes]
    url: str
    """Without a path."""
    log: Path
    verify: Any = True

    def headers(self, token: str = TOKEN) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}"}

    @asynccontextmanager
    async def connect(
        self, era: str = "legacy", token: str = TOKEN, hear: Hear | None = None, ask: Ask | None = None
    ) -> AsyncIterator[Model]:
        """A client of the SDK."""
        if era == "sse":
            transport = sse_client(f"{self.url}/sse", self.headers(token))
            async with Client(transport, mode="legacy", message_handler=hear, elicitation_callback=ask) as client:
                yield Model(client)
            return
        async with httpx2.AsyncClient(headers=self.headers(token), timeout=60, verify=self.verify) as http:
            transport = streamable_http_client(f"{self.url}/mcp", http_client=http)
            async with Client(transport, mode=era, message_handler=hear, elicitation_callback=ask) as client:
                yield Model(client)

    def http(self, token: str = TOKEN) -> httpx2.AsyncClient:
        """For what no client of the SDK would do."""
        return httpx2.AsyncClient(base_url=self.url, headers=self.headers(token), timeout=30, verify=self.verify)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    return tmp_path / "library"


@contextmanager
def start_server(
    library: Path, *options: str, token: str = TOKEN, server: list[str] = SERVER, **settings: Any
) -> Iterator[WebServer]:
    log = library.parent / f"server-{time.monotonic_ns()}.log"
    env = environment(library, **{"sandbox": "jail", "port": 0, "transport": "http", "token": token, **settings})
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*server, "serve", *options], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        )
    try:
        deadline = time.monotonic() + 30
        while not (found := re.search(r"serving (https?://\S+)/mcp", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield WebServer(process, found[1], log)
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        finally:
            process.kill()


@pytest.fixture
def serve_http(library: Path) -> StartServer:
    """Start a server on the test's library. Keyword arguments are settings."""

    @asynccontextmanager
    async def serve_http(*options: str, **settings: Any) -> AsyncIterator[WebServer]:
        with start_server(library, *options, **settings) as server:
            yield server

    return serve_http


@pytest.fixture(params=["stdio", "stdio 2026-07-28", *ERAS])
def connect(
    request: pytest.FixtureRequest, open_client: OpenClient, serve_http: StartServer, require: Callable[[str], None]
) -> Connect:
    """A client of a server of its own, over each transport and in each era. Keyword arguments are settings."""
    require("jail")

    @asynccontextmanager
    async def connect(**settings: Any) -> AsyncIterator[Model]:
        way, _, era = request.param.partition(" ")
        if way == "stdio":
            async with open_client("jail", era or "legacy", **settings) as model:
                yield model
            return
        async with serve_http(**settings) as server, server.connect(way) as model:
            yield model

    return connect
