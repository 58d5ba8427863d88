"""The tool list as clients get it: by pages, as stdio writes it, and as the SDK does for every other transport."""

from __future__ import annotations

import json
import logging
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.client._memory import InMemoryTransport
from mcp.shared.exceptions import MCPError
from mcp_types import Tool

from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.reading import read_action
from dynasaur_mcp.server.listing import Exposure, Listing
from dynasaur_mcp.server.scopes import ALL_SCOPES, READ, RUN
from dynasaur_mcp.types import META_TOOLS, Ending, Schemas, Status

from .conftest import ERAS, Keep, Serve
from .pipes import over_pipes

pytestmark = pytest.mark.anyio
MESSAGE_MOST_BYTES = 1 << 20
"""Of what clients of the SDK take."""


def large(characters: int, letter: str = "x") -> Schemas:
    """Those of an action that takes one of a few long texts."""
    options = {"type": "string", "enum": [letter * (characters // 10 - number) for number in range(10)]}
    return Schemas({"type": "object", "properties": {"option": options}}, {"type": "object", "properties": {}}, False)


async def list_pages(client: Client) -> list[list[Tool]]:
    pages, cursor = [], None
    while True:
        page = await client.list_tools(cursor=cursor, cache_mode="bypass")
        pages.append(page.tools)
        if (cursor := page.next_cursor) is None:
            return pages


async def list_names(client: Client) -> list[str]:
    return [tool.name for page in await list_pages(client) for tool in page]


@ERAS
async def test_stdio_and_the_sdk_write_the_same_list(serve: Serve, keep: Keep, era: str) -> None:
    for number in range(40):
        keep(f"action_{number:02}", author='Ada 🦖 "ü"', schemas=large(40_000, "é" if number % 2 else "x"))
    async with (
        serve(expose="all") as (server, _),
        Client(InMemoryTransport(server), mode=era) as client,
        over_pipes(server, era) as pipes,
    ):
        pages = [
            [tool.model_dump(by_alias=True, exclude_none=True) for tool in page] for page in await list_pages(client)
        ]
        assert len(pages) > 1
        cursor: dict[str, str] = {}
        for number, page in enumerate(pages):
            told = await pipes.ask("tools/list", f'{number} "tools":[] é', **cursor)
            assert told["result"]["tools"] == page
            assert ("resultType" in told["result"]) is (era != "legacy")
            cursor = {"cursor": told["result"].get("nextCursor")}
        assert cursor == {"cursor": None}


@ERAS
async def test_pages_join_to_the_whole_in_order_and_none_exceeds_what_clients_take(
    serve: Serve, keep: Keep, era: str
) -> None:
    names = [f"action_{number:02}" for number in range(12)]
    for name in reversed(names):
        keep(name, schemas=large(100_000, "é"))
    async with serve(expose="all") as (server, _), Client(InMemoryTransport(server), mode=era) as client:
        pages = await list_pages(client)
        assert [tool.name for page in pages for tool in page] == [*META_TOOLS, *names]
        assert await list_pages(client) == pages
    written = [json.dumps([tool.model_dump(by_alias=True, exclude_none=True) for tool in page]) for page in pages]
    assert len(written) > 1
    assert max(map(len, written)) < MESSAGE_MOST_BYTES


async def test_change_between_two_pages_neither_repeats_nor_skips_what_stayed(
    store: FileStore, serve: Serve, keep: Keep
) -> None:
    names = [f"action_{number:02}" for number in range(12)]
    for name in names:
        keep(name, schemas=large(200_000))
    async with serve(expose="all") as (server, _), Client(InMemoryTransport(server), mode="legacy") as client:
        first = await client.list_tools()
        assert first.tools[-1].name > "action_03"
        store.delete("action_01")
        keep("action_02b", schemas=large(200_000))
        store.delete("action_11")
        rest: list[str] = []
        cursor = first.next_cursor
        while cursor:
            page = await client.list_tools(cursor=cursor)
            rest += [tool.name for tool in page.tools]
            cursor = page.next_cursor
    assert [*(tool.name for tool in first.tools), *rest] == [*META_TOOLS, *names[:-1]]


@ERAS
@pytest.mark.parametrize("cursor", ["rubbish", ""])
async def test_cursor_that_was_not_given_out_is_refused(serve: Serve, era: str, cursor: str) -> None:
    async with serve(expose="all") as (server, _), Client(InMemoryTransport(server), mode=era) as client:
        with pytest.raises(MCPError, match="No such cursor"):
            await client.list_tools(cursor=cursor)


@ERAS
@pytest.mark.parametrize("params", [{"cursor": 5}, {"cursor": ["after:a"]}])
async def test_malformed_request_is_answered_as_one_also_where_the_list_is_kept(
    serve: Serve, era: str, params: dict[str, Any]
) -> None:
    async with serve() as (server, _), over_pipes(server, era) as pipes:
        assert "result" in await pipes.ask("tools/list")
        assert (await pipes.ask("tools/list", **params))["error"]["code"] == -32602


@pytest.mark.parametrize("expose", ["auto", "all"])
async def test_each_change_of_an_action_is_seen_and_a_call_changes_nothing(
    store: FileStore, serve: Serve, keep: Keep, expose: str
) -> None:
    async with serve(expose=expose) as (server, _), Client(InMemoryTransport(server), mode="legacy") as client:

        async def find(name: str) -> str | None:
            found = [tool for page in await list_pages(client) for tool in page if tool.name == name]
            return found[0].description if found else None

        entry = keep("add")
        before = await list_pages(client)
        assert "v1, 1/1 tests" in (await find("add") or "")
        store.record_call("add", 1, principal="local", ending=Ending.RETURNED, seconds=0.1)
        assert await list_pages(client) == before
        store.record_check("add", 1, tests=entry.tests, schemas=large(100), status=Status.ACTIVE)
        assert await list_pages(client) != before
        keep("add", 'def add(first: int) -> int:\n    """Other."""\n    return first\n', expected_version=1)
        assert "Other." in (await find("add") or "")
        store.set_status("add", Status.DISABLED)
        assert await find("add") is None
        store.set_status("add", Status.ACTIVE)
        assert "Other." in (await find("add") or "")
        store.delete("add")
        assert await find("add") is None
        store.rollback("add", 1, author="ada")
        assert "Add two whole numbers." in (await find("add") or "")


async def test_library_that_took_the_place_of_another_is_listed(
    store: FileStore, serve: Serve, keep: Keep, tmp_path: Path
) -> None:
    old = keep("add", 'def add(first: int) -> int:\n    """The old one."""\n    return first\n')
    with closing(FileStore(tmp_path / "other")) as other:
        source = old.action.source.replace("old", "new")
        other.put(
            read_action(source, "add"),
            author="ada",
            tests=old.tests,
            schemas=old.schemas,
            status=Status.ACTIVE,
            expected_version=0,
        )
        assert (other.revision, other.get("add").version) == (store.revision, store.get("add").version)
    async with serve(expose="all") as (server, _), Client(InMemoryTransport(server), mode="legacy") as client:
        assert "The old one." in ((await list_pages(client))[0][-1].description or "")
        for path in (tmp_path / "library").glob(".ledger*"):
            path.unlink()
        shutil.copytree(tmp_path / "other", tmp_path / "library", dirs_exist_ok=True)
        assert "The new one." in ((await list_pages(client))[0][-1].description or "")


@pytest.mark.parametrize("expose", ["auto", "all"])
async def test_library_that_cannot_be_read_leaves_the_meta_tools_until_it_can(
    store: FileStore, serve: Serve, keep: Keep, tmp_path: Path, expose: Exposure
) -> None:
    in_the_way = tmp_path / "library" / ".ledger.sqlite3"
    in_the_way.mkdir()
    assert not Listing(store, "auto", 2000).shows("add")
    async with serve(expose=expose) as (server, _), Client(InMemoryTransport(server), mode="legacy") as client:
        assert await list_names(client) == list(META_TOOLS)
        in_the_way.rmdir()
        keep("add")
        assert await list_names(client) == [*META_TOOLS, "add"]


async def test_bad_tools_are_left_out_and_warned_of_once_however_often_the_list_is_made(
    serve: Serve, keep: Keep, caplog: pytest.LogCaptureFixture
) -> None:
    for name, schema in (
        ("not_an_object", {"type": "string"}),
        ("surrogate", {"type": "object", "properties": {}, "$comment": "\ud800"}),
        ("too_large", large(1_100_000).input),
        ("too_large_as_ascii", large(400_000, "é").input),
    ):
        keep(name, schemas=Schemas(schema, {"type": "object", "properties": {}}, wraps_result=False))
    async with serve(expose="all") as (server, _), Client(InMemoryTransport(server), mode="legacy") as client:
        with caplog.at_level(logging.WARNING):
            for name in ("good", "good_too", "xylophone"):
                keep(name)
                assert name in await list_names(client)
        assert await list_names(client) == [*META_TOOLS, "good", "good_too", "xylophone"]
    warned = [record.getMessage().split("'")[1] for record in caplog.records if "left out" in record.getMessage()]
    assert sorted(warned) == ["not_an_object", "surrogate", "too_large", "too_large_as_ascii"]


async def test_each_principal_is_given_what_its_scopes_are_good_for(serve: Serve, keep: Keep) -> None:
    names = [f"action_{number:02}" for number in range(8)]
    for name in names:
        keep(name, schemas=large(200_000))
    scopes = ALL_SCOPES
    async with (
        serve(expose="all", scopes_of=lambda _: scopes) as (server, _),
        Client(InMemoryTransport(server), mode="legacy") as client,
    ):
        for _ in range(2):
            scopes = ALL_SCOPES
            assert await list_names(client) == [*META_TOOLS, *names]
            later = (await client.list_tools()).next_cursor
            scopes = frozenset({READ})
            assert await list_names(client) == ["search_actions", "manage_action"]
            assert (await client.list_tools(cursor=later)).tools == []
            scopes = frozenset({RUN})
            assert await list_names(client) == ["run_python", "execute_action", "manage_action", "check_run", *names]


async def test_request_cancelled_while_its_answer_is_written_leaves_no_half_a_line(serve: Serve, keep: Keep) -> None:
    for number in range(5):
        keep(f"action_{number:02}", schemas=large(200_000))
    async with serve(expose="all") as (server, _), over_pipes(server, "legacy") as pipes:
        for number in range(20):  # more than the pipe holds
            pipes.send({"id": number, "method": "tools/list"})
            pipes.send({"method": "notifications/cancelled", "params": {"requestId": number}})
        pipes.send({"id": "last", "method": "ping"})
        with anyio.fail_after(30):
            while json.loads(await pipes.receive())["id"] != "last":
                pass
