"""Requests through a real client: what is listed, and how calls that cannot work are answered."""

from __future__ import annotations

import inspect
import logging
import re
from base64 import b64decode
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest
from mcp.client import Client
from mcp.client._memory import InMemoryTransport
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp_types import (
    CallToolResult,
    PromptReference,
    ResourceTemplateReference,
    TextContent,
    TextResourceContents,
    jsonrpc_message_adapter,
)

from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.types import META_TOOLS, Status

pytestmark = pytest.mark.anyio
ERAS = pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
Serve = Callable[..., Any]
Keep = Callable[..., Any]


def text_of(result: CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


@ERAS
async def test_client_sees_meta_tools_first_and_then_actions_by_name(serve: Serve, keep: Keep, era: str) -> None:
    keep("zebra_stripes")
    keep("add")
    async with serve() as (server, _), Client(InMemoryTransport(server), mode=era) as client:
        assert listed_names(await client.list_tools()) == [*META_TOOLS, "add", "zebra_stripes"]


@pytest.mark.parametrize("era", ["legacy", "auto"])
async def test_clients_are_given_an_icon_as_they_connect_and_not_again(serve: Serve, keep: Keep, era: str) -> None:
    keep("add")
    async with serve() as (server, _), Client(InMemoryTransport(server), mode=era) as client:
        assert client.protocol_version == ("2025-11-25" if era == "legacy" else "2026-07-28")
        assert client.server_info is not None
        (icon,) = client.server_info.icons or []
        listed = await client.list_tools()
        called = await client.call_tool("search_actions", {"query": "add"})
    kind, _, data = icon.src.partition(",")
    assert kind == f"data:{icon.mime_type};base64"
    assert ElementTree.fromstring(b64decode(data, validate=True)).tag == "{http://www.w3.org/2000/svg}svg"
    assert len(icon.src) < 1000
    assert "icons" not in listed.model_dump_json(by_alias=True, exclude_none=True)
    assert "icons" not in called.model_dump_json(by_alias=True, exclude_none=True)


async def test_clients_of_before_icons_are_given_none(serve: Serve) -> None:
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "old", "version": "1"}}
    request = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    async with serve() as (server, _), InMemoryTransport(server) as (read, write):
        await write.send(SessionMessage(jsonrpc_message_adapter.validate_python(request)))
        answer = await read.receive()
        assert isinstance(answer, SessionMessage)
        told = answer.message.model_dump(by_alias=True)["result"]
    assert told["protocolVersion"] == "2025-06-18"
    assert told["serverInfo"]["name"] == "dynasaur-mcp"
    assert "icons" not in told["serverInfo"]


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


async def test_both_eras_get_their_own_envelope(serve: Serve) -> None:
    async with (
        serve() as (server, _),
        Client(InMemoryTransport(server), mode="legacy") as old,
        Client(InMemoryTransport(server), mode="2026-07-28") as new,
    ):
        for client in (old, new, old, new):
            result = await client.list_tools(cache_mode="bypass")
            assert bool(result.meta and "io.modelcontextprotocol/serverInfo" in result.meta) is (client is new)


async def test_first_list_is_reported_once(serve: Serve) -> None:
    calls: list[None] = []
    async with serve(on_first_list=lambda: calls.append(None)) as (server, _):
        async with Client(InMemoryTransport(server), mode="legacy") as client:
            assert calls == []
            await client.list_tools()
            await client.list_tools()
        assert len(calls) == 1


async def test_handshake_says_that_the_list_changes(serve: Serve) -> None:
    async with serve() as (server, _), Client(InMemoryTransport(server), mode="legacy") as client:
        assert client.server_capabilities.tools is not None
        assert client.server_capabilities.tools.list_changed
        assert client.instructions is not None
        assert len(client.instructions.split()) <= 120


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


