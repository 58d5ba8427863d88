"""Calls that run code, through a real client and a real jail."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from mcp.client import Client
from mcp.client._memory import InMemoryTransport
from mcp.shared.exceptions import MCPError
from mcp_types import BlobResourceContents, CallToolResult, TextContent, TextResourceContents

from dynasaur_mcp import runs as runs_module
from dynasaur_mcp.errors import SandboxUnavailable
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.runs import open_runs
from dynasaur_mcp.sandbox.base import Sandbox
from dynasaur_mcp.sandbox.bubblewrap import find_bwrap
from dynasaur_mcp.sandbox.jail import Jail
from dynasaur_mcp.sandbox.packages import PackageStore
from dynasaur_mcp.sandbox.pool import open_pool
from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.sandbox.wheels import Target
from dynasaur_mcp.server.build import build_server
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
    presence = Presence(tmp_path / "servers")

    async def choose() -> Sandbox:
        return Jail(limits, PackageStore(tmp_path / "cache", Target(version)), presence)

    @asynccontextmanager
    async def open_client(era: str = "legacy", *, wait_seconds: float = 45, **options: Any) -> AsyncIterator[Client]:
        index = Index(store, None, None)
        async with (
            open_pool(choose, limits, warm_workers=0) as pool,
            open_runs(wait_seconds=wait_seconds, kept_from_characters=options.get("output_characters", 8000)) as runs,
        ):
            server, _ = build_server(store=store, index=index, pool=pool, runs=runs, **options)
            async with Client(InMemoryTransport(server), mode=era) as client:
                yield client
        index.close()
        presence.close()

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


TWIN = '''\
def {name}(first: int, second: int) -> {returns}:
    """{text}

    >>> {name}(2, 3)
    {result}
    """
    return {body}
'''


def write_twin(
    name: str,
    text: str = "Add two whole numbers.",
    returns: str = "int",
    body: str = "first + second",
    result: str = "5",
) -> dict[str, str]:
    return {"source": TWIN.format(name=name, text=text, returns=returns, body=body, result=result)}


async def test_errors_are_shown_head_and_tail_like_any_text(open_client: Callable[..., Any]) -> None:
    async with open_client(output_characters=500) as client:
        raised = text_of(await client.call_tool("run_python", {"code": "raise ValueError('x' * 100_000)"}))
        refused = text_of(await client.call_tool("define_action", write_twin("add", body="'x' * 100_000")))
        for text in (raised, refused):
            assert len(text) < 1000
            assert "characters left out" in text
        assert "Traceback" in raised
        assert "Expected:" in refused


async def test_kept_outputs_have_a_common_limit_and_the_oldest_goes_first(
    open_client: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_module, "KEPT_CHARACTERS", 1500)

    def uri_of(result: CallToolResult) -> str:
        return text_of(result).split("resource ")[1].split(" ")[0]

    async with open_client(output_characters=500) as client:
        first = uri_of(await client.call_tool("run_python", {"code": "print('x' * 1000)"}))
        await client.read_resource(first)
        second = uri_of(await client.call_tool("run_python", {"code": "print('y' * 1000)"}))
        await client.read_resource(second)
        with pytest.raises(MCPError, match="old runs are forgotten"):
            await client.read_resource(first)


@ERAS
async def test_session_is_forked_listed_and_closed(open_client: Callable[..., Any], era: str) -> None:
    async with open_client(era) as client:
        await client.call_tool("run_python", {"code": "n = 1", "session": "x"})
        copied = text_of(await client.call_tool("run_python", {"session": "x", "fork_as": "y"}))
        assert copied == "Session 'y' is open, a copy of 'x'."
        forked = await client.call_tool("run_python", {"code": "n += 1\nn", "session": "y", "fork_as": "z"})
        assert text_of(forked).startswith("Value:\n2")
        assert "(session 'z'" in text_of(forked)
        listed = text_of(await client.call_tool("manage_action", {"op": "list_sessions"})).splitlines()
        assert [line.split(":")[0] for line in listed] == ["x", "y", "z"]
        assert "MiB" in listed[0]
        closed = text_of(await client.call_tool("manage_action", {"op": "close_session", "name": "x"}))
        assert closed.startswith("Session 'x' is closed")
        kept = text_of(await client.call_tool("run_python", {"code": "n", "session": "y"}))
        assert kept.startswith("Value:\n1")
        anew = text_of(await client.call_tool("run_python", {"code": "'n' in globals()", "session": "x"}))
        assert anew.startswith("Value:\nFalse")
        assert "This is a new session 'x': the one before was closed" in anew
        for wrong in ({"session": "x", "fork_as": "y", "code": "1"}, {"session": "x"}):
            assert (await client.call_tool("run_python", wrong)).is_error
        assert (await client.call_tool("manage_action", {"op": "close_session", "name": "nope"})).is_error
        assert (await client.call_tool("manage_action", {"op": "show"})).is_error


SLOW = '''\
def slow(seconds: float) -> str:
    """Wait.

    >>> slow(0)
    begun
    'done'
    """
    import time
    print("begun", flush=True)
    time.sleep(seconds)
    return "done"
'''


async def test_long_output_of_an_action_is_whole_in_its_resource(open_client: Callable[..., Any]) -> None:
    source = (
        'def many() -> list[int]:\n    """Many.\n\n    >>> many()[0]\n    0\n    """\n    return list(range(2000))\n'
    )
    async with open_client(output_characters=500) as client:
        assert not (await client.call_tool("define_action", {"source": source})).is_error
        text = text_of(await client.call_tool("execute_action", {"name": "many"}))
        assert len(text) < 1000
        (content,) = (await client.read_resource(text.split("resource ")[1].split(" ")[0])).contents
        assert isinstance(content, TextResourceContents)
        assert "1999" in content.text


@ERAS
async def test_value_in_a_file_is_linked_and_read_as_a_resource(open_client: Callable[..., Any], era: str) -> None:
    async with open_client(era) as client:
        result = await client.call_tool("run_python", {"code": "bytes(range(256)) * 10", "session": "x"})
        (link,) = [block for block in result.content if block.type == "resource_link"]
        assert link.uri == "dynasaur://sessions/x/files/bytes_1.bin"
        assert link.size == 2560
        assert f"Saved as:\n- /workspace/bytes_1.bin, resource {link.uri}" in text_of(result)
        (content,) = (await client.read_resource(link.uri)).contents
        assert isinstance(content, BlobResourceContents)
        assert base64.b64decode(content.blob) == bytes(range(256)) * 10


async def test_files_of_a_session_are_resources(open_client: Callable[..., Any]) -> None:
    code = "import os\nos.mkdir('d')\nopen('d/a b?#é\\n.txt', 'w').write('hé')\nopen('big', 'w').write('é' * 700_000)"
    async with open_client() as client:
        await client.call_tool("run_python", {"code": code})

        async def read(path: str) -> TextResourceContents:
            (content,) = (await client.read_resource(f"dynasaur://sessions/default/files/{path}")).contents
            assert isinstance(content, TextResourceContents)
            return content

        odd = await read("d/" + quote("a b?#é\n.txt"))
        assert (odd.text, odd.mime_type) == ("hé", "text/plain")
        assert (await read("")).text == "big\tfile\t1400000\nd\tfolder\t0"
        big = await read("big")
        assert big.meta
        assert big.meta["dynasaur/total"] == 1_400_000
        whole = big.text
        while offset := (big.meta or {}).get("dynasaur/next_offset"):
            big = await read(f"big?offset={offset}")
            whole += big.text
        assert big.meta == {"dynasaur/total": 1_400_000}
        assert whole == "é" * 700_000
        for wrong in ("default/files/nothing", "default/files/../x", "default/files//etc/passwd", "nope/files/big"):
            with pytest.raises(MCPError):
                await client.read_resource(f"dynasaur://sessions/{wrong}")


async def test_output_of_a_run_is_read_on_from_an_offset(open_client: Callable[..., Any]) -> None:
    async with open_client(output_characters=500) as client:
        text = text_of(await client.call_tool("run_python", {"code": "print('0123456789' * 1000)"}))
        uri = text.split("resource ")[1].split(" ")[0]
        (first,) = (await client.read_resource(f"{uri}?offset=9&limit=20")).contents
        assert isinstance(first, TextResourceContents)
        assert first.text == "01234567890123456789"
        assert first.meta == {"dynasaur/total": 10_009, "dynasaur/next_offset": 29}
        (past,) = (await client.read_resource(f"{uri}?offset=99999")).contents
        assert isinstance(past, TextResourceContents)
        assert past.text == ""
