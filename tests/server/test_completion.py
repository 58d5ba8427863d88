"""Completion of arguments: of prompts and of resources."""

from __future__ import annotations

import pytest
from mcp.client import Client
from mcp.client._memory import InMemoryTransport
from mcp_types import PromptReference, ResourceTemplateReference

from dynasaur_mcp.types import Status

from .conftest import ERAS, Keep, Serve

pytestmark = pytest.mark.anyio


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
