"""A long list of tools over HTTP, in each era and however it is read: as stdio has it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.reading import read_action
from dynasaur_mcp.types import Schemas, Status, Tests
from tests.flows.conftest import Model, OpenClient

from .conftest import ERAS, StartServer
from .raw import events_of, rpc, shake_hands

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
