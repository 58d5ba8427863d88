"""One connection of HTTP, as uvicorn keeps it, but that nobody can hold it for nothing.

uvicorn has a time-out for what is idle between two requests, and none for a client that sends half of one, or does not
read its answer. Each such connection would cost a descriptor, and what is not read of an answer its memory, for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import resource
import socket
from collections.abc import Callable
from typing import Any, cast
from weakref import WeakValueDictionary

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 60.0
"""For a request to come whole, from when it is waited for."""
UNREAD_SECONDS = 30.0
"""For a client to read anything of what is sent to it."""
LINGER_SECONDS = 2.0
"""For a client that was refused to end what it is sending: closed with that unread, a connection takes back what it has
sent, and the client reads a reset for its answer."""
LINGER_BYTES = 64 << 20
"""It may send no more meanwhile."""
GATHERED_BYTES = 1 << 14
"""Of an answer that uvicorn has in pieces: those that are smaller go out together."""
MOST_CONNECTIONS = 4096


@functools.cache
def most_connections() -> int:
    """At once; of those that shake hands for TLS, half as many more. Half of the descriptors that the process may have,
    which are made as many as are needed if it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MOST_CONNECTIONS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(soft, wanted) // 2 if soft != resource.RLIM_INFINITY else MOST_CONNECTIONS


_begun: WeakValueDictionary[int, socket.socket] = WeakValueDictionary()
"""By descriptor, those that have not yet shaken hands for TLS, the oldest first."""


class TlsListener(socket.socket):
    """Where too many have not yet shaken hands, the oldest goes. Nobody else would know of it: the event loop, which
    gives each a minute for that, tells of none before."""

    _dropped: socket.socket | None = None

    def accept(self) -> tuple[socket.socket, Any]:
        if self._dropped and self._dropped.fileno() >= 0:
            # The event loop takes all there are at once: until then nobody would give a descriptor back.
            raise BlockingIOError
        accepted, address = super().accept()
        _begun.pop(accepted.fileno(), None)  # one that is closed
        _begun[accepted.fileno()] = accepted
        if len(_begun) > most_connections() // 2:
            descriptor, self._dropped = next(iter(_begun.items()))
            del _begun[descriptor]
            with contextlib.suppress(OSError):
                self._dropped.shutdown(socket.SHUT_RDWR)
        return accepted, address


class Outlet:
    """A transport as uvicorn uses it, but that small pieces go out together, at the latest in the next turn of the
    event loop; and one that is closed while its client sends is closed a little later, for the answer to be read."""

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, is_sent_to: Callable[[], bool]
    ) -> None:
        """
        Args:
            is_sent_to: Whether the rest of a request is still to come.
        """
        self.lingers = False
        """What comes is dropped."""
        self._transport = transport
        self._loop = loop
        self._is_sent_to = is_sent_to
        self._pieces: list[bytes] = []
        self._dropped_bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if len(data) >= GATHERED_BYTES:
            self._flush()
            self._transport.write(data)
        elif data:
            if not self._pieces:
                self._loop.call_soon(self._flush)
            self._pieces.append(data)

    def _flush(self) -> None:
        if self._pieces:
            gathered = b"".join(self._pieces)
            self._pieces.clear()
            self._transport.write(gathered)

    def is_closing(self) -> bool:
        return self.lingers or self._transport.is_closing()

    def close(self) -> None:
        if self._is_sent_to() and not self.is_closing():
            self.linger()
        else:
            self._flush()
            self._transport.close()

    def linger(self) -> None:
        self._flush()
        self.lingers = True
        self._transport.resume_reading()
        if self._transport.can_write_eof():  # TLS cannot; there the answer says where it ends
            self._transport.write_eof()
        self._loop.call_later(LINGER_SECONDS, self._transport.close)

    def drop(self, data: bytes) -> None:
        self._dropped_bytes += len(data)
        if self._dropped_bytes > LINGER_BYTES:
            self._transport.abort()


class Connection(H11Protocol):
    """Where there are too many, the one goes that the server has waited for longest: in the end, the new one."""

    waiting_since: float | None = None
    """When it began to wait for a request; None while one is answered."""
    _patience: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _outlet: Outlet

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        _begun.pop(transport.get_extra_info("socket").fileno(), None)
        # What the socket does not take is known at once, and no more than one part of an answer is held. (With 0, TLS
        # would take an empty buffer for a full one.)
        transport.set_write_buffer_limits(high=1)
        self._outlet = Outlet(transport, self.loop, lambda: self.conn.their_state is h11.SEND_BODY)
        self.transport = cast("asyncio.Transport", self._outlet)
        self._wait_for_request()
        if len(self.connections) > most_connections():
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop(self._unread)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._outlet.lingers:
            self._outlet.drop(data)
            return
        super().data_received(data)
        self._wait_for_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait_for_request()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop(self._unread)

    def send_400_response(self, msg: str) -> None:
        # uvicorn would let the application answer too, if it had begun with the request.
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Connection", "close")]
        head = h11.Response(status_code=400, headers=headers, reason="Bad Request")
        try:
            for event in (head, h11.Data(data=msg.encode("ascii")), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:  # an answer has begun, or may have no body, as to HEAD
            self.transport.close()
        else:
            self._outlet.linger()

    def _wait_for_request(self) -> None:
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._stop_waiting()
        elif self.waiting_since is None:
            self.waiting_since = self.loop.time()
            self._patience = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _stop_waiting(self) -> None:
        self.waiting_since = None
        self._stop(self._patience)

    def _expect_reading(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._unread = self.loop.call_later(UNREAD_SECONDS, self._look_whether_read, left)

    def _look_whether_read(self, left_before: int) -> None:
        if self.transport.get_write_buffer_size() < left_before:
            self._expect_reading()
        else:
            self.transport.abort()

    def _make_room(self) -> None:
        waiting = [one for one in self.connections if isinstance(one, Connection) and one.waiting_since is not None]
        longest = min(waiting, key=lambda one: one.waiting_since or 0.0)
        longest._stop_waiting()
        longest.transport.abort()

    @staticmethod
    def _stop(timer: asyncio.TimerHandle | None) -> None:
        if timer:
            timer.cancel()
