"""What was sent to clients of the handshake era, for those whose stream broke and who come back for the rest.

Each session has events of its own, as the ids of its streams are unique only there; and nobody gets another's. The
newest are kept, of all sessions together: as the text that was sent, as objects would take several times as much. Those
of a session go with it.
"""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import anyio
from mcp.server.streamable_http import EventCallback, EventId, EventMessage, EventStore, StreamId
from mcp_types import JSONRPCError, JSONRPCMessage, JSONRPCResponse, jsonrpc_message_adapter

from dynasaur_mcp.server.ready import write_message

KEPT_BYTES = 64 << 20
_OVERHEAD_BYTES = 500


@dataclass(frozen=True, slots=True)
class _Event:
    number: int
    stream: StreamId
    message: Sequence[bytes]
    """In parts, as a kept page of the tool list is one that all have; empty where there is none."""
    ends_stream: bool


class EventLog:
    """How much all sessions may keep, and whose is oldest."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self.numbers = itertools.count(1)
        self._left = kept_bytes
        self._added: deque[tuple[weakref.ref[Events], int]] = deque()

    def add(self, events: Events, size_bytes: int) -> None:
        """Make room for what `events` has added, at the cost of the oldest ones."""
        self._added.append((events.itself, size_bytes))
        self._left -= size_bytes
        while True:
            its, freed = self._added[0]
            if oldest := its():
                if self._left >= 0 or len(self._added) == 1:
                    break
                oldest.forget_oldest()
            self._added.popleft()
            self._left += freed


class Events(EventStore):
    """Those of one session."""

    def __init__(self, log: EventLog) -> None:
        self.itself = weakref.ref(self)
        self._log = log
        self._events: deque[_Event] = deque()
        self._news = anyio.Event()

    async def store_event(self, stream_id: StreamId, message: JSONRPCMessage | None) -> EventId:
        parts = write_message(message) if message else ()
        is_answer = isinstance(message, JSONRPCResponse | JSONRPCError)
        event = _Event(next(self._log.numbers), stream_id, parts, is_answer)
        self._events.append(event)
        self._log.add(self, _OVERHEAD_BYTES + sum(map(len, parts)))
        self._news.set()
        self._news = anyio.Event()
        return str(event.number)

    async def replay_events_after(self, last_event_id: EventId, send_callback: EventCallback) -> StreamId | None:
        """What its stream sent since, and goes on to send, up to the answer that ends it.

        The transport would follow the stream itself if its id were given back; but what is sent between the replay and
        that would reach nobody.
        """
        last = next((event for event in self._events if str(event.number) == last_event_id), None)
        while last:
            news = self._news
            for event in list(self._events):
                if event.stream != last.stream or event.number <= last.number:
                    continue
                last = event
                if event.message:
                    message = jsonrpc_message_adapter.validate_json(b"".join(event.message), by_name=False)
                    await send_callback(EventMessage(message, str(event.number)))
                if event.ends_stream:
                    return None
            await news.wait()
        return None

    def forget_oldest(self) -> None:
        self._events.popleft()
