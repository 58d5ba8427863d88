"""The way out of a sandbox, which has no network but its own loopback: a port there whose connections go out as frames.

The relay is a process that only moves bytes. It is forked when the first connection of a request comes, and ended with
the request and all its connections, so nothing of one request is there in the next, and where nobody connects nobody
waits. The supervisor passes its frames on to the server, where they reach the egress proxy: see `wire`.
"""

from __future__ import annotations

import base64
import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable, Sequence

from dynasaur_mcp.sandbox.wire import NET_CHUNK_BYTES, NET_CONNECTIONS, NET_WINDOW_BYTES, FrameReader, encode_net

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
"""Of the environment: where clients of HTTP look for a proxy."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_BACKLOG = 128
_MAX_WAITING_BYTES = 1 << 20
"""For the supervisor; no more is read from connections past it."""
_MAX_SOCKETS = 4 * NET_CONNECTIONS
"""Those included that are at an end and wait for the client to close."""
_GONE = select.POLLERR | select.POLLHUP


class Relay:
    """The supervisor's side. It is to be polled for reading, by its `fileno`, while a request may use the network."""

    def __init__(self, write: Callable[[bytes], None], descriptors_end: int) -> None:
        """
        Args:
            write: Gives a frame to the server.
            descriptors_end: No process here has a descriptor of this number or above.
        """
        self._write = write
        self._descriptors_end = descriptors_end
        # Bound here, before any user code runs: no other process can have this port.
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self._listener.setblocking(False)
        self._events = select.epoll()
        self._events.register(self._listener, select.EPOLLIN)
        self._process = 0
        self._stream: socket.socket | None = None
        self._waiting = bytearray()
        self._reader = FrameReader()
        self._last_number = 0

    def fileno(self) -> int:
        return self._events.fileno()

    def set_environment(self, hosts: Sequence[str]) -> None:
        """Have clients of HTTP in what is forked from now on take this way; but not to the sandbox's own loopback,
        unless that address is among the hosts, where it means the server's.
        """
        for name in _VARIABLES:
            os.environ[name] = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        meant = {name.strip("[]") for host in hosts for name in (host, host.rpartition(":")[0])}
        direct = [name for name in _LOOPBACK if name not in meant]
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(direct)

    def turn(self) -> None:
        """Carry what is there to be carried, up to a frame or two; for when it can be read from."""
        if self._stream is None:
            self._start()
            return
        with contextlib.suppress(BlockingIOError):
            data = b""
            with contextlib.suppress(ConnectionResetError):
                data = self._stream.recv(1 << 16)
                for message in self._reader.feed(data):
                    self._last_number = max(self._last_number, message["net"])
                    self._write(encode_net(message))
            if not data:
                # Ended by user code. What connects from now on waits in vain, until the next request.
                self._events.unregister(self._stream)
                return
        self._flush()

    def take(self, message: dict[str, Any]) -> None:
        """A frame from the server; to no effect after the request it belongs to."""
        if self._stream is not None:
            self._waiting += encode_net(message)
            self._flush()

    def stop(self) -> None:
        """End all connections."""
        if self._stream is None:
            return
        os.kill(self._process, signal.SIGKILL)
        self._stream.close()
        self._stream = None
        self._waiting.clear()
        self._reader = FrameReader()
        self._events.register(self._listener, select.EPOLLIN)

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            self._process = os.fork()
        except OSError:
            # No room for a process more. Who tries to connect is told, and need not wait.
            ours.close()
            theirs.close()
            with contextlib.suppress(OSError):
                self._listener.accept()[0].close()
            return
        if self._process == 0:
            _become_relay(self._listener, theirs, self._last_number + 1, self._descriptors_end)
        theirs.close()
        ours.setblocking(False)
        self._stream = ours
        self._events.unregister(self._listener)
        self._events.register(ours, select.EPOLLIN)

    def _flush(self) -> None:
        assert self._stream
        with contextlib.suppress(OSError):
            while self._waiting:
                del self._waiting[: self._stream.send(self._waiting)]
        with contextlib.suppress(FileNotFoundError):  # gone, and unregistered
            self._events.modify(self._stream, select.EPOLLIN | (select.EPOLLOUT if self._waiting else 0))


def _become_relay(listener: socket.socket, stream: socket.socket, number: int, descriptors_end: int) -> NoReturn:
    try:
        first, second = sorted((listener.fileno(), stream.fileno()))
        for low, high in ((3, first), (first + 1, second), (second + 1, descriptors_end)):
            os.closerange(low, high)
        _Mover(listener, stream, number).move()
    finally:
        # A child never unwinds into the supervisor's own frames.
        os._exit(1)


def forget_environment() -> None:
    """Of a process that is not to use the network: its clients of HTTP then try directly, and fail at once."""
    for name in (*_VARIABLES, "no_proxy", "NO_PROXY"):
        os.environ.pop(name, None)


