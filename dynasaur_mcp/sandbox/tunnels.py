"""Connections that sandboxed code makes, from the frames of its worker to the egress proxy and back.

They live as long as one request to the worker. No frame waits for a slow connection, neither here nor there: each side
sends no more than a window's worth before the other has said how much it passed on, so what is held is bounded.
"""

from __future__ import annotations

import base64
import binascii
import collections
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import anyio
from anyio.abc import SocketStream, TaskGroup

from dynasaur_mcp.errors import WorkerLost
from dynasaur_mcp.sandbox.outlet import Outlet
from dynasaur_mcp.sandbox.wire import NET_CHUNK_BYTES, NET_CONNECTIONS, NET_WINDOW_BYTES, FrameError, encode_net

_NO_PROXY = (
    b"HTTP/1.1 502 The egress proxy of this server does not work\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)
_GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, WorkerLost)

SendFrame = Callable[[bytes], Awaitable[None]]


class Tunnels:
    """Use `open_tunnels`."""

    def __init__(self, outlet: Outlet, who: str, send: SendFrame, tasks: TaskGroup) -> None:
        self._outlet = outlet
        self._who = who
        self._send = send
        self._tasks = tasks
        self._open: dict[int, _Tunnel] = {}
        self._last_number = 0

    def take(self, message: Mapping[str, Any]) -> None:
        """A `net` frame of the worker. Never waits.

        Raises:
            FrameError: it is none, or goes beyond what a worker may send.
        """
        number = message["net"]
        if type(number) is not int:
            raise FrameError("a network frame is malformed")
        tunnel = self._open.get(number)
        if tunnel is None and "data" in message and number > self._last_number:
            if len(self._open) >= NET_CONNECTIONS:
                raise FrameError("too many connections")
            self._last_number = number
            tunnel = self._open[number] = _Tunnel()
            self._tasks.start_soon(self._carry, number, tunnel)
        if tunnel is not None:
            tunnel.take(message)

    async def _carry(self, number: int, tunnel: _Tunnel) -> None:
        async def tell(**what: Any) -> None:
            await self._send(encode_net({"net": number, **what}))

        with contextlib.suppress(*_GONE):
            try:
                stream = await self._outlet.dial(self._who)
            except OSError:
                await tell(data=base64.b64encode(_NO_PROXY).decode())
            else:
                async with stream, anyio.create_task_group() as both:
                    both.start_soon(tunnel.carry_out, stream, tell, both.cancel_scope.cancel)
                    await tunnel.carry_in(stream, tell)
                    both.cancel_scope.cancel()
        # From here on its frames are late ones, and nothing is done on them.
        del self._open[number]
        with contextlib.suppress(WorkerLost):
            await tell(end=True)


class _Tunnel:
    """One connection: what came of it and is not yet passed on, and how much may be sent."""

    def __init__(self) -> None:
        self._to_pass = collections.deque[bytes]()
        self._under_way = 0
        self._has_ended = False
        """At the worker."""
        self._has_news = anyio.Event()
        self._may_send = NET_WINDOW_BYTES
        self._may_go_on = anyio.Event()

    def take(self, message: Mapping[str, Any]) -> None:
        """
        Raises:
            FrameError
        """
        match message:
            case {"data": str(text)}:
                try:
                    data = base64.b64decode(text, validate=True)
                except binascii.Error:
                    raise FrameError("a network frame is not base64") from None
                self._under_way += len(data)
                if self._under_way > NET_WINDOW_BYTES:
                    raise FrameError("a connection sent more than it may")
                self._to_pass.append(data)
                self._has_news.set()
            case {"passed": int(passed)} if passed > 0:
                # Whatever it says: no more is held for it than there was in the beginning.
                self._may_send = min(NET_WINDOW_BYTES, self._may_send + passed)
                self._may_go_on.set()
            case {"end": True}:
                self._has_ended = True
                self._has_news.set()
            case _:
                raise FrameError("a network frame is malformed")

    async def carry_out(
        self, stream: SocketStream, tell: Callable[..., Awaitable[None]], done: Callable[[], None]
    ) -> None:
        """To the proxy, until the worker's side is closed; then the other direction is of no use either."""
        with contextlib.suppress(*_GONE):
            while self._to_pass or not self._has_ended:
                if not self._to_pass:
                    self._has_news = anyio.Event()
                    await self._has_news.wait()
                    continue
                data = self._to_pass.popleft()
                await stream.send(data)
                self._under_way -= len(data)
                await tell(passed=len(data))
            done()

    async def carry_in(self, stream: SocketStream, tell: Callable[..., Awaitable[None]]) -> None:
        """From the proxy, until that is closed."""
        with contextlib.suppress(*_GONE):
            while True:
                while not self._may_send:
                    self._may_go_on = anyio.Event()
                    await self._may_go_on.wait()
                data = await stream.receive(min(NET_CHUNK_BYTES, self._may_send))
                self._may_send -= len(data)
                await tell(data=base64.b64encode(data).decode())


@contextlib.asynccontextmanager
async def open_tunnels(outlet: Outlet, who: str, send: SendFrame) -> AsyncIterator[Tunnels]:
    """For one request; all are closed at its end.

    Args:
        who: Whom the requests are made for, as the proxy's log is to say it.
        send: Gives a frame to the worker. A frame whose sending is cancelled is sent whole all the same.
    """
    failure = None
    async with anyio.create_task_group() as tasks:
        try:
            yield Tunnels(outlet, who, send, tasks)
        except Exception as error:  # boundary: raised again below, as it is; the group would wrap it
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
