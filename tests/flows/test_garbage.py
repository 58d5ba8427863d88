"""Lines on stdin that no client should send: each is answered or ignored, and the server serves on."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynasaur_mcp.server.transports import LINE_BYTES
from tests.web.garbage import broken_messages
from tests.web.raw import INITIALIZE, call, rpc

from .conftest import SERVER, environment

ANSWER_SECONDS = 60


class Pipes:
    """A server on stdio, and what it says."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._numbers = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, *lines: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(b"".join(line + b"\n" for line in lines))
        self.process.stdin.flush()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to it, after whatever else is said before."""
        self._numbers += 1
        known = f"known-{self._numbers}"
        self.send(json.dumps(request | {"id": known}).encode())
        while True:
            message = json.loads(self._lines.get(timeout=ANSWER_SECONDS))
            if message.get("id") == known:
                return message

    def _listen(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(line)


@contextmanager
def start(library: Path) -> Iterator[Pipes]:
    log = library.parent / "log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [*SERVER, "serve"],
            env=environment(library, "jail", sessions=4, timeout_seconds=5),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        try:
            pipes = Pipes(process)
            assert "serverInfo" in pipes.ask(INITIALIZE)["result"]
            pipes.send(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
            yield pipes
        finally:
            process.kill()
    assert "Traceback" not in log.read_text()


def test_thousands_of_bad_lines_are_answered_or_ignored(library: Path, require: Callable[[str], None]) -> None:
    require("jail")
    with start(library) as pipes:

        @settings(
            max_examples=150, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
        )
        @given(st.lists(broken_messages(), min_size=20, max_size=20))
        def send(lines: list[bytes]) -> None:
            pipes.send(*lines)
            assert pipes.ask(rpc(0, "ping"))["result"] == {}

        send()
        asked = pipes.ask(call(0, "run_python", code="6 * 7", session="default"))
        assert "42" in asked["result"]["content"][0]["text"]


def test_line_without_an_end_is_not_held(library: Path) -> None:
    with start(library) as pipes:
        assert pipes.process.stdin
        before = psutil.Process(pipes.process.pid).memory_info().rss
        for _ in range(20):
            pipes.process.stdin.write(b"x" * LINE_BYTES)
        pipes.send(b"")
        assert pipes.ask(rpc(0, "ping"))["result"] == {}
        assert psutil.Process(pipes.process.pid).memory_info().rss - before < 6 * LINE_BYTES


@pytest.mark.parametrize("end", [b"", b"{", b'{"jsonrpc":"2.0","id":1,"method":"tools/li', b"\xff\x00"])
def test_input_that_ends_within_a_line_ends_the_server_well(library: Path, end: bytes) -> None:
    with start(library) as pipes:
        assert pipes.process.stdin
        pipes.process.stdin.write(end)
        pipes.process.stdin.close()
        assert pipes.process.wait(timeout=ANSWER_SECONDS) == 0
