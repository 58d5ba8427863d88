"""Prompts, and how one that cannot be written is refused."""

from __future__ import annotations

import re

import pytest
from mcp.client import Client
from mcp.client._memory import InMemoryTransport
from mcp.shared.exceptions import MCPError

from .conftest import ERAS, Keep, Serve

pytestmark = pytest.mark.anyio


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
