"""Principals are apart: what one has open, none of the others sees, ends or uses up."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from dynasaur_mcp.errors import QuotaExceeded
from dynasaur_mcp.sandbox.quotas import Quotas
from dynasaur_mcp.server.auth import GivenTokens
from dynasaur_mcp.server.door import Turns
from dynasaur_mcp.server.metrics import Metrics
from dynasaur_mcp.server.sessions import Sessions
from dynasaur_mcp.server.web import Front, build_app
from dynasaur_mcp.types import Quota

from .conftest import ERAS, StartServer
from .raw import ACCEPT, INITIALIZE, events_of, shake_hands
from .test_clients import DOUBLE, SLOW

pytestmark = pytest.mark.anyio

ADA, BOB = "token-of-ada-0123456789", "token-of-bob-0123456789"


@pytest.fixture
def tokens(tmp_path: Path) -> str:
    file = tmp_path / "tokens"
    file.write_text(f"ada {ADA}\nbob {BOB}\n")
    return str(file)


@pytest.mark.parametrize("era", ERAS)
async def test_nobody_sees_or_ends_what_is_anothers(
    serve_http: StartServer, tokens: str, era: str, require: Callable[[str], None]
) -> None:
    require("jail")
    async with (
        serve_http(token="", token_file=tokens) as server,
        server.connect(era, ADA) as ada,
        server.connect(era, BOB) as bob,
    ):
        await ada.text("run_python", code="secret = 7; open('mine.txt', 'w').write('hers')", session="work")
        running = await ada.text("run_python", code=SLOW.format(25), session="long", background=True)
        run = re.search(r"run='?(\w{8})|run (\w{8})|\b([0-9a-f]{8})\b", running)
        assert run, running
        run_id = next(filter(None, run.groups()))

        assert "No session is open" in await bob.text("manage_action", name="x", op="list_sessions")
        assert "work" in await ada.text("manage_action", name="x", op="list_sessions")
        assert "No session named 'work'" in await bob.error("manage_action", name="work", op="close_session")

        assert "NameError" in await bob.error("run_python", code="secret", session="work")
        for uri in (f"dynasaur://runs/{run_id}/output", "dynasaur://sessions/work/files/mine.txt"):
            with pytest.raises(MCPError):
                await bob.client.read_resource(uri)
            await ada.client.read_resource(uri)
        for cancel in (False, True):
            assert "No run" in await bob.error("check_run", run=run_id, wait_seconds=0, cancel=cancel)
        assert "cancelled" in await ada.error("check_run", run=run_id, cancel=True)
        assert "7" in await ada.text("run_python", code="secret", session="work")

        await ada.text("define_action", source=DOUBLE)
        assert (await bob.call("double", number=2)).structured_content == {"result": 4}
        assert "ada" in await bob.text("manage_action", name="double", op="history")


async def test_metrics_count_what_everybody_does_and_name_nobody(
    serve_http: StartServer, tokens: str, require: Callable[[str], None]
) -> None:
    require("jail")
    async with serve_http(token="", token_file=tokens) as server, server.connect("legacy", ADA) as ada:
        await ada.text("define_action", source=DOUBLE)
        await ada.call("double", number=2)
        await ada.error("run_python", code="1 / 0")
        async with server.http(BOB) as bob:
            text = (await bob.get("/metrics")).text
    for line in (
        'dynasaur_calls_total{ending="returned",tool="action"} 1.0',
        'dynasaur_calls_total{ending="error",tool="run_python"} 1.0',
        'dynasaur_call_seconds_count{tool="define_action"} 1.0',
        "dynasaur_sessions 1.0",
        "dynasaur_calls_at_work 0.0",
    ):
        assert f"\n{line}\n" in text, text
    assert "process_resident_memory_bytes" in text
    assert not [name for name in ("ada", "bob", "double", ADA, BOB) if name in text]


async def test_session_of_the_protocol_is_of_use_to_its_principal_only(serve_http: StartServer, tokens: str) -> None:
    async with serve_http(token="", token_file=tokens) as server, server.http(ADA) as ada, server.http(BOB) as bob:
        headers = await shake_hands(ada)
        listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
        assert (await bob.post("/mcp", json=listing, headers=headers)).status_code == 404
        assert (await bob.delete("/mcp", headers=headers)).status_code == 404
        assert (await bob.get("/mcp", headers=headers)).status_code == 404
        assert (await ada.post("/mcp", json=listing, headers=headers)).status_code == 200
        async with ada.stream("GET", "/sse") as stream:
            events = events_of(stream)  # kept: the stream would end with it
            _, path = await anext(events)
            assert (await bob.post(path, json=INITIALIZE)).status_code == 404
            assert (await ada.post(path, json=INITIALIZE)).status_code == 202


async def test_quotas_are_each_principals_own_and_say_how_long_to_wait(
    serve_http: StartServer, tokens: str, require: Callable[[str], None]
) -> None:
    require("jail")
    quotas = {"calls_per_minute": 4, "sessions_each": 1}
    async with (
        serve_http(token="", token_file=tokens, **quotas) as server,
        server.connect("2026-07-28", ADA) as ada,
        server.connect("2026-07-28", BOB) as bob,
    ):
        await ada.text("run_python", code="1")
        assert "You hold the sessions 'default'" in await ada.error("run_python", code="1", session="two")
        await bob.text("run_python", code="1")
        await ada.text("run_python", code="1")
        await ada.text("search_actions", query="anything")
        refused = await ada.error("search_actions", query="anything")
        assert re.search(r"4 calls within a minute, the most for one principal here\. Wait \d+ s\.", refused)
        with pytest.raises(MCPError, match="Wait"):
            await ada.client.read_resource("dynasaur://actions/none")
        assert len(await ada.tools()) == 6
        await bob.text("run_python", code="1")


async def test_cpu_seconds_run_out_for_code_and_for_nothing_else(
    serve_http: StartServer, tokens: str, require: Callable[[str], None]
) -> None:
    require("jail")
    async with (
        serve_http(token="", token_file=tokens, cpu_seconds_per_day=0.2) as server,
        server.connect("legacy", ADA) as ada,
        server.connect("legacy", BOB) as bob,
    ):
        await ada.text("run_python", code="import time; time.sleep(0.3)")
        for tool, arguments in (("run_python", {"code": "1"}), ("define_action", {"source": DOUBLE})):
            refused = await ada.error(tool, **arguments)
            assert re.search(r"has used its 0\.2 CPU seconds of today, .* Wait \d+ s\.", refused)
        await ada.text("search_actions", query="anything")
        await ada.text("manage_action", name="default", op="close_session")
        await bob.text("define_action", source=DOUBLE)


async def test_open_requests_and_sessions_are_bounded_for_each(serve_http: StartServer, tokens: str) -> None:
    async with (
        serve_http(token="", token_file=tokens, requests_each=2) as server,
        server.http(ADA) as ada,
        server.http(BOB) as bob,
    ):
        async with ada.stream("GET", "/sse") as one, ada.stream("GET", "/sse") as two:
            assert (one.status_code, two.status_code) == (200, 200)
            refused = await ada.post("/mcp", json=INITIALIZE, headers=ACCEPT)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
            assert (await bob.post("/mcp", json=INITIALIZE, headers=ACCEPT)).status_code == 200
        with anyio.fail_after(10):
            while (opened := await ada.post("/mcp", json=INITIALIZE, headers=ACCEPT)).status_code == 429:
                await anyio.sleep(0.05)
        assert (await ada.post("/mcp", json=INITIALIZE, headers=ACCEPT)).status_code == 200
        refused = await ada.post("/mcp", json=INITIALIZE, headers=ACCEPT)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert (await bob.post("/mcp", json=INITIALIZE, headers=ACCEPT)).status_code == 200
        ended = ACCEPT | {"Mcp-Session-Id": opened.headers["mcp-session-id"]}
        assert (await ada.delete("/mcp", headers=ended)).status_code == 200
        assert (await ada.post("/mcp", json=INITIALIZE, headers=ACCEPT)).status_code == 200


OpenSession = Callable[[str], Awaitable[httpx2.Response]]


@asynccontextmanager
async def opening(**bounds: Any) -> AsyncIterator[tuple[httpx2.AsyncClient, OpenSession]]:
    """What opens sessions of the protocol, bounded, by token."""
    server = Server[Any]("tests")
    sessions = Sessions(server, **bounds)
    verifier = GivenTokens({"ada": ADA, "bob": BOB})
    front = Front(host="127.0.0.1", port=0, hosts=("127.0.0.1",), origins=())
    app = build_app(server, sessions, verifier, Turns(8), Metrics({}), front, lambda: True)
    async with (
        sessions.run(),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1", headers=ACCEPT) as http,
    ):

        async def open_session(token: str) -> httpx2.Response:
            return await http.post("/mcp", json=INITIALIZE, headers={"Authorization": f"Bearer {token}"})

        yield http, open_session


def of_session(opened: httpx2.Response, token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Mcp-Session-Id": opened.headers["mcp-session-id"]}


async def test_beyond_what_all_may_open_a_client_is_told_when_to_come_back() -> None:
    async with opening(most_each=2, most=2) as (http, open_session):
        opened = [await open_session(token) for token in (ADA, BOB)]
        assert [answer.status_code for answer in opened] == [200, 200]
        refused = await open_session(BOB)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "60")
        assert (await http.delete("/mcp", headers=of_session(opened[0], ADA))).status_code == 200
        assert (await open_session(BOB)).status_code == 200


async def test_session_left_for_longest_makes_room_for_another_of_its_principal_alone() -> None:
    async with opening(most_each=2, most=3, left_seconds=0) as (http, open_session):
        his = await open_session(BOB)
        first, second = [await open_session(ADA) for _ in range(2)]
        asked = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        assert (await http.post("/mcp", json=asked, headers=of_session(first, ADA))).status_code == 200
        assert (await open_session(ADA)).status_code == 200
        assert (await http.post("/mcp", json=asked, headers=of_session(second, ADA))).status_code == 404
        assert (await http.post("/mcp", json=asked, headers=of_session(first, ADA))).status_code == 200
        assert (await http.post("/mcp", json=asked, headers=of_session(his, BOB))).status_code == 200


def test_what_was_used_comes_back_with_time() -> None:
    clock = [1000.0]
    quotas = Quotas(Quota(calls_per_minute=1, cpu_seconds_per_day=1), cpus=2.0, now=lambda: clock[0])
    quotas.admit_call("ada")
    clock[0] += 10
    with pytest.raises(QuotaExceeded, match="Wait 50 s"):
        quotas.admit_call("ada")
    clock[0] += 50
    quotas.admit_call("ada")
    with quotas.charge("ada"):
        clock[0] += 0.5
    with pytest.raises(QuotaExceeded, match=r"Wait 85\d\d\d s"):
        quotas.admit_run("ada")
    clock[0] += 86_400
    quotas.admit_run("ada")
