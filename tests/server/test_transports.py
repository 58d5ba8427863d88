"""A server process on stdio: what goes over the wire, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import anyio
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from dynasaur_mcp.server.transports import Lines, open_writer

pytestmark = pytest.mark.anyio

SERVER = r"""
import os, subprocess, sys
import anyio
from mcp.server.lowlevel import Server
from mcp_types import CallToolResult, ListToolsResult, TextContent, Tool
from dynasaur_mcp.server.transports import serve_stdio

async def list_tools(ctx, params):
    return ListToolsResult(tools=[Tool(name="echo", input_schema={"type": "object"})])

async def call_tool(ctx, params):
    print("a stray print")
    os.write(1, b"a stray write")
    subprocess.run([sys.executable, "-c", "print('a stray child')"])
    return CallToolResult(content=[TextContent(text=params.arguments["text"])])

server = Server("echo", on_list_tools=list_tools, on_call_tool=call_tool)
anyio.run(serve_stdio, server)
try:
    os.write(1, b"after\n")
except BrokenPipeError:
    pass
print("ended well", file=sys.stderr)
"""
INITIALIZE = (
    b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},'
    b'"clientInfo":{"name":"t","version":"1"}}}\n'
)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "server.py"
    path.write_text(SERVER)
    return path


@contextmanager
def start(script: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, script], **(pipes | options)) as process:
        try:
            yield process
        finally:
            process.kill()


def shake_hands(process: subprocess.Popen[bytes]) -> None:
    stdin, stdout = streams(process)
    stdin.write(INITIALIZE)
    stdin.flush()
    assert b'"protocolVersion":"2025-11-25"' in stdout.readline()


def streams(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_stray_output_never_reaches_the_wire(script: Path, mode: str) -> None:
    parameters = StdioServerParameters(command=sys.executable, args=[str(script)])
    async with Client(parameters, mode=mode) as client:
        for text in ("héllo", "x" * 3_000_000):
            result = await client.call_tool("echo", {"text": text})
            assert result.content[0].text == text  # type: ignore[union-attr]


def test_end_of_input_ends_the_server_well(script: Path) -> None:
    with start(script) as process:
        shake_hands(process)
        output, errors = process.communicate(timeout=20)
        assert process.returncode == 0
        assert errors.endswith(b"ended well\n")
        assert output == b"after\n"  # stdout is back where it was


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_server_while_its_input_stays_open(script: Path, number: signal.Signals) -> None:
    with start(script) as process:
        shake_hands(process)
        process.send_signal(number)
        assert process.wait(timeout=20) == 0
        assert process.stderr is not None
        assert process.stderr.read().endswith(b"ended well\n")


def test_client_that_closed_its_end_ends_the_server_well(script: Path) -> None:
    with start(script) as process:
        shake_hands(process)
        stdin, stdout = streams(process)
        stdout.close()
        stdin.write(b'{"jsonrpc":"2.0","id":2,"method":"tools/list"}\n')
        stdin.flush()
        process.wait(timeout=20)
        assert process.stderr is not None
        errors = process.stderr.read()
        assert b"ended well" in errors
        assert b"Traceback" not in errors


def test_requests_may_come_from_a_file(script: Path, tmp_path: Path) -> None:
    requests = tmp_path / "requests.jsonl"
    requests.write_bytes(b"rubbish\n" + INITIALIZE + b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
    with requests.open("rb") as file, start(script, stdin=file) as process:
        assert process.stdout is not None
        assert b"serverInfo" in process.stdout.read()


async def test_lines_are_read_whole_however_they_arrive() -> None:
    read, write = os.pipe()
    lines: list[str] = []

    async def read_lines() -> None:
        async for line in Lines(read):
            lines.append(line)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read_lines)
            for piece in (b"on", b"e\ntwo\n\xc3", b"\xa9\n\xff\nlast"):
                os.write(write, piece)
                await anyio.wait_writable(write)
            os.close(write)
    os.close(read)
    assert lines == ["one\n", "two\n", "é\n", "\ufffd\n", "last"]


@pytest.fixture(params=["pipe", "socket", "pipe that cannot be opened again"])
async def ends(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[int, int]]:
    """Where to read what is written at the other one, as clients make them."""
    if request.param == "socket":
        one, other = socket.socketpair()
        with one, other:
            yield one.fileno(), other.fileno()
        return
    if request.param != "pipe":
        monkeypatch.setattr(sys, "platform", "another")
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


async def test_writing_more_than_is_taken_at_once_lets_others_run(ends: tuple[int, int]) -> None:
    reading, writing = ends
    data = os.urandom(5_000_000)
    received = bytearray()
    with anyio.fail_after(20), open_writer(writing) as writer:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writer.write, data)
            while len(received) < len(data):
                await anyio.wait_readable(reading)
                received += os.read(reading, 1 << 16)
    assert received == data


async def test_stuck_writer_can_be_cancelled(ends: tuple[int, int]) -> None:
    with open_writer(ends[1]) as writer, anyio.move_on_after(0) as scope:
        await writer.write(b"x" * 10_000_000)
    assert scope.cancelled_caught


async def test_whoever_shares_what_is_written_to_finds_it_blocking_still(ends: tuple[int, int]) -> None:
    with open_writer(ends[1]) as writer:
        await writer.write(b"x")
        assert os.get_blocking(ends[1])
    assert os.get_blocking(ends[1])
    os.write(ends[1], b"y")
    assert os.read(ends[0], 1) + os.read(ends[0], 1) == b"xy"