class _Connection:
    def __init__(self, stream: socket.socket) -> None:
        self.socket = stream
        self.number = 0
        """Given with its first bytes, so that numbers come to the server in their order."""
        self.may_send = NET_WINDOW_BYTES
        self.to_pass = bytearray()
        self.passed_bytes = 0
        """That the server has not been told of."""
        self.has_ended = False
        """At the other side. What is left is passed on; then what the client still sends is dropped until it closes, as
        closing before would reset the connection under a client that has not read to the end."""
        self.is_shut = False


class _Mover:
    """The relay's own side: one loop over all connections."""

    def __init__(self, listener: socket.socket, stream: socket.socket, number: int) -> None:
        self._listener = listener
        self._stream = stream
        self._next_number = number
        self._connections: dict[int, _Connection] = {}
        """By descriptor."""
        self._numbered: dict[int, _Connection] = {}
        """Those that the server has not ended, also where the client has."""
        self._waiting = bytearray()
        self._reader = FrameReader()
        stream.setblocking(False)

    def move(self) -> None:
        """Until the supervisor is gone."""
        while True:
            found = dict(self._poll().poll())
            served = [
                (connection, found[number]) for number, connection in self._connections.items() if number in found
            ]
            if self._stream.fileno() in found and not self._talk():
                return
            if self._listener.fileno() in found:
                self._accept()
            for connection, events in served:
                self._serve(connection, events)

    def _poll(self) -> select.poll:
        poll = select.poll()
        poll.register(self._stream, select.POLLIN | (select.POLLOUT if self._waiting else 0))
        new = sum(not connection.number for connection in self._connections.values())
        if len(self._numbered) + new < NET_CONNECTIONS and len(self._connections) < _MAX_SOCKETS:
            poll.register(self._listener, select.POLLIN)
        is_full = len(self._waiting) > _MAX_WAITING_BYTES
        for descriptor, connection in self._connections.items():
            reads = connection.is_shut or (connection.may_send and not connection.has_ended and not is_full)
            writes = connection.to_pass
            poll.register(descriptor, (select.POLLIN if reads else 0) | (select.POLLOUT if writes else 0))
        return poll

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it went away again
            stream = self._listener.accept()[0]
            stream.setblocking(False)
            self._connections[stream.fileno()] = _Connection(stream)

    def _serve(self, connection: _Connection, events: int) -> None:
        try:
            if events & select.POLLOUT:
                passed = connection.socket.send(connection.to_pass)
                del connection.to_pass[:passed]
                connection.passed_bytes += passed
                if not connection.to_pass or connection.passed_bytes >= NET_CHUNK_BYTES:
                    self._tell(connection, passed=connection.passed_bytes)
                    connection.passed_bytes = 0
                self._shut_if_done(connection)
            if events & select.POLLIN:
                self._read(connection)
            elif events & _GONE:
                self._close(connection)
        except BlockingIOError:
            pass
        except OSError:
            self._close(connection)

    def _read(self, connection: _Connection) -> None:
        most = NET_CHUNK_BYTES if connection.has_ended else min(NET_CHUNK_BYTES, connection.may_send)
        data = connection.socket.recv(most)
        if not data:
            self._close(connection)
        elif not connection.has_ended:
            if not connection.number:
                connection.number, self._next_number = self._next_number, self._next_number + 1
                self._numbered[connection.number] = connection
            connection.may_send -= len(data)
            self._tell(connection, data=base64.b64encode(data).decode())

    def _talk(self) -> bool:
        """With the supervisor; whether it is there."""
        with contextlib.suppress(BlockingIOError):
            while self._waiting:
                del self._waiting[: self._stream.send(self._waiting)]
        with contextlib.suppress(BlockingIOError):
            data = self._stream.recv(1 << 16)
            for message in self._reader.feed(data):
                self._take(message)
            return bool(data)
        return True

    def _take(self, message: dict[str, Any]) -> None:
        connection = self._numbered.get(message["net"])
        if connection is None:
            return
        if "data" in message:
            connection.to_pass += base64.b64decode(message["data"])
        elif "passed" in message:
            connection.may_send += message["passed"]
        else:
            del self._numbered[connection.number]
            connection.has_ended = True
            self._shut_if_done(connection)

    def _shut_if_done(self, connection: _Connection) -> None:
        if connection.has_ended and not connection.to_pass:
            connection.is_shut = True
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_WR)

    def _close(self, connection: _Connection) -> None:
        """Of what the client has closed. It keeps its number until the server says that it has ended there too."""
        del self._connections[connection.socket.fileno()]
        connection.socket.close()
        if not connection.has_ended:
            self._tell(connection, end=True)

    def _tell(self, connection: _Connection, **what: Any) -> None:
        if connection.number:
            self._waiting += encode_net({"net": connection.number, **what})
