"""Requests through a real client: what is listed, and how calls that cannot work are answered."""

from __future__ import annotations

import inspect
import logging
from typing import Any

import pytest
from mcp.client import Client
from mcp.client._memory import InMemoryTransport

from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.types import META_TOOLS, Status

from .conftest import ERAS, Keep, Serve, text_of

pytestmark = pytest.mark.anyio


@ERAS
async def test_client_sees_meta_tools_first_and_then_actions_by_name(serve: Serve, keep: Keep, era: str) -> None:
    keep("zebra_stripes")
    keep("add")
    async with serve() as (server, _), Client(InMemoryTransport(server), mode=era) as client:
        assert listed_names(await client.list_tools()) == [*META_TOOLS, "add", "zebra_stripes"]


def listed_names(listed: Any) -> list[str]:
    return [tool.name for tool in listed.tools]


@ERAS
async def test_second_answer_is_the_same_and_a_new_revision_is_not(serve: Serve, keep: Keep, era: str) -> None:
    async with (
        serve() as (server, _),
        Client(InMemoryTransport(server), mode=era, cache=None) as client,
        Client(InMemoryTransport(server), mode=era, cache=None) as other,
    ):
        first = await client.list_tools()
        assert await client.list_tools() == first == await other.list_tools()
        keep("add")
        assert listed_names(await client.list_tools()) == [*listed_names(first), "add"]
        assert listed_names(await other.list_tools()) == [*listed_names(first), "add"]


async def test_first_list_is_reported_once(serve: Serve) -> None:
    calls: list[None] = []
    async with serve(on_first_list=lambda: calls.append(None)) as (server, _):
        async with Client(InMemoryTransport(server), mode="legacy") as client:
            assert calls == []
            await client.list_tools()
            await client.list_tools()
        assert len(calls) == 1


@ERAS
async def test_wrong_arguments_of_a_meta_tool_are_all_named(serve: Serve, era: str) -> None:
    async with serve() as (server, _), Client(InMemoryTransport(server), mode=era) as client:
        result = await client.call_tool("search_actions", {"limit": 0, "quary": "x"})
        assert result.is_error
        assert "query: missing" in text_of(result)
        assert "limit: " in text_of(result)
        assert "quary: no such argument. Did you mean 'query'?" in text_of(result)


@ERAS
async def test_unknown_tool_is_answered_with_the_nearest_names(serve: Serve, keep: Keep, era: str) -> None:
    keep("add_numbers")
    async with serve() as (server, _), Client(InMemoryTransport(server), mode=era) as client:
        result = await client.call_tool("add_number", {})
        assert result.is_error
        assert text_of(result) == "No action named 'add_number'. Did you mean 'add_numbers'?"
        assert "'run_python'" in text_of(await client.call_tool("run_pyton", {}))
        result = await client.call_tool("execute_action", {"name": "add_numbr"})
        assert result.is_error
        assert "'add_numbers'" in text_of(result)


async def test_missing_sandbox_is_one_plain_line_and_the_detail_is_logged(
    serve: Serve, keep: Keep, caplog: pytest.LogCaptureFixture
) -> None:
    keep("add")
    async with serve() as (server, _), Client(InMemoryTransport(server), mode="legacy") as client:
        for call in (
            client.call_tool("run_python", {"code": "1"}),
            client.call_tool("execute_action", {"name": "add", "arguments": {"first": 1}}),
            client.call_tool("add", {"first": 1}),
            client.call_tool("define_action", {"source": inspect.getsource(sample)}),
        ):
            with caplog.at_level(logging.ERROR):
                result = await call
            assert result.is_error
            assert text_of(result) == "No sandbox here: install Docker or bubblewrap."
            assert "secret detail" in caplog.text


def sample(first: int) -> int:
    """Give a number back.

    >>> sample(1)
    1
    """
    return first


async def test_bug_of_ours_is_logged_and_the_client_keeps_its_connection(
    serve: Serve, store: FileStore, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve() as (server, _), Client(InMemoryTransport(server), mode="legacy") as client:
        store.close()  # what is asked of it now is a programming error
        with caplog.at_level(logging.ERROR):
            result = await client.call_tool("manage_action", {"name": "add", "op": "show"})
        assert result.is_error
        assert not result.structured_content
        assert "Traceback" not in text_of(result)
        assert (await client.list_tools()).tools


@ERAS
async def test_search_over_nothing_says_what_to_do(serve: Serve, era: str) -> None:
    async with serve() as (server, _), Client(InMemoryTransport(server), mode=era) as client:
        result = await client.call_tool("search_actions", {"query": "sum a column"})
        assert not result.is_error
        assert "define_action" in text_of(result)


async def test_search_shows_signature_record_and_example(serve: Serve, keep: Keep) -> None:
    keep("add_numbers")
    async with serve() as (server, _), Client(InMemoryTransport(server), mode="legacy") as client:
        result = await client.call_tool("search_actions", {"query": "add numbers"})
        text = text_of(result)
        assert text.startswith("1 of 1 that fit, best first (searched 1 action by words)")
        assert "add_numbers(first: int, second: int=1) -> int" in text.replace(" = ", "=")
        assert "v1, 1/1 tests" in text
        assert "Example: add_numbers(2, 3)" in text
        full = text_of(await client.call_tool("search_actions", {"query": "add numbers", "detail": "full"}))
        assert ">>> add_numbers(2, 3)" in full
        assert '"properties"' in full


async def test_search_without_a_match_says_of_how_many_actions_none_fits(serve: Serve, keep: Keep) -> None:
    async with serve() as (server, _), Client(InMemoryTransport(server), mode="legacy") as client:
        empty = text_of(await client.call_tool("search_actions", {"query": "send an email"}))
        assert empty.startswith("The library has no actions yet.")
        keep("add")
        keep("plus")
        none = text_of(await client.call_tool("search_actions", {"query": "send an email"}))
        assert none.startswith("Nothing in the library does this (2 actions searched by words). Write it:")


async def test_defining_a_disabled_action_again_says_that_it_is_disabled(
    serve: Serve, keep: Keep, store: FileStore
) -> None:
    entry = keep("add")
    store.set_status("add", Status.DISABLED)
    async with serve() as (server, _), Client(InMemoryTransport(server), mode="legacy") as client:
        text = text_of(await client.call_tool("define_action", {"source": entry.action.source}))
        assert text.startswith("Unchanged 'add': v1, 1/1 tests, disabled. manage_action(op='enable')")
        assert "Call it" not in text


async def test_broken_file_is_named_to_whoever_asks_for_its_action(serve: Serve, store: FileStore) -> None:
    (store._folder / "broken.py").write_text("def broken(:\n")
    store.refresh()
    async with serve() as (server, _), Client(InMemoryTransport(server), mode="legacy") as client:
        for tool, arguments in (
            ("broken", {}),
            ("execute_action", {"name": "broken", "arguments": {}}),
            ("manage_action", {"name": "broken", "op": "show"}),
        ):
            result = await client.call_tool(tool, arguments)
            assert result.is_error
            assert "The file of 'broken' in the library is no action now." in text_of(result)
            assert "- line 1: does not parse" in text_of(result)
