"""A client of the least weight: JSON lines over the pipes of a server process, so that what is timed is the server."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, AnyStr

BARE = [sys.executable, str(Path(__file__).with_name("bare.py"))]
OURS = [sys.executable, "-m", "dynasaur_mcp", "serve"]


def pipes_of(process: subprocess.Popen[AnyStr]) -> tuple[IO[AnyStr], IO[AnyStr]]:
    """Its standard input and output."""
    assert process.stdin
    assert process.stdout
    return process.stdin, process.stdout


class Peer:
    """One server process and the client's side of its pipes."""

    def __init__(self, command: Sequence[str], log: IO[str] | None = None) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log or subprocess.DEVNULL, bufsize=0
        )
        self._in, self._out = pipes_of(self._process)
        self._lines = open(self._out.fileno(), "rb", closefd=False)  # noqa: SIM115
        self._id = 0

    def __enter__(self) -> "Peer":
        client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
        self.request("initialize", client)
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    def __exit__(self, *_: object) -> None:
        self._in.close()
        self._process.wait(timeout=30)
        self._lines.close()
        self._out.close()

    def request(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """The result, of the only request under way."""
        self.begin(method, params)
        return self.next_result()[1]

    def begin(self, method: str, params: dict[str, Any] | None = None) -> int:
        """Send a request; its number."""
        self._id += 1
        self._send({"jsonrpc": "2.0", "id": self._id, "method": method, "params": params or {}})
        return self._id

    def next_result(self) -> tuple[int, dict[str, Any]]:
        """The next answer to any request: its number and the result. What the server asks or tells is skipped."""
        for line in self._lines:
            message = json.loads(line)
            if "method" not in message:
                if "error" in message:
                    raise SystemExit(f"the server says: {message['error']}")
                return message["id"], message["result"]
        raise SystemExit("the server ended")

    def exchange(self, line: bytes) -> bytes:
        """A line for a line, neither made nor read here. What the server tells by itself is skipped."""
        self._in.write(line)
        while b'"method":' in (answer := self._lines.readline())[:40]:
            pass
        return answer

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        result = self.request("tools/call", {"name": tool, "arguments": arguments})
        if result.get("isError"):
            raise SystemExit(f"{tool}: {result['content'][0]['text']}")
        return result

    def memory_bytes(self) -> int:
        """What the server process has in memory, its children not counted. Linux only."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmRSS:"))

    def kill(self) -> None:
        self._process.kill()

    def cpu_seconds(self) -> float:
        """What the server process has used, its children not counted. Linux only."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _send(self, message: dict[str, Any]) -> None:
        self._in.write(json.dumps(message).encode() + b"\n")
