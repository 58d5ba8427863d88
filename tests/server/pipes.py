"""stdio without the SDK's client: the bytes as they are written."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp.server.lowlevel import Server

from dynasaur_mcp.server.transports import serve_descriptors

pytestmark = pytest.mark.anyio


class Pipes:
    """A client of the least weight on a server's pair of descriptors."""

    def __init__(self, reading: int, writing: int, era: str) -> None:
        self._reading, self._writing = reading, writing
        self._received = bytearray()
        self._envelope: dict[str, Any] = {}
        if era != "legacy":
            self._envelope = {
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": era,
                    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
                    "io.modelcontextprotocol/clientCapabilities": {},
                }
            }

    async def shake_hands(self) -> None:
        if not self._envelope:
            client = {"name": "test", "version": "1"}
            await self.ask("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client)
            self.send({"method": "notifications/initialized"})

    def send(self, message: dict[str, Any]) -> None:
        os.write(self._writing, json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    async def receive(self) -> bytes:
        while b"\n" not in self._received:
            await anyio.wait_readable(self._reading)
            self._received += os.read(self._reading, 1 << 16)
        line, _, rest = bytes(self._received).partition(b"\n")
        self._received = bytearray(rest)
        return line

    async def ask(self, method: str, number: int | str = 1, **params: Any) -> dict[str, Any]:
        self.send({"id": number, "method": method, "params": {**params, **self._envelope}})
        answer = json.loads(await self.receive())
        assert answer.pop("id") == number
        return answer  # type: ignore[no-any-return]


@asynccontextmanager
async def over_pipes(server: Server[Any], era: str) -> AsyncIterator[Pipes]:
    (stdin, writing), (reading, stdout) = os.pipe(), os.pipe()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve_descriptors, server, stdin, stdout)
        client = Pipes(reading, writing, era)
        await client.shake_hands()
        yield client
        os.close(writing)
    for descriptor in (stdin, reading, stdout):
        os.close(descriptor)
