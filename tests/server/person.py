"""Who sits at a client and is asked for approval."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from mcp.client import Client
from mcp.client._memory import InMemoryTransport
from mcp_types import CallToolResult, ElicitResult, ErrorData, TextContent

from dynasaur_mcp.library.audit import Deed
from dynasaur_mcp.library.filestore import FileStore

pytestmark = pytest.mark.anyio
ENABLE = {"name": "add", "op": "enable"}
YES = ElicitResult(action="accept", content={"approve": True})


class Person:
    """Who sits at a client, and gives the answers in turn."""

    def __init__(self, *answers: ElicitResult | ErrorData, meanwhile: Callable[[], Awaitable[None]] | None = None):
        self.answers = list(answers)
        self.meanwhile = meanwhile
        self.questions: list[str] = []

    async def answer(self, _: Any, params: Any) -> ElicitResult | ErrorData:
        self.questions.append(params.message)
        if self.meanwhile:
            await self.meanwhile()
        return self.answers.pop(0)


def connect(server: Any, era: str, person: Person | None) -> Client:
    return Client(InMemoryTransport(server), mode=era, elicitation_callback=person.answer if person else None)


async def manage(client: Client, **arguments: Any) -> str:
    result = await client.call_tool("manage_action", arguments)
    assert isinstance(result, CallToolResult)
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


def approvals(store: FileStore) -> list[tuple[str, int, str, str]]:
    records = store.records(deeds=[Deed.APPROVE], limit=10)
    return [(one.name, one.version, one.principal, one.note) for one in records]
