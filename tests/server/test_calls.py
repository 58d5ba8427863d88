"""Calls that run code, through a real client and a real jail."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.client._memory import InMemoryTransport
from mcp_types import CallToolResult, TextContent, TextResourceContents

from dynasaur_mcp.errors import SandboxUnavailable
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.library.store import FileStore
from dynasaur_mcp.runs import open_runs
from dynasaur_mcp.sandbox.base import Sandbox
from dynasaur_mcp.sandbox.jail import Jail, find_bwrap
from dynasaur_mcp.sandbox.packages import PackageStore
from dynasaur_mcp.sandbox.pool import open_pool
from dynasaur_mcp.server.handlers import build_server
from dynasaur_mcp.types import META_TOOLS, Limits

pytestmark = pytest.mark.anyio
ERAS = pytest.mark.parametrize("era", ["legacy", "2026-07-28"])

MEAN = '''\
def mean(numbers: list[float]) -> float:
    """Average some numbers.

    Examples:
        >>> mean([1, 2, 3])
        averaging 3
        2.0
    """
    print("averaging", len(numbers))
    return sum(numbers) / len(numbers)
'''


@pytest.fixture
def open_client(store: FileStore, tmp_path: Path) -> Callable[..., Any]:
    try:
        find_bwrap()
    except SandboxUnavailable as error:
        if "jail" in os.environ.get("DYNASAUR_TESTS_REQUIRE", ""):
            raise
        pytest.skip(str(error))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    limits = Limits(wall_seconds=20)

    async def choose() -> Sandbox:
        return Jail(limits, PackageStore(tmp_path / "packages", python_version=version, platform=None))

    @asynccontextmanager
    async def open_client(era: str = "legacy", *, wait_seconds: float = 45, **options: Any) -> AsyncIterator[Client]:
        index = Index(store, None, None)
        async with (
            open_pool(choose, limits, warm_workers=0) as pool,
            open_runs(pool, store, wait_seconds=wait_seconds) as runs,
        ):
            server, _ = build_server(store=store, index=index, pool=pool, runs=runs, **options)
            async with Client(InMemoryTransport(server), mode=era) as client:
                yield client
        index.close()

    return open_client


def text_of(result: CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


@ERAS
async def test_defined_function_is_a_tool_and_is_called_in_both_ways(open_client: Callable[..., Any], era: str) -> None:
    async with open_client(era) as client:
        result = await client.call_tool("define_action", {"source": MEAN})
        assert not result.is_error, text_of(result)
        assert text_of(result).startswith("Kept 'mean': v1, 1/1 tests, now a tool.")
        (tool,) = (await client.list_tools(cache_mode="bypass")).tools[len(META_TOOLS) :]
        assert tool.name == "mean"
        assert tool.output_schema is not None
        direct = await client.call_tool("mean", {"numbers": [1, 2, 6]})
        by_name = await client.call_tool("execute_action", {"name": "mean", "arguments": {"numbers": [1, 2, 6]}})
        assert direct.structured_content == by_name.structured_content == {"result": 3.0}
        assert text_of(direct) == text_of(by_name) == "Value:\n3.0\n\nPrinted:\naveraging 3"


async def test_arguments_that_do_not_fit_an_action_are_all_named(open_client: Callable[..., Any]) -> None:
    async with open_client() as client:
        await client.call_tool("define_action", {"source": MEAN})
        result = await client.call_tool("mean", {"numbers": ["x", "y"], "weight": 1})
        assert result.is_error
        assert result.structured_content is None
        assert "numbers" in text_of(result)
        assert "weight" in text_of(result)


async def test_action_that_raises_is_an_error_text(open_client: Callable[..., Any]) -> None:
    async with open_client() as client:
        await client.call_tool("define_action", {"source": MEAN})
        result = await client.call_tool("mean", {"numbers": []})
        assert result.is_error
        assert "ZeroDivisionError" in text_of(result)
        assert "averaging 0" in text_of(result)


async def test_definition_that_breaks_rules_keeps_nothing(open_client: Callable[..., Any]) -> None:
    async with open_client() as client:
        result = await client.call_tool("define_action", {"source": MEAN.replace("2.0", "7.0")})
        assert result.is_error
        assert "7.0" in text_of(result)
        assert len((await client.list_tools()).tools) == len(META_TOOLS)


async def test_definition_not_exposed_says_how_to_call_it(open_client: Callable[..., Any]) -> None:
    async with open_client(expose="none") as client:
        text = text_of(await client.call_tool("define_action", {"source": MEAN}))
        assert "now a tool" not in text
        assert "execute_action(name='mean', arguments={\"numbers\": …})" in text


async def test_definition_awaits_approval_where_that_is_asked_for(open_client: Callable[..., Any]) -> None:
    async with open_client(require_approval=True) as client:
        assert "until a person approves it" in text_of(await client.call_tool("define_action", {"source": MEAN}))
        assert len((await client.list_tools()).tools) == len(META_TOOLS)


@ERAS
async def test_state_stays_from_run_to_run(open_client: Callable[..., Any], era: str) -> None:
    async with open_client(era) as client:
        await client.call_tool("run_python", {"code": "x = 41"})
        result = await client.call_tool("run_python", {"code": "print('hi')\nx + 1"})
        assert text_of(result).startswith("Value:\n42\n\nPrinted:\nhi")


async def test_long_output_is_whole_in_its_resource(open_client: Callable[..., Any]) -> None:
    async with open_client(output_characters=500) as client:
        result = await client.call_tool("run_python", {"code": "for i in range(2000): print('line', i)"})
        text = text_of(result)
        assert len(text) < 1000
        uri = text.split("resource ")[1].split(" ")[0]
        (content,) = (await client.read_resource(uri)).contents
        assert isinstance(content, TextResourceContents)
        assert content.text.count("\n") >= 2000


async def test_run_in_background_is_looked_at_and_cancelled(open_client: Callable[..., Any]) -> None:
    async with open_client() as client:
        started = await client.call_tool("run_python", {"code": "import time\ntime.sleep(60)", "background": True})
        assert not started.is_error
        run = text_of(started).split("'")[1]
        going = await client.call_tool("check_run", {"run": run})
        assert "Still running" in text_of(going)
        ended = await client.call_tool("check_run", {"run": run, "cancel": True})
        assert ended.is_error
        assert "cancelled" in text_of(ended)


async def test_client_that_gives_up_ends_the_run_and_the_session_goes_on(open_client: Callable[..., Any]) -> None:
    async with open_client() as client:
        await client.call_tool("run_python", {"code": "x = 1"})
        with anyio.move_on_after(0.5):
            await client.call_tool("run_python", {"code": "x = 2\nimport time\ntime.sleep(19)"})
        with anyio.fail_after(15):
            result = await client.call_tool("run_python", {"code": "x"})
        assert text_of(result).startswith("Value:\n1")


@pytest.mark.parametrize(
    "code",
    [
        "print('\\udcff\\x00\\x1b[31m')",
        "import sys; sys.stdout.buffer.write(b'\\xff\\xfe\\x00')",
        "'\\ud800'",
        "raise ValueError('\\ud800\\x00')",
    ],
)
async def test_hostile_output_leaves_the_connection_as_it_was(open_client: Callable[..., Any], code: str) -> None:
    async with open_client() as client:
        await client.call_tool("run_python", {"code": code})
        assert text_of(await client.call_tool("run_python", {"code": "1 + 1"})).startswith("Value:\n2")
