"""What a model reads about the tools, and which actions are among them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from dynasaur_mcp.errors import ArgumentsInvalid
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.server.arguments import DefineAction, ExecuteAction, SearchActions, read_arguments
from dynasaur_mcp.server.listing import Listing, write_tool
from dynasaur_mcp.server.tools import count_tokens, describe_action, describe_meta_tools
from dynasaur_mcp.types import META_TOOLS, Schemas, Status


@pytest.mark.parametrize("network", [(), tuple(f"{'x' * 60}{number}.example.org" for number in range(20))])
def test_six_meta_tools_together_cost_at_most_1000_tokens(network: tuple[str, ...]) -> None:
    tokens = {tool.name: count_tokens(write_tool(tool) or b"") for tool in describe_meta_tools(network)}
    print(tokens, sum(tokens.values()))
    assert set(tokens) == set(META_TOOLS)
    assert sum(tokens.values()) <= 1000


def test_meta_tools_pass_the_check_of_every_protocol_version() -> None:
    assert all(write_tool(tool) for tool in describe_meta_tools())


def test_action_as_a_tool_shows_schemas_title_version_and_author(make_entry: Callable[..., Any]) -> None:
    entry = make_entry("add_numbers", version=3, author="ada\x1b[31m\nlovelace")
    tool = describe_action(entry)
    assert tool.title == "Add numbers"
    assert tool.input_schema == entry.schemas.input
    assert tool.output_schema == entry.schemas.output
    assert tool.meta == {
        "dynasaur/version": 3,
        "dynasaur/tested": "1/1 tests",
        "dynasaur/author": "ada [31m lovelace",
    }
    assert tool.description is not None
    assert tool.description.startswith("Add two whole numbers.")
    assert tool.description.endswith("(Action v3, 1/1 tests, by ada [31m lovelace)")


def test_description_is_capped_and_has_no_control_characters(make_entry: Callable[..., Any]) -> None:
    docstring = "Tidy \\x1b[31mtext\\u202e.\\n\\n    " + "word " * 1000
    source = f'def tidy(text: str) -> str:\n    """{docstring}"""\n    return text\n'
    description = describe_action(make_entry("tidy", source)).description
    assert description is not None
    assert len(description) < 1100
    assert all(character.isprintable() or character == "\n" for character in description)


def names_of(store: FileStore, exposure: Any, budget: int = 2000) -> list[str]:
    return [tool["name"] for tool in Listing(store, exposure, budget).page(None).tools.items[len(META_TOOLS) :]]


def test_policies_expose_what_they_say(store: FileStore, keep: Callable[..., Any]) -> None:
    for name in ("delta", "alpha", "charlie", "bravo"):
        keep(name)
    store.set_pinned("charlie", True)
    store.set_status("bravo", Status.DISABLED)
    keep("sketch", status=Status.DRAFT)
    assert names_of(store, "none") == []
    assert names_of(store, "pinned") == ["charlie"]
    assert names_of(store, "all") == ["alpha", "charlie", "delta"]
    assert names_of(store, "auto") == ["alpha", "charlie", "delta"]


def test_auto_keeps_its_budget_but_always_shows_pinned_actions(store: FileStore, keep: Callable[..., Any]) -> None:
    written = write_tool(describe_action(keep("action_a")))
    assert written
    cost = count_tokens(written)
    for letter in "bcdefgh":
        keep(f"action_{letter}")
    assert len(names_of(store, "auto", cost * 3)) == 3
    assert names_of(store, "auto", 0) == []
    store.set_pinned("action_d", True)
    assert names_of(store, "auto", 0) == ["action_d"]


def test_new_action_is_shown_and_a_deleted_one_is_not(store: FileStore, keep: Callable[..., Any]) -> None:
    keep("alpha")
    listing = Listing(store, "auto", 2000)
    assert listing.shows("alpha")
    keep("bravo")
    assert listing.shows("bravo")
    store.delete("alpha")
    assert not listing.shows("alpha")


def test_schema_of_any_tool_is_known_without_listing_all(store: FileStore, keep: Callable[..., Any]) -> None:
    keep("add")
    listing = Listing(store, "none", 0)
    for name, parameter in (("add", "first"), ("run_python", "code")):
        schema = listing.input_schema(name)
        assert schema is not None
        assert parameter in schema["properties"]
    assert listing.input_schema("nothing") is None


def test_action_that_no_worker_has_checked_is_no_tool(store: FileStore, keep: Callable[..., Any]) -> None:
    keep("alpha", schemas=None)
    assert names_of(store, "all") == []


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"},
        {"type": "object", "properties": 5},
        {"type": "object", "properties": {}, "$comment": "\ud800"},
    ],
)
def test_bad_tool_is_left_out_with_one_log_line(
    schema: dict[str, Any], make_entry: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    tool = describe_action(make_entry(schemas=Schemas(schema, schema, wraps_result=False)))
    with caplog.at_level(logging.WARNING):
        assert write_tool(tool) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "'add'" in caplog.text


def test_every_misfit_of_the_arguments_is_said_at_once() -> None:
    with pytest.raises(ArgumentsInvalid) as raised:
        read_arguments(SearchActions, "search_actions", {"qurey": "x", "limit": 500, "detail": "most"})
    assert str(raised.value) == (
        "search_actions takes query (required), limit, detail. Not as given:\n"
        "- query: missing\n"
        "- limit: Input should be less than or equal to 50, got 500\n"
        "- detail: Input should be 'signature' or 'full', got 'most'\n"
        "- qurey: no such argument. Did you mean 'query'?"
    )


def test_search_for_nothing_is_told_what_to_say() -> None:
    with pytest.raises(ArgumentsInvalid, match="say in words what it should do"):
        read_arguments(SearchActions, "search_actions", {"query": " \n"})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "give either source, or from_session with name"),
        ({"source": "x", "from_session": "s", "name": "f"}, "give either source, or from_session with name"),
        ({"from_session": "default"}, "from_session needs name"),
    ],
)
def test_definition_has_one_origin(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentsInvalid, match=said):
        read_arguments(DefineAction, "define_action", given)


def test_arguments_sent_as_a_string_of_json_are_read() -> None:
    given = {"name": "add", "arguments": '{"first": 1}'}
    assert read_arguments(ExecuteAction, "execute_action", given).arguments == {"first": 1}
    with pytest.raises(ArgumentsInvalid, match="arguments: "):
        read_arguments(ExecuteAction, "execute_action", {"name": "add", "arguments": "first=1"})


@pytest.mark.parametrize("name", ["", "Two Words", "../up", "x" * 41, "1st"])
def test_session_has_a_plain_name(name: str) -> None:
    with pytest.raises(ArgumentsInvalid, match="session: name a session with lower-case letters"):
        read_arguments(ExecuteAction, "execute_action", {"name": "add", "session": name})


def test_descriptions_of_parameters_are_short_and_printable(make_entry: Callable[..., Any]) -> None:
    schema = {
        "type": "object",
        "properties": {
            "description": {"type": "string", "description": "\u202eodd\x07 " + "long " * 100},
            "second": {"type": "array", "items": {"type": "string", "description": "\x1b[31mred"}},
        },
    }
    tool = describe_action(make_entry(schemas=Schemas(schema, schema, wraps_result=False)))
    for made in (tool.input_schema, tool.output_schema):
        assert made is not None
        said = made["properties"]["description"]["description"]
        assert said.startswith("odd long")
        assert len(said) <= 300
        assert made["properties"]["second"]["items"]["description"] == "[31mred"
