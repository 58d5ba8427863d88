"""The server as clients know it: a subprocess over stdio, spoken to by the `mcp` package's own client."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp_types import CallToolResult, ElicitResult

OpenClient = Callable[..., AbstractAsyncContextManager["Model"]]
Hear = Callable[[Any], Awaitable[None]]
"""What to do with what a server says of itself."""
Ask = Callable[[Any, Any], Awaitable[ElicitResult]]
"""How the person at the client answers what a server asks."""

SERVER = [sys.executable, "-m", "dynasaur_mcp"]


def environment(library: Path, sandbox: str, **settings: Any) -> dict[str, str]:
    named = {f"DYNASAUR_{name.upper()}": str(value) for name, value in settings.items()}
    cache = library.parent / "cache"
    return {
        **os.environ,
        "DYNASAUR_LIBRARY": str(library),
        "DYNASAUR_SANDBOX": sandbox,
        "DYNASAUR_CACHE": str(cache),
    } | named


def run_command(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """As a person types it."""
    return subprocess.run([*SERVER, *words], capture_output=True, text=True, env=env, check=False, timeout=120)


class Model:
    """A client as a model uses it: calls by name, answers as text."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def call(self, tool: str, /, **arguments: Any) -> CallToolResult:
        result = await self.client.call_tool(tool, arguments)
        assert isinstance(result, CallToolResult)
        return result

    async def text(self, tool: str, /, **arguments: Any) -> str:
        """The text of an answer that is no error."""
        result = await self.call(tool, **arguments)
        assert not result.is_error, text_of(result)
        return text_of(result)

    async def error(self, tool: str, /, **arguments: Any) -> str:
        """The text of an answer that is one."""
        result = await self.call(tool, **arguments)
        assert result.is_error, text_of(result)
        assert result.structured_content is None
        return text_of(result)

    async def tools(self) -> list[str]:
        return [tool.name for tool in (await self.client.list_tools(cache_mode="bypass")).tools]


def text_of(result: CallToolResult) -> str:
    return "\n".join(part.text for part in result.content if part.type == "text")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    return tmp_path / "library"


@pytest.fixture(params=["jail", "docker"])
def sandbox(request: pytest.FixtureRequest, require: Callable[[str], None]) -> str:
    require(request.param)
    return str(request.param)


@pytest.fixture
def open_client(library: Path) -> OpenClient:
    """A new client with a server of its own on the test's library. Keyword arguments are settings."""

    @asynccontextmanager
    async def open_it(
        sandbox: str = "jail",
        mode: str = "legacy",
        hear: Hear | None = None,
        ask: Ask | None = None,
        **settings: Any,
    ) -> AsyncIterator[Model]:
        server = StdioServerParameters(
            command=SERVER[0], args=[*SERVER[1:], "serve"], env=environment(library, sandbox, **settings)
        )
        async with Client(stdio_client(server), mode=mode, message_handler=hear, elicitation_callback=ask) as client:
            yield Model(client)

    return open_it
