"""What every client can do over HTTP, whichever way it speaks."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from mcp_types import ToolListChangedNotification

from dynasaur_mcp.server.web import listen
from tests.flows.conftest import text_of

from .conftest import ERAS, StartServer, WebServer
from .raw import ACCEPT, INITIALIZE, call, events_of, shake_hands

pytestmark = pytest.mark.anyio

DOUBLE = '''\
def double(number: int) -> int:
    """Double a number.

    >>> double(2)
    4
    """
    return 2 * number
'''
IMAGE = "class P:\n    def _repr_png_(self): return b'\\x89PNG fake'\nP()"
LARGE_IMAGE = "class P:\n    def _repr_png_(self): return b'\\x89PNG' + bytes({})\nP()"
SLOW = "import time\nprint('began', flush=True)\ntime.sleep({})\n'slept'"


@pytest.fixture(autouse=True)
def _jail(require: Callable[[str], None]) -> None:
    require("jail")


@asynccontextmanager
async def following(server: WebServer, era: str) -> AsyncIterator[Callable[[], Any]]:
    """A client that does nothing but hear of changes; waits for one."""
    heard = anyio.Event()

    async def hear(message: Any) -> None:
        if isinstance(message, ToolListChangedNotification):
            heard.set()

    async with server.connect(era, hear=hear) as model:
        await model.tools()
        if era != "2026-07-28":
            yield heard.wait
            return
        async with model.client.listen(tools_list_changed=True) as subscription:
            yield subscription.__anext__


@pytest.mark.parametrize("era", ERAS)
async def test_client_over_http_defines_is_told_calls_and_keeps_state(serve_http: StartServer, era: str) -> None:
    async with serve_http() as server, following(server, era) as change, server.connect(era) as model:
        assert "now a tool" in await model.text("define_action", source=DOUBLE)
        with anyio.fail_after(10):
            await change()
        assert "double" in await model.tools()
        assert (await model.call("double", number=4)).structured_content == {"result": 8}
        await model.text("run_python", code="kept = 41")
        assert "42" in await model.text("run_python", code="kept + 1")
        assert "ZeroDivisionError" in await model.error("run_python", code="1 / 0")
        pictured = await model.call("run_python", code=IMAGE)
        assert [part.type for part in pictured.content] == ["text", "image"]

        largest = await model.call("run_python", code=LARGE_IMAGE.format(753_000))
        assert [part.type for part in largest.content] == ["text", "image"]
        assert "is left out" in await model.text("run_python", code=LARGE_IMAGE.format(1_000_000))
        written = "open('large.bin', 'wb').write(bytes(range(256)) * 4096)"
        await model.text("run_python", code=written)
        resource = await model.client.read_resource("dynasaur://sessions/default/files/large.bin")
        assert resource.contents[0].meta is not None
        assert resource.contents[0].meta["dynasaur/total"] == 1 << 20

        with anyio.CancelScope() as scope:

            async def cancel(*_: object) -> None:
                scope.cancel()

            await model.client.call_tool(
                "run_python", {"code": "kept = 0\n" + SLOW.format(25)}, progress_callback=cancel
            )
        assert scope.cancelled_caught
        with anyio.fail_after(15):
            assert "41" in await model.text("run_python", code="kept")
        async with server.connect(era) as other:
            assert "41" in await other.text("run_python", code="kept")


@pytest.mark.parametrize("seconds", [0, 2])
async def test_answer_of_a_stream_that_broke_is_read_on_another(serve_http: StartServer, seconds: int) -> None:
    async with serve_http() as server, server.http() as http, server.http() as other:
        headers, foreign = await shake_hands(http), await shake_hands(other)
        await http.post("/mcp", json=call(2, "run_python", code="1"), headers=headers)
        asked = call(3, "run_python", code=SLOW.format(seconds))
        async with http.stream("POST", "/mcp", json=asked, headers=headers) as stream:
            last_event, _ = await anext(events_of(stream))
        resumed = {"Last-Event-ID": last_event}
        with anyio.fail_after(20):
            async with http.stream("GET", "/mcp", headers=headers | resumed) as stream:
                answers = [json.loads(data) async for _, data in events_of(stream) if data]
        assert [answer["id"] for answer in answers] == [3]
        assert "slept" in answers[0]["result"]["content"][0]["text"]
        with anyio.fail_after(20):
            async with other.stream("GET", "/mcp", headers=foreign | resumed) as stream:
                assert [data async for _, data in events_of(stream)] == []


async def test_news_that_a_broken_stream_has_missed_come_on_the_next(serve_http: StartServer) -> None:
    async with serve_http() as server, server.http() as http, server.connect("legacy") as model:
        headers = await shake_hands(http)
        seen = ""
        for number in range(3):
            async with http.stream(
                "GET", "/mcp", headers=headers | ({"Last-Event-ID": seen} if seen else {})
            ) as stream:
                if not seen:
                    await model.text("define_action", source=DOUBLE)
                events = events_of(stream)
                with anyio.fail_after(10):
                    while True:
                        event, data = await anext(events)
                        if data:
                            break
                assert json.loads(data)["method"] == "notifications/tools/list_changed"
                assert event != seen
                seen = event
            if number < 2:
                await model.text("manage_action", name="double", op=["pin", "unpin"][number])


@pytest.mark.parametrize("era", ERAS)
async def test_stopping_server_lets_a_call_end_and_takes_no_other(serve_http: StartServer, era: str) -> None:
    async with serve_http() as server, server.connect(era) as model, server.http() as http:
        await model.text("run_python", code="1")
        assert (await http.get("/readyz")).status_code == 200
        answers: list[str] = []
        async with anyio.create_task_group() as tasks:
            began = anyio.Event()

            async def note(*_: object) -> None:
                began.set()

            async def work() -> None:
                result = await model.client.call_tool("run_python", {"code": SLOW.format(3)}, progress_callback=note)
                answers.append(text_of(result))  # type: ignore[arg-type]
                tasks.cancel_scope.cancel()

            tasks.start_soon(work)
            await began.wait()
            server.process.send_signal(signal.SIGTERM)
            with anyio.fail_after(2):
                while (await http.get("/readyz")).status_code == 200:
                    await anyio.sleep(0.01)
            refused = await http.post("/mcp", json=INITIALIZE, headers=ACCEPT)
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            assert (await http.get("/healthz")).status_code == 200
            with anyio.fail_after(20):
                await anyio.sleep_forever()
        assert "slept" in answers[0]
        assert server.process.wait(timeout=15) == 0
        assert "Traceback" not in server.log.read_text()


async def test_second_signal_ends_the_server_at_once(serve_http: StartServer) -> None:
    async with serve_http() as server, server.http() as http:
        headers = await shake_hands(http)
        asked = call(2, "run_python", code=SLOW.format(25))
        async with http.stream("POST", "/mcp", json=asked, headers=headers) as stream:
            await anext(events_of(stream))
            server.process.send_signal(signal.SIGTERM)
            with anyio.fail_after(5):
                while (await http.get("/readyz")).status_code == 200:
                    await anyio.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(timeout=15) == 0


async def test_call_without_a_session_that_the_end_of_the_server_breaks_off_is_to_be_made_again(
    serve_http: StartServer,
) -> None:
    headers = ACCEPT | {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "run_python"}
    asked = call(1, "run_python", code=SLOW.format(60))
    asked["params"]["_meta"] = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    async with serve_http(drain_seconds=0) as server, server.http() as http:

        async def stop_once_it_is_at_work() -> None:
            while "dynasaur_calls_at_work 1.0" not in (await http.get("/metrics")).text:
                await anyio.sleep(0.02)
            server.process.send_signal(signal.SIGTERM)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop_once_it_is_at_work)
            answer = await http.post("/mcp", json=asked, headers=headers)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert server.process.wait(timeout=60) == 0
        assert "Traceback" not in server.log.read_text()


async def test_stream_of_sse_names_the_path_of_messages_as_the_proxy_has_it(serve_http: StartServer) -> None:
    named = {"": "", "/tools/dyn/": "/tools/dyn", "//evil.test": "", "https://evil.test": "", "/a?b": ""}
    async with serve_http() as server, server.http() as http:
        for given, prefix in named.items():
            async with http.stream("GET", "/sse", headers={"X-Forwarded-Prefix": given}) as stream:
                async for _, data in events_of(stream):
                    assert data.partition("?session_id=")[0] == f"{prefix}/messages/"
                    break


async def test_server_with_a_certificate_speaks_tls(serve_http: StartServer, tmp_path: Path) -> None:
    authority = trustme.CA()
    own = authority.issue_cert("localhost", "127.0.0.1")
    own.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    async with serve_http(tls_certificate=tmp_path / "both.pem") as server:
        assert server.url.startswith("https://")
        server.verify = ssl.create_default_context()
        authority.configure_trust(server.verify)
        async with server.connect("2026-07-28") as model:
            assert "2" in await model.text("run_python", code="1 + 1")


async def test_small_piece_of_an_answer_does_not_wait_for_the_one_before() -> None:
    delays: list[int] = []

    async def look(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        delays.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    with closing(listen("127.0.0.1", 0)) as listener:
        server = await asyncio.start_server(look, sock=listener)
        async with server, await anyio.connect_tcp(*listener.getsockname()) as stream:
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
    assert delays == [1]
