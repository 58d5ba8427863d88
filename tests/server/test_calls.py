"""Calls that run code, through a real client and a real jail."""

from __future__ import annotations

import pytest

from dynasaur_mcp.types import META_TOOLS

from .conftest import ERAS, MEAN, OpenClient, text_of, write_twin

pytestmark = pytest.mark.anyio


@ERAS
async def test_defined_function_is_a_tool_and_is_called_in_both_ways(open_client: OpenClient, era: str) -> None:
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


async def test_arguments_that_do_not_fit_an_action_are_all_named(open_client: OpenClient) -> None:
    async with open_client() as client:
        await client.call_tool("define_action", {"source": MEAN})
        result = await client.call_tool("mean", {"numbers": ["x", "y"], "weight": 1})
        assert result.is_error
        assert result.structured_content is None
        assert "numbers" in text_of(result)
        assert "weight" in text_of(result)


async def test_action_that_raises_is_an_error_text(open_client: OpenClient) -> None:
    async with open_client() as client:
        await client.call_tool("define_action", {"source": MEAN})
        result = await client.call_tool("mean", {"numbers": []})
        assert result.is_error
        assert "ZeroDivisionError" in text_of(result)
        assert "averaging 0" in text_of(result)


@ERAS
async def test_state_stays_from_run_to_run(open_client: OpenClient, era: str) -> None:
    async with open_client(era) as client:
        await client.call_tool("run_python", {"code": "x = 41"})
        result = await client.call_tool("run_python", {"code": "print('hi')\nx + 1"})
        assert text_of(result).startswith("Value:\n42\n\nPrinted:\nhi")


@pytest.mark.parametrize(
    "code",
    [
        "print('\\udcff\\x00\\x1b[31m')",
        "import sys; sys.stdout.buffer.write(b'\\xff\\xfe\\x00')",
        "'\\ud800'",
        "raise ValueError('\\ud800\\x00')",
    ],
)
async def test_hostile_output_leaves_the_connection_as_it_was(open_client: OpenClient, code: str) -> None:
    async with open_client() as client:
        await client.call_tool("run_python", {"code": code})
        assert text_of(await client.call_tool("run_python", {"code": "1 + 1"})).startswith("Value:\n2")


async def test_errors_are_shown_head_and_tail_like_any_text(open_client: OpenClient) -> None:
    async with open_client(output_characters=500) as client:
        raised = text_of(await client.call_tool("run_python", {"code": "raise ValueError('x' * 100_000)"}))
        refused = text_of(await client.call_tool("define_action", write_twin("add", body="'x' * 100_000")))
        for text in (raised, refused):
            assert len(text) < 1000
            assert "characters left out" in text
        assert "Traceback" in raised
        assert "Expected:" in refused


@ERAS
async def test_session_is_forked_listed_and_closed(open_client: OpenClient, era: str) -> None:
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
