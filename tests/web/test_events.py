"""What is kept for clients whose stream breaks."""

from __future__ import annotations

import gc
import weakref

import pytest
from mcp.server.streamable_http import EventMessage
from mcp_types import JSONRPCNotification, JSONRPCResponse

from dynasaur_mcp.server.events import EventLog, Events

pytestmark = pytest.mark.anyio

ANSWER = JSONRPCResponse(jsonrpc="2.0", id=1, result={})


def news(text: str = "") -> JSONRPCNotification:
    return JSONRPCNotification(jsonrpc="2.0", method="notifications/message", params={"data": text})


async def replay(events: Events, last: str) -> list[object]:
    heard: list[object] = []

    async def hear(event: EventMessage) -> None:
        heard.append(event.message)

    assert await events.replay_events_after(last, hear) is None
    return heard


async def test_stream_is_replayed_alone_and_up_to_its_answer() -> None:
    events = Events(EventLog())
    first = await events.store_event("1", None)
    await events.store_event("1", news("one"))
    await events.store_event("2", news("of another stream"))
    await events.store_event("1", ANSWER)
    assert await replay(events, first) == [news("one"), ANSWER]


async def test_oldest_events_of_all_sessions_go_first_and_one_of_any_size_is_kept() -> None:
    log = EventLog(kept_bytes=4000)
    one, other = Events(log), Events(log)
    old = await one.store_event("1", news("x" * 2000))
    recent = await other.store_event("1", None)
    await other.store_event("1", ANSWER)
    assert await replay(other, recent) == [ANSWER]
    start = await one.store_event("1", None)
    await one.store_event("1", JSONRPCResponse(jsonrpc="2.0", id=1, result={"text": "x" * 10_000}))
    assert await replay(one, old) == []
    assert await replay(other, recent) == []
    assert await replay(one, start) == []
    newest = await one.store_event("2", None)
    await one.store_event("2", ANSWER)
    assert await replay(one, newest) == [ANSWER]


async def test_event_of_another_session_is_none() -> None:
    log = EventLog()
    one, other = Events(log), Events(log)
    first = await one.store_event("1", None)
    await one.store_event("1", ANSWER)
    assert await replay(other, first) == []


async def test_events_of_a_session_go_with_it_and_leave_their_room_to_others() -> None:
    log = EventLog(kept_bytes=4000)
    ended, other = Events(log), Events(log)
    await ended.store_event("1", news("x" * 2000))
    ended = weakref.proxy(ended)
    gc.collect()
    with pytest.raises(ReferenceError):
        await ended.store_event("1", ANSWER)
    old = await other.store_event("1", None)
    for _ in range(4):
        await other.store_event("1", news())
    await other.store_event("1", ANSWER)
    assert await replay(other, old) == [*4 * [news()], ANSWER]
    for _ in range(4):
        await other.store_event("2", news())
    assert await replay(other, old) == []
    recent = await other.store_event("1", None)
    await other.store_event("1", ANSWER)
    assert await replay(other, recent) == [ANSWER]
