"""The server as a bare process, for what no client of the SDK would do to it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .conftest import SERVER

INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


class RawServer:
    """A server process spoken to line by line, so that it can be treated badly."""

    def __init__(self, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [*SERVER, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
        )

    def send(self, method: str, params: dict[str, Any] | None = None, number: int | None = None) -> None:
        assert self.process.stdin
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params or {}}
        if number is not None:
            message["id"] = number
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def request(self, method: str, params: dict[str, Any] | None = None, number: int = 1) -> dict[str, Any]:
        self.send(method, params, number)
        assert self.process.stdout
        for line in self.process.stdout:
            answer: dict[str, Any] = json.loads(line)
            if answer.get("id") == number:
                return answer
        raise AssertionError(self.process.stderr.read() if self.process.stderr else b"")

    def call(self, tool: str, number: int, /, **arguments: Any) -> dict[str, Any]:
        return self.request("tools/call", {"name": tool, "arguments": arguments}, number)


@contextmanager
def open_raw(env: dict[str, str]) -> Iterator[RawServer]:
    server = RawServer(env)
    try:
        server.request("initialize", INITIALIZE)
        server.send("notifications/initialized")
        yield server
    finally:
        server.process.kill()
        server.process.wait()
        for stream in (server.process.stdin, server.process.stdout, server.process.stderr):
            if stream:
                stream.close()
