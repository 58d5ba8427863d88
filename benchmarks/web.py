"""A client of the least weight over HTTP, as `peer` has it over pipes, and the servers that it asks."""

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

ERAS = ["2026-07-28", "2025-11-25"]
"""Stateless, and with a handshake and a session of the protocol."""
TOKEN = "a-token-of-the-benchmarks"
_CLIENT = {"name": "bench", "version": "1"}
_META = {
    "io.modelcontextprotocol/protocolVersion": ERAS[0],
    "io.modelcontextprotocol/clientInfo": _CLIENT,
    "io.modelcontextprotocol/clientCapabilities": {},
}


def with_meta(params: dict[str, Any]) -> dict[str, Any]:
    """As a request of the stateless era has them."""
    return params | {"_meta": _META}


def headers_of(method: str) -> dict[str, str]:
    """Of a request of the stateless era, but one that names what it is for."""
    return {
        "Authorization": f"Bearer {TOKEN}",
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "MCP-Protocol-Version": ERAS[0],
        "Mcp-Method": method,
    }


@contextmanager
def start_http(
    command: Sequence[str], settings: Mapping[str, Any], log: Any = subprocess.DEVNULL
) -> Iterator["Served"]:
    """A server that says on stderr or stdout where it listens, until the end."""
    env = os.environ | {f"DYNASAUR_{name.upper()}": str(value) for name, value in settings.items()}
    process = subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr
    told = b""
    while not (found := re.search(rb"http://127\.0\.0\.1:(\d+)", told)):
        line = process.stderr.readline()
        if not line:
            raise SystemExit(f"the server ended: {told.decode()}")
        told += line
    # Read on, as a full pipe would stop it.
    reader = subprocess.Popen(["cat"], stdin=process.stderr, stdout=log)
    try:
        yield Served(process.pid, int(found[1]))
    finally:
        process.terminate()
        process.wait(timeout=60)
        process.stderr.close()
        reader.wait()


@dataclass(frozen=True, slots=True)
class Served:
    """A server process."""

    pid: int
    port: int


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        """The response of JSON-RPC, also where it came as the last event of a stream."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            events = [line[6:] for line in self.body.splitlines() if line.startswith(b"data: {")]
            return dict(json.loads(events[-1])) if events else {}
        return dict(json.loads(self.body))


class Caller:
    """One client, with one connection and one request at a time."""

    def __init__(self, port: int, era: str, token: str = TOKEN) -> None:
        self.era = era
        self.session: str | None = None
        """Of the protocol, in the era that has them."""
        self._port = port
        self._token = token
        self._id = 0
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> Answer | None:
        """Shake hands, where the era does; the answer, where that was none to go on with."""
        if self.era == ERAS[0]:
            return None
        about = {"protocolVersion": self.era, "capabilities": {}, "clientInfo": _CLIENT}
        answer = await self.request("initialize", about)
        if answer.status != 200:
            return answer
        self.session = answer.headers["mcp-session-id"]
        initialized = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        answer = await self.send("POST", initialized)
        return None if answer.status == 202 else answer

    async def close(self) -> None:
        if self.session and (answer := await self.send("DELETE")).status == 429:
            await asyncio.sleep(int(answer.headers["retry-after"]))
            await self.close()
        self.abort()

    def abort(self) -> None:
        """As when the client is killed: whatever is under way, and with its session left open."""
        if self._writer:
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def call(self, tool: str, **arguments: Any) -> Answer:
        return await self.request("tools/call", {"name": tool, "arguments": arguments}, tool)

    async def request(self, method: str, params: dict[str, Any], name: str = "") -> Answer:
        self._id += 1
        headers = ""
        if self.era == ERAS[0]:
            params = with_meta(params)
            headers = f"Mcp-Method: {method}\r\n" + (f"Mcp-Name: {name}\r\n" if name else "")
        return await self.send("POST", {"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}, headers)

    async def send(
        self, verb: str, message: dict[str, Any] | None = None, headers: str = "", path: str = "/mcp"
    ) -> Answer:
        if self._writer is None or self._reader is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)
        body = json.dumps(message).encode() if message else b""
        session = f"Mcp-Session-Id: {self.session}\r\n" if self.session else ""
        version = "" if message and message["method"] == "initialize" else f"MCP-Protocol-Version: {self.era}\r\n"
        head = (
            f"{verb} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAuthorization: Bearer {self._token}\r\n"
            f"Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n"
            f"{session}{version}{headers}Content-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        return await self._receive(self._reader)

    async def _receive(self, reader: asyncio.StreamReader) -> Answer:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(lines[0].split()[1])
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
        else:
            body = await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self.abort()
        return Answer(status, headers, body)
