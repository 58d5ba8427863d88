"""Frames of a worker that speaks nonsense, or more than it may: user code runs where they come from."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from dynasaur_mcp.sandbox.outlet import Outlet
from dynasaur_mcp.sandbox.tunnels import open_tunnels
from dynasaur_mcp.sandbox.wire import NET_CONNECTIONS, NET_WINDOW_BYTES, FrameError

pytestmark = pytest.mark.anyio

SOME = base64.b64encode(b"some").decode()


async def drop(_frame: bytes) -> None: ...


@pytest.mark.parametrize(
    "message",
    [
        {"net": "1", "data": SOME},
        {"net": None, "data": SOME},
        {"net": [1], "data": SOME},
        {"net": True, "data": SOME},
        {"net": 1, "data": "%%%"},
        {"net": 1, "data": 5},
        {"net": 1, "data": base64.b64encode(bytes(NET_WINDOW_BYTES)).decode()},
        {"net": 1, "passed": -1},
        {"net": 1, "passed": "much"},
        {"net": 1, "end": "yes"},
        {"net": 1},
    ],
)
async def test_frame_that_no_relay_sends_is_an_error(message: dict[str, Any]) -> None:
    async with open_tunnels(Outlet(()), "me", drop) as tunnels:
        tunnels.take({"net": 1, "data": SOME})
        with pytest.raises(FrameError):
            tunnels.take(message)


async def test_more_connections_than_a_worker_may_have_are_an_error() -> None:
    async with open_tunnels(Outlet(()), "me", drop) as tunnels:
        for number in range(1, NET_CONNECTIONS + 1):
            tunnels.take({"net": number, "data": SOME})
        with pytest.raises(FrameError):
            tunnels.take({"net": NET_CONNECTIONS + 1, "data": SOME})


async def test_late_frames_of_what_is_over_are_nothing() -> None:
    async with open_tunnels(Outlet(()), "me", drop) as tunnels:
        for message in ({"net": 7, "passed": 1 << 40}, {"net": 7, "end": True}, {"net": -1, "data": SOME}):
            tunnels.take(message)
