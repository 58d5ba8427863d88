"""How clients reach the server by stdio.

The SDK's own reading of stdin blocks a thread that nothing can interrupt, so a server told to stop would hang until its
client closes the pipe; and each message costs it three changes of thread. Here both descriptors are waited for in the
event loop.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from mcp.server.lowlevel import Server
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from dynasaur_mcp.server.ready import takes_words, write_message

logger = logging.getLogger(__name__)

READ_BYTES = 1 << 16
LINE_BYTES = 16 << 20
"""More without an end is no message, and not held."""
PIPE_BYTES = 1 << 20
"""What stdout is made to hold, where it is a pipe: an answer in one piece, without waiting for the client to read."""


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
    to_server, received = anyio.create_memory_object_stream[SessionMessage | Exception]()
    sent, to_client = anyio.create_memory_object_stream[SessionMessage]()
    takes_words.set(True)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_read_messages, stdin, to_server)
            tasks.start_soon(_write_messages, stdout, to_client)
            await server.run(received, sent, server.create_initialization_options())
    except* (BrokenPipeError, ConnectionResetError):
        logger.info("The client closed its end")


async def _read_messages(stdin: int, to_server: ObjectSendStream[SessionMessage | Exception]) -> None:
    async with to_server:
        async for line in Lines(stdin):
            message: SessionMessage | Exception
            try:
                message = SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
            except Exception as error:  # boundary: what is no message does not end the connection
                message = error
            await to_server.send(message)


async def _write_messages(stdout: int, to_client: ObjectReceiveStream[SessionMessage]) -> None:
    """A task of its own: a request that is cancelled while its answer is written does not tear the line."""
    async with to_client:
        with open_writer(stdout) as writer:
            async for message in to_client:
                *parts, last = write_message(message.message)
                for part in (*parts, last + b"\n"):
                    await writer.write(part)


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
    """Lines of a descriptor as text."""

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
    """Bytes to a descriptor. Never blocks the event loop."""

    def __init__(self, descriptor: int, write: Callable[[memoryview], int]) -> None:
        """
        Args:
            write: As much as can be without blocking, or raises BlockingIOError.
        """
        self._descriptor = descriptor
        self._write = write

    async def write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[self._write(left) :]
            except BlockingIOError:
                await anyio.wait_writable(self._descriptor)


@contextmanager
def open_writer(descriptor: int) -> Iterator[Writer]:
    """For as long as it is open. That a descriptor does not block must not be set on it: others share that."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            yield Writer(descriptor, lambda data: sock.send(data, socket.MSG_DONTWAIT))
        return
    own = _reopen(descriptor) if stat.S_ISFIFO(mode) else None
    if own is None:
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        yield Writer(descriptor, partial(_write_piece, descriptor, poll))
        return
    try:
        yield Writer(own, partial(os.write, own))
    finally:
        os.close(own)


def _reopen(pipe: int) -> int | None:
    """The same pipe by a description of its own, and larger. None where the system has no such thing, or refuses it."""
    with suppress(OSError, AttributeError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    with suppress(OSError):
        if sys.platform == "linux":
            return os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return None


def _write_piece(descriptor: int, poll: select.poll, data: memoryview) -> int:
    """What polls as writable takes this much without blocking."""
    if not poll.poll(0):
        raise BlockingIOError
    return os.write(descriptor, data[: select.PIPE_BUF])