@ERAS
async def test_source_of_an_action_is_a_resource(serve: Serve, keep: Keep, era: str) -> None:
    entry = keep("add")
    async with serve() as (server, _), Client(InMemoryTransport(server), mode=era) as client:
        listed = await client.list_resources()
        assert [resource.uri for resource in listed.resources] == ["dynasaur://actions/add"]
        templates = await client.list_resource_templates()
        assert [template.uri_template for template in templates.resource_templates] == [
            "dynasaur://actions/{name}",
            "dynasaur://runs/{id}/output{?offset,limit}",
            "dynasaur://sessions/{session}/files/{+path}{?offset}",
        ]
        (content,) = (await client.read_resource("dynasaur://actions/add")).contents
        assert isinstance(content, TextResourceContents)
        assert content.text == entry.action.source
        for missing in ("dynasaur://actions/ad", "dynasaur://runs/nope/output", "dynasaur://../etc/passwd"):
            with pytest.raises(MCPError):
                await client.read_resource(missing)


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


@ERAS
async def test_resource_of_a_run_that_could_not_be_run_says_so(serve: Serve, era: str) -> None:
    async with serve() as (server, _), Client(InMemoryTransport(server), mode=era) as client:
        started = text_of(await client.call_tool("run_python", {"code": "1", "background": True}))
        run = started.split("run '")[1].split("'")[0]
        ended = await client.call_tool("check_run", {"run": run, "wait_seconds": 5})
        assert ended.is_error
        assert text_of(ended) == "No sandbox here: install Docker or bubblewrap."
        (content,) = (await client.read_resource(f"dynasaur://runs/{run}/output")).contents
        assert isinstance(content, TextResourceContents)
        assert content.text == "It could not be run. check_run says why."


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


@ERAS
async def test_prompts_are_listed_and_say_their_arguments(serve: Serve, keep: Keep, era: str) -> None:
    keep("add")
    async with serve() as (server, _), Client(InMemoryTransport(server), mode=era) as client:
        listed = (await client.list_prompts()).prompts
        assert [prompt.name for prompt in listed] == ["dynasaur", "review_library", "generalise_action"]
        task = await client.get_prompt("dynasaur", {"task": "Count {braces} in %s."})
        assert "Count {braces} in %s." in task.messages[0].content.text
        review = await client.get_prompt("review_library", {"about": "tables"})
        assert "on tables" in review.messages[0].content.text
        instruction, source = (await client.get_prompt("generalise_action", {"name": "add"})).messages
        assert "'add'" in instruction.content.text
        assert source.content.resource.uri == "dynasaur://actions/add"
        assert "def add(" in source.content.resource.text


@ERAS
@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("dynasour", {}, "No prompt named 'dynasour'. There are dynasaur, "),
        ("dynasaur", {}, "needs 'task'"),
        ("dynasaur", {"task": "  "}, "needs 'task'"),
        ("generalise_action", {"name": "ad"}, "No action named 'ad'. Did you mean 'add'?"),
    ],
)
async def test_prompt_that_cannot_be_written_says_why(
    serve: Serve, keep: Keep, era: str, name: str, arguments: dict[str, str], said: str
) -> None:
    keep("add")
    async with serve() as (server, _), Client(InMemoryTransport(server), mode=era) as client:
        with pytest.raises(MCPError, match=re.escape(said)):
            await client.get_prompt(name, arguments)


@ERAS
async def test_names_of_actions_are_completed(serve: Serve, keep: Keep, era: str) -> None:
    for name in ("add", "add_all", "adder", "zip_all"):
        keep(name)
    keep("add_old", status=Status.DISABLED)
    prompt = PromptReference(name="generalise_action")
    template = ResourceTemplateReference(uri="dynasaur://actions/{name}")
    async with serve() as (server, _), Client(InMemoryTransport(server), mode=era) as client:
        for ref in (prompt, template):
            found = (await client.complete(ref, {"name": "name", "value": "add"})).completion
            assert found.values == ["add", "add_all", "adder"]
            assert not found.has_more
        nothing = await client.complete(template, {"name": "other", "value": "add"})
        assert nothing.completion.values == []


async def test_no_more_completions_come_than_the_protocol_allows(serve: Serve, keep: Keep) -> None:
    for number in range(101):
        keep(f"act_{number:03}")
    async with serve() as (server, _), Client(InMemoryTransport(server)) as client:
        ref = PromptReference(name="generalise_action")
        found = (await client.complete(ref, {"name": "name", "value": ""})).completion
        assert found.values == [f"act_{number:03}" for number in range(100)]
        assert found.has_more
