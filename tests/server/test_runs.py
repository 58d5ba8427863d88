"""Runs through a real client and a real jail: in the background, handed over, told of while they go on, cancelled."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from mcp_types import TextResourceContents

from dynasaur_mcp.server import progress

from .conftest import ERAS, SLOW, OpenClient, text_of

pytestmark = pytest.mark.anyio


async def test_run_in_background_is_looked_at_and_cancelled(open_client: OpenClient) -> None:
    async with open_client() as client:
        started = await client.call_tool("run_python", {"code": "import time\ntime.sleep(60)", "background": True})
        assert not started.is_error
        run = text_of(started).split("'")[1]
        going = await client.call_tool("check_run", {"run": run, "wait_seconds": 0.1})
        assert "Still running" in text_of(going)
        ended = await client.call_tool("check_run", {"run": run, "cancel": True})
        assert ended.is_error
        assert "cancelled" in text_of(ended)
        assert ", 0.00 s)" not in text_of(ended)


async def test_client_that_gives_up_ends_the_run_and_the_session_goes_on(open_client: OpenClient) -> None:
    async with open_client() as client:
        await client.call_tool("run_python", {"code": "x = 1"})
        with anyio.move_on_after(0.5):
            await client.call_tool("run_python", {"code": "x = 2\nimport time\ntime.sleep(19)"})
        with anyio.fail_after(15):
            result = await client.call_tool("run_python", {"code": "x"})
        assert text_of(result).startswith("Value:\n1")


@ERAS
async def test_call_that_outlasts_the_wait_is_handed_over_and_looked_at_later(
    open_client: OpenClient, era: str
) -> None:
    async with open_client(era, wait_seconds=0.5) as client:
        assert not (await client.call_tool("define_action", {"source": SLOW})).is_error
        await client.list_tools(cache_mode="bypass")
        by_tool = await client.call_tool("slow", {"seconds": 2})
        assert by_tool.is_error  # a strict client takes no other answer without structured content
        by_name = await client.call_tool("execute_action", {"name": "slow", "arguments": {"seconds": 1}})
        assert not by_name.is_error
        for handed_over in (by_tool, by_name):
            text = text_of(handed_over)
            assert "Still running" in text
            run = text.split("'")[1]
            ended = await client.call_tool("check_run", {"run": run, "wait_seconds": 20})
            assert text_of(ended) == "Value:\ndone\n\nPrinted:\nbegun"
            (content,) = (await client.read_resource(f"dynasaur://runs/{run}/output")).contents
            assert isinstance(content, TextResourceContents)
            assert content.text == "Value:\ndone\n\nPrinted:\nbegun"


@ERAS
async def test_prints_come_as_progress_to_a_client_that_asked(open_client: OpenClient, era: str) -> None:
    code = "import time\nfor n in range(3):\n    print('line', n, flush=True)\n    time.sleep(0.2)"
    async with open_client(era) as client:
        await client.call_tool("define_action", {"source": SLOW})
        heard: list[tuple[float, str | None]] = []

        async def hear(progress: float, total: float | None, message: str | None) -> None:
            assert total is None
            heard.append((progress, message))

        result = await client.call_tool("run_python", {"code": code}, progress_callback=hear)
        assert "line 2" in text_of(result)
        assert "".join(message or "" for _, message in heard) == "line 0\nline 1\nline 2\n"
        assert [progress for progress, _ in heard] == sorted({progress for progress, _ in heard})
        heard.clear()
        await client.call_tool(
            "execute_action", {"name": "slow", "arguments": {"seconds": 0.3}}, progress_callback=hear
        )
        assert [message for _, message in heard] == ["Importing 'slow'\n", "begun\n"]
        assert heard[0][0] < heard[1][0]


async def test_what_takes_long_says_again_what_it_is_at(
    open_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "AGAIN_SECONDS", 0.1)
    source = SLOW.replace("slow(0)", "slow(1)")
    async with open_client() as client:
        heard: list[tuple[float, str | None]] = []

        async def hear(number: float, _total: float | None, message: str | None) -> None:
            heard.append((number, message))

        result = await client.call_tool("define_action", {"source": source}, progress_callback=hear)
        assert not result.is_error, text_of(result)
        messages = [message for _, message in heard]
        assert messages.count("Read 'slow'; testing it") > 2
        assert messages[-1] == "Kept 'slow': v1"
        assert [number for number, _ in heard] == list(range(1, len(heard) + 1))


async def test_flood_of_prints_is_told_in_few_short_messages(open_client: OpenClient) -> None:
    async with open_client() as client:
        heard: list[str] = []

        async def hear(_progress: float, _total: float | None, message: str | None) -> None:
            heard.append(message or "")

        code = "for n in range(20_000): print('line', n, flush=True)"
        await client.call_tool("run_python", {"code": code}, progress_callback=hear)
        assert len(heard) < 100
        assert max(map(len, heard)) <= 1000


CANCELLED: dict[str, dict[str, Any]] = {
    "run_python": {"code": "print('began', flush=True)\nx = 2\nimport time\ntime.sleep(19)"},
    "execute_action": {"name": "waits"},
    "waits": {},
}


@ERAS
@pytest.mark.parametrize("tool", CANCELLED)
async def test_cancelled_request_stops_its_code_and_the_session_goes_on(
    open_client: OpenClient, era: str, tool: str
) -> None:
    source = (
        'def waits() -> None:\n    """Wait."""\n    print("began", flush=True)\n    import time\n    time.sleep(19)\n'
    )
    async with open_client(era) as client:
        await client.call_tool("define_action", {"source": source})
        await client.call_tool("run_python", {"code": "x = 1"})
        with anyio.CancelScope() as scope:

            async def cancel(_progress: float, _total: float | None, message: str | None) -> None:
                if "began" in (message or ""):
                    scope.cancel()

            await client.call_tool(tool, CANCELLED[tool], progress_callback=cancel)
        assert scope.cancelled_caught
        with anyio.fail_after(15):
            assert text_of(await client.call_tool("run_python", {"code": "x"})).startswith("Value:\n1")


@ERAS
async def test_request_cancelled_while_it_waits_for_its_session_never_runs(open_client: OpenClient, era: str) -> None:
    async with open_client(era) as client:
        await client.call_tool("run_python", {"code": "x = 1"})
        async with anyio.create_task_group() as tasks:
            began = anyio.Event()

            async def note(*_: object) -> None:
                began.set()

            async def occupy() -> None:
                code = "import time\nprint('began', flush=True)\ntime.sleep(1)"
                await client.call_tool("run_python", {"code": code}, progress_callback=note)

            tasks.start_soon(occupy)
            await began.wait()
            with anyio.move_on_after(0.3):
                await client.call_tool("run_python", {"code": "x = 2"})
        assert text_of(await client.call_tool("run_python", {"code": "x"})).startswith("Value:\n1")
