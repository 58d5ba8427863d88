"""A long list of tools over HTTP, in each era and however it is read: as stdio has it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.reading import read_action
from dynasaur_mcp.types import Schemas, Status, Tests
from tests.flows.conftest import Model, OpenClient

from .conftest import ERAS, StartServer
from .raw import ACCEPT, events_of, rpc, shake_hands

pytestmark = pytest.mark.anyio

ADD = 'def {}(text: str) -> str:\n    """Say "{}" 🦖.\n\n    >>> {}("a")\n    \'a\'\n    """\n    return text\n'


@pytest.fixture
def names(library: Path) -> list[str]:
    """Actions of a library whose list has several pages."""
    names = [f"say_{number:02}" for number in range(20)]
    options = {"type": "string", "enum": [f"{number} é 🦖 {'x' * 10_000}" for number in range(20)]}
    schemas = Schemas({"type": "object", "properties": {"text": options}}, {"type": "object", "properties": {}}, False)
    with closing(FileStore(library)) as store:
        for name in names:
            action = read_action(ADD.format(name, name, name), name)
            store.put(
                action,
                author="ada",
                tests=Tests(passed=1),
                schemas=schemas,
                status=Status.ACTIVE,
                expected_version=0,
            )
    return names


async def read_pages(model: Model) -> AsyncIterator[list[dict[str, Any]]]:
    cursor = None
    while True:
        page = await model.client.list_tools(cursor=cursor, cache_mode="bypass")
        yield [tool.model_dump(by_alias=True, exclude_none=True) for tool in page.tools]
        if (cursor := page.next_cursor) is None:
            return


@pytest.mark.parametrize("era", ERAS)
async def test_list_over_http_is_that_over_stdio_also_while_it_changes(
    serve_http: StartServer, open_client: OpenClient, library: Path, names: list[str], era: str
) -> None:
    async with open_client("jail", expose="all") as model:
        over_stdio = [page async for page in read_pages(model)]
    assert len(over_stdio) > 2
    async with serve_http(expose="all") as server, server.connect(era) as model:
        assert [page async for page in read_pages(model)] == over_stdio
        assert [page async for page in read_pages(model)] == over_stdio
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                pages = [page async for page in read_pages(model)]
                assert [tool["name"] for page in pages for tool in page][-len(names) :] == names

            for pinned in (True, False) * 3:
                tasks.start_soon(read)
                with closing(FileStore(library)) as store:
                    await anyio.to_thread.run_sync(store.set_pinned, names[0], pinned)


async def test_list_of_a_stream_that_broke_is_read_on_another(serve_http: StartServer, names: list[str]) -> None:
    async with serve_http(expose="all") as server, server.http() as http:
        headers = await shake_hands(http)
        told = []
        async with http.stream("POST", "/mcp", json=rpc(2, "tools/list"), headers=headers) as stream:
            told += [event async for event in events_of(stream)]
        (start, _), (_, answer) = told
        resumed = headers | {"Last-Event-ID": start}
        async with http.stream("GET", "/mcp", headers=resumed) as stream:
            (again,) = [data async for _, data in events_of(stream)]
        assert json.loads(again) == json.loads(answer)
        assert names[0] in {tool["name"] for tool in json.loads(answer)["result"]["tools"]}


def ask(era: str, request_id: object, **params: Any) -> dict[str, Any]:
    if era != "legacy":
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": era,
            "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    return {"jsonrpc": "2.0", "id": request_id, "method": "tools/list", "params": params}


async def open_era(http: httpx2.AsyncClient, era: str) -> dict[str, str]:
    """The headers of who lists in it."""
    if era == "legacy":
        return await shake_hands(http)
    return ACCEPT | {"MCP-Protocol-Version": era, "Mcp-Method": "tools/list"}


def read_answer(answer: httpx2.Response) -> dict[str, Any]:
    text = answer.text if answer.text.startswith("{") else answer.text.rpartition("data: ")[2]
    return dict(json.loads(text))


@pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
async def test_list_asked_for_again_is_the_same_but_for_its_id_until_it_changes(
    serve_http: StartServer, library: Path, names: list[str], era: str
) -> None:
    async with serve_http(expose="all") as server, server.http() as http, server.http() as other:
        headers, others = await open_era(http, era), await open_era(other, era)

        async def list_tools(request_id: object, **params: Any) -> dict[str, Any]:
            answers = [
                read_answer(await client.post("/mcp", json=ask(era, request_id, **params), headers=whose))
                for client, whose in ((http, headers), (other, others), (http, headers))
            ]
            assert answers[0] == answers[1] == answers[2]
            assert answers[0]["jsonrpc"] == "2.0"
            assert (answers[0]["id"], type(answers[0]["id"])) == (request_id, type(request_id))
            return dict(answers[0]["result"])

        first = await list_tools(2)
        assert await list_tools(3) == await list_tools('"four" é') == first
        second = await list_tools(5, cursor=first["nextCursor"])
        assert await list_tools(6, cursor=first["nextCursor"]) == second != first

        with closing(FileStore(library)) as store:
            store.delete(names[0], author="ada")
        assert {tool["name"] for tool in (await list_tools(7))["tools"]} & set(names[:2]) == {names[1]}


@pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
async def test_who_may_not_list_cannot_ask_what_another_has_asked_before(
    serve_http: StartServer, names: list[str], era: str
) -> None:
    async with serve_http(expose="all") as server, server.http() as http:
        headers = await open_era(http, era)
        for number in range(2, 5):
            answer = await http.post("/mcp", json=ask(era, number), headers=headers)
            assert names[0] in answer.text
        assert answer.headers["content-type"] == "application/json"

        for change, status in (
            ({"Accept": "text/event-stream"}, 406),
            ({"Content-Type": "text/plain"}, 400),
            ({"MCP-Protocol-Version": "1999-01-01"}, 400),
            ({"Authorization": "Bearer nobody"}, 401),
            ({"Origin": "https://elsewhere.example"}, 403),
            ({"Mcp-Session-Id": "0" * 32}, {"legacy": 404, "2026-07-28": 200}[era]),
            ({"Mcp-Method": "tools/call"}, {"legacy": 200, "2026-07-28": 400}[era]),
        ):
            answer = await http.post("/mcp", json=ask(era, 5), headers=headers | change)
            assert answer.status_code == status, change
        for request_id in (None, 1.5, [1], True):
            answer = await http.post("/mcp", json=ask(era, request_id), headers=headers)
            assert "result" not in answer.text, request_id
        answer = await http.post("/mcp", json=ask(era, 6, cursor="none"), headers=headers)
        assert read_answer(answer)["error"]["message"] == "No such cursor"


async def test_session_that_has_ended_gets_no_list_of_others(serve_http: StartServer, names: list[str]) -> None:
    async with serve_http(expose="all") as server, server.http() as http:
        headers = await shake_hands(http)
        for number in range(2, 4):
            assert names[0] in (await http.post("/mcp", json=rpc(number, "tools/list"), headers=headers)).text
        other = await shake_hands(http)
        assert (await http.delete("/mcp", headers=headers)).status_code == 200
        assert (await http.post("/mcp", json=rpc(4, "tools/list"), headers=headers)).status_code == 404
        assert (await http.post("/mcp", json=rpc(4, "tools/list"), headers=other)).status_code == 200
