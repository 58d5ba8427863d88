"""One container as a worker: the docker SDK, in threads, for its life; the SDK's attach socket for traffic."""

from __future__ import annotations

import contextlib
import logging
import secrets
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread

from dynasaur_mcp.errors import WorkerLost
from dynasaur_mcp.sandbox.engine import Client, is_missing
from dynasaur_mcp.sandbox.presence import Presence

logger = logging.getLogger(__name__)

SERVER_LABEL, HOME_LABEL, RUNTIME_LABEL = "dynasaur-mcp.server", "dynasaur-mcp.home", "dynasaur-mcp.runtime"
"""On containers: their server, the folder it gives its signs of life in, and the OCI runtime if it was chosen."""

KILL_SECONDS = 30.0
END_SECONDS = 3.0
"""For a worker to end when it is left by its server, before it is killed."""
LAST_WORDS_BYTES = 2000

_STREAM_HEADER = struct.Struct(">BxxxI")
_STDERR = 2
_HUNG_UP = getattr(select, "POLLRDHUP", 0)
"""The other end has closed. Where the system has no such event, POLLHUP says it, which need not be asked for."""
_NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class DockerWorker:
    """One container, attached."""

    def __init__(self, client: Callable[[], Client], name: str, forget: Callable[[str], None]) -> None:
        """`client` gives the engine's as of now: an engine that was away may have come back under a new one."""
        self._client = client
        self._name = name
        self._forget = forget
        self._launching = threading.Lock()
        self._killed = self._gone = False
        self.is_left = False
        """It was killed, and the engine could not be told."""
        self._is_told = False
        """The log says that it was not removed."""
        self._raw: Any = None
        self._socket: socket.socket | None = None
        self._to_send = bytearray()
        self._received = bytearray()
        self._of_stream = 0
        self._stream_bytes = 0
        self._last_words = bytearray()

    @property
    def id(self) -> str:
        return self._name

    def launch(self, config: dict[str, Any]) -> None:
        """Blocking: create, attach, start, in this order: what is said before the attachment is lost.

        Raises:
            OSError: from the engine.
        """
        with self._launching:
            if self._killed:
                raise OSError("killed before it was started")
            client = self._client()
            client.create_container_from_config(config, self._name)
            self._raw = client.attach_socket(self._name, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
            # http.client reads ahead, but until the start there is nothing to read.
            self._socket = getattr(self._raw, "_sock", self._raw)
            self._socket.setblocking(False)
            _notice_silence(self._socket)
            client.start(self._name)

    def has_ended(self) -> bool:
        if self._killed or self._socket is None:
            return True
        poll = select.poll()
        poll.register(self._socket, _HUNG_UP)
        return bool(poll.poll(0))

    async def send(self, data: bytes) -> None:
        self._to_send += data
        while self._to_send:
            try:
                del self._to_send[: self._attached().send(self._to_send)]
            except _NOT_YET as error:
                await self._wait(writable=not isinstance(error, ssl.SSLWantReadError))
            except OSError:
                raise self._lost() from None

    async def receive(self) -> bytes:
        while not (data := self._next_output()):
            try:
                received = self._attached().recv(1 << 16)
            except _NOT_YET as error:
                await self._wait(writable=isinstance(error, ssl.SSLWantWriteError))
                continue
            except OSError:
                raise self._lost() from None
            if not received:
                raise self._lost()
            self._received += received
        return data

    async def kill(self) -> None:
        if self._gone:
            return
        self._killed, self.is_left = True, False
        with anyio.move_on_after(KILL_SECONDS, shield=True):
            if self._socket:
                anyio.notify_closing(self._socket)
            try:
                await anyio.to_thread.run_sync(self._remove, abandon_on_cancel=True)
            except OSError as error:
                self.is_left = True
                # Still registered: the sandbox tries again, and the next server.
                if not self._is_told:
                    logger.error("worker %s was not removed: %s", self._name, error)
                self._is_told = True
            else:
                self._gone = True
                self._forget(self._name)
                if self._is_told:
                    logger.warning("worker %s is removed now", self._name)

    def _attached(self) -> socket.socket:
        if self._socket is None or self._killed:
            raise self._lost()
        return self._socket

    async def _wait(self, *, writable: bool) -> None:
        try:
            await (anyio.wait_writable if writable else anyio.wait_readable)(self._attached())
        except (anyio.ClosedResourceError, OSError):
            raise self._lost() from None

    def _next_output(self) -> bytes:
        """What has come of stdout; empty when more must be read. stderr is kept aside.

        The stream is in pieces, each after a header of 8 bytes: which stream, three zeros, its length.
        """
        while self._received:
            if not self._stream_bytes:
                if len(self._received) < _STREAM_HEADER.size:
                    break
                self._of_stream, self._stream_bytes = _STREAM_HEADER.unpack_from(self._received)
                del self._received[: _STREAM_HEADER.size]
                continue
            data = bytes(self._received[: self._stream_bytes])
            del self._received[: self._stream_bytes]
            self._stream_bytes -= len(data)
            if self._of_stream != _STDERR:
                return data
            self._last_words += data
            del self._last_words[:-LAST_WORDS_BYTES]
        return b""

    def _lost(self) -> WorkerLost:
        words = self._last_words.decode(errors="replace").strip()
        return WorkerLost(f"The worker is gone. Its last words: {words}" if words else "The worker is gone.")

    def _remove(self) -> None:
        with self._launching:
            if self._socket:
                # Each keeps the connection open by itself; the response first, as it flushes.
                self._raw._response.close()
                self._socket.close()
                self._raw = self._socket = None
                _wait_for_end(self._client(), self._name)
            remove_container(self._client(), self._name)


def new_name(presence: Presence) -> str:
    """A name for a container of this server.

    Raises:
        OSError: the server's sign of life cannot be given.
    """
    return f"dynasaur-{presence.id}-{secrets.token_hex(4)}"


def labels_of(presence: Presence) -> dict[str, str]:
    """On every container of this server, for those who sweep."""
    return {SERVER_LABEL: presence.id, HOME_LABEL: presence.home}


def _notice_silence(attached: socket.socket) -> None:
    """A remote engine that vanished without a word is to be noticed within a minute."""
    if attached.family in (socket.AF_INET, socket.AF_INET6):
        attached.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):
                attached.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _wait_for_end(client: Client, container: str) -> None:
    """Blocking: let a container end by itself, as it does when its stdin is closed.

    After a fork bomb on gVisor the engine took up to 98 s to remove one by force, once in ten times: containerd's shim
    then lets the end of gVisor's own helper lie, and that of what kills it, while it tells on, a second for each, the
    ends of the hundred processes that a bomb leaves gVisor with. One that has ended by itself is not killed.
    """
    with contextlib.suppress(OSError):  # it is gone, or does not end
        client.wait(container, timeout=END_SECONDS, condition="not-running")


def remove_container(client: Client, container: str) -> None:
    """Blocking: end a container and remove it; nothing to do when it is gone. Never `stop`: that waits ten seconds.

    Raises:
        OSError: it is still there.
    """
    try:
        client.remove_container(container, force=True, v=True)
    except OSError as error:
        if is_missing(error):
            return
        if getattr(error, "status_code", None) != 409:
            raise
        # AutoRemove is at it already.
        try:
            client.wait(container, timeout=int(KILL_SECONDS), condition="removed")
        except OSError as waited:
            if not is_missing(waited):
                raise
