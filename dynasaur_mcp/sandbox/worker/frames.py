"""The server, seen from the supervisor: requests in, answers out, and connections carried meanwhile."""

from __future__ import annotations

import collections
import os
import select
from collections.abc import Callable

from dynasaur_mcp.sandbox.wire import FrameReader, encode_frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dynasaur_mcp.sandbox.worker.relay import Relay

IDLE_SECONDS = 0.002
"""Without a request, before each thing done ahead of one: those that come one upon another need the processor."""
LOOK_SECONDS = 0.25
"""Between two looks at what goes on while no request is there."""


class Frames:
    """Two descriptors. This process ends with the first, and with it every process of the sandbox."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self.incoming = incoming
        """Can be read from when something has come; `is_cancelled` then takes it."""
        self.relay: Relay | None = None
        """To be set where code may reach hosts."""
        self._outgoing = outgoing
        self._reader = FrameReader()
        self._waiting: collections.deque[dict[str, Any]] = collections.deque()

    def next_request(self, prepare: Callable[[], bool], look: Callable[[], None]) -> dict[str, Any]:
        """The next one. Until it is there, calls `prepare` again and again while that finds something to do, and `look`
        now and then."""
        is_prepared = False
        while True:
            while not self._waiting:
                if select.select([self.incoming], [], [], LOOK_SECONDS if is_prepared else IDLE_SECONDS)[0]:
                    self._read()
                elif not is_prepared:
                    is_prepared = not prepare()
                else:
                    look()
            request = self._waiting.popleft()
            if request["op"] != "cancel":
                return request

    def is_cancelled(self, identifier: int) -> bool:
        """Take what has come; whether it cancels this request. Later requests wait."""
        while select.select([self.incoming], [], [], 0)[0]:
            self._read()
        cancelled = any(m["op"] == "cancel" and m["id"] == identifier for m in self._waiting)
        self._waiting = collections.deque(m for m in self._waiting if m["op"] != "cancel")
        return cancelled

    def send(self, message: dict[str, Any]) -> None:
        self.write(encode_frame(message))

    def write(self, frame: bytes) -> None:
        data = memoryview(frame)
        while data:
            data = data[os.write(self._outgoing, data) :]

    def _read(self) -> None:
        data = os.read(self.incoming, 1 << 16)
        if not data:
            os._exit(0)
        for message in self._reader.feed(data):
            if "net" not in message:
                self._waiting.append(message)
            elif self.relay:
                self.relay.take(message)
