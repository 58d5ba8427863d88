"""How clients reach the server: stdio. (Network transports come later.)

The SDK's own reading of stdin blocks a thread that nothing can interrupt, so a server told to stop would hang until its
client closes the pipe; and each message costs it three changes of thread. Its `stdio_server` is therefore given streams
that wait for their descriptor in the event loop.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

logger = logging.getLogger(__name__)

READ_BYTES = 1 << 16
LINE_BYTES = 16 << 20
"""More without an end is no message, and not held."""
WRITE_BYTES = select.PIPE_BUF
"""A pipe that polls as writable takes this much without blocking."""


async def serve_stdio(server: Server[Any]) -> None:
    """Serve one client on stdin and stdout until it is gone, or SIGTERM or SIGINT comes.

    Meanwhile nothing else can read or write there: descriptor 0 is the null device, descriptor 1 is stderr.
    """
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_cancel_on_signal, tasks.cancel_scope)
        with claim_stdio() as (stdin, stdout):
            await serve_descriptors(server, stdin, stdout)
        tasks.cancel_scope.cancel()


async def serve_descriptors(server: Server[Any], stdin: int, stdout: int) -> None:
    """Serve one client on a pair of descriptors until it is gone."""
    lines: Any = Lines(stdin)
    writer: Any = Writer(stdout)
    try:
        async with stdio_server(lines, writer) as (read, write):
            await server.run(read, write, server.create_initialization_options())
    except* (BrokenPipeError, ConnectionResetError):
        logger.info("The client closed its end")


async def _cancel_on_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            logger.info("Stopping on %s", signal.Signals(number).name)
            scope.cancel()
            return


@contextmanager
def claim_stdio() -> Iterator[tuple[int, int]]:
    """Private duplicates of descriptors 0 and 1, which point elsewhere until the end."""
    sys.stdout.flush()
    stdin, stdout = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    try:
        yield stdin, stdout
    finally:
        sys.stdout.flush()
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.close(stdin)
        os.close(stdout)


class Lines:
    """Lines of a descriptor as text, the way `stdio_server` iterates over its stdin."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()

    def __aiter__(self) -> Lines:
        return self

    async def __anext__(self) -> str:
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            if len(self._buffer) > LINE_BYTES:
                self._buffer.clear()  # its end comes as a line that is none either
            searched = len(self._buffer)
            data = await self._read()
            if not data:
                end = searched - 1
                break
            self._buffer += data
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        if not line:
            raise StopAsyncIteration
        return line.decode("utf-8", "replace")

    async def _read(self) -> bytes:
        while True:
            try:
                await anyio.wait_readable(self._descriptor)
            except PermissionError:  # a regular file cannot be waited for, and never blocks
                await anyio.lowlevel.checkpoint()
            try:
                return os.read(self._descriptor, READ_BYTES)
            except BlockingIOError:
                continue


class Writer:
    """Text to a descriptor, the way `stdio_server` writes to its stdout. Never blocks the event loop."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    async def write(self, text: str) -> None:
        left = memoryview(text.encode())
        while left:
            if not self._poll.poll(0):
                await anyio.wait_writable(self._descriptor)
            try:
                left = left[os.write(self._descriptor, left[:WRITE_BYTES]) :]
            except BlockingIOError:
                await anyio.wait_writable(self._descriptor)

    async def flush(self) -> None:
        """Nothing is held back."""
