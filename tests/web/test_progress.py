"""What takes long says what it is at, and stops when it is cancelled, whichever way a client speaks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from tests.flows.conftest import Model, OpenClient, text_of

from .conftest import Connect, StartServer

pytestmark = pytest.mark.anyio

SCALE = '''
def scale(x: int) -> int:
    """Scale a number.

    >>> scale(1)
    2
    """
    return {}
'''
TOP = '''
from actions import scale

def top(x: int) -> int:
    """Scale a number twice.

    >>> top(1)
    4
    """
    return scale(scale(x))
'''
KEPT = ["Read 'scale'; testing it", "Checked: 1/1 tests", "Kept 'scale': v1"]
REPLACED = [
    "Read 'scale'; testing it",
    "Checked: 1/1 tests",
    "Running the tests of v1",
    "Repeating recorded calls",
    "Importing 'scale'",
    "Importing 'scale'",
    "Testing 'top', which uses it",
    "Kept 'scale': v2",
]
"""The old version and the new one are imported, each by the worker's branch that calls it."""


async def hear(model: Model, tool: str, /, **arguments: Any) -> list[str]:
    """What a call says it is at. It is no error."""
    heard: list[tuple[float, str]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        assert total is None
        heard.append((progress, (message or "").rstrip("\n")))

    result = await model.client.call_tool(tool, arguments, progress_callback=note)
    assert not result.is_error, text_of(result)
    numbers = [progress for progress, _ in heard]
    assert numbers == sorted(set(numbers))
    return [message for _, message in heard]


async def cancel_at(stage: str, model: Model, tool: str, /, **arguments: Any) -> None:
    """Make a call, and cancel it as it says that it is at that stage."""
    with anyio.fail_after(60), anyio.CancelScope() as scope:

        async def note(_progress: float, _total: float | None, message: str | None) -> None:
            if stage in (message or ""):
                scope.cancel()

        await model.client.call_tool(tool, arguments, progress_callback=note)
    assert scope.cancelled_caught


async def test_stages_are_told_as_they_begin(connect: Connect) -> None:
    async with connect() as model:
        assert await hear(model, "define_action", source=SCALE.format("x * 2")) == KEPT
        assert await hear(model, "scale", x=3) == ["Importing 'scale'"]
        assert await hear(model, "scale", x=4) == []
        await model.text("define_action", source=TOP)
        replaced = await hear(model, "define_action", source=SCALE.format("x + x"), replaces="scale")
        assert replaced == REPLACED
        assert await hear(model, "manage_action", name="scale", op="test") == ["Testing 'scale'"]
        alike = SCALE.format("2 * x").replace("scale", "double")
        likely = (await model.client.call_tool("define_action", {"source": alike})).is_error
        assert likely
        heard = await hear(model, "define_action", source=alike, anyway=True)
        assert heard[-1] == "Kept 'double': v1"


async def test_installing_packages_is_told(open_client: OpenClient, sandbox: str) -> None:
    async with open_client(sandbox) as model:
        heard = await hear(model, "run_python", code="import six\n1", requirements=["six>=1.16"])
        assert heard[0] == "Resolving six>=1.16"
        if sandbox == "jail":  # Docker's volume may have it from an earlier test
            assert heard[1].startswith("Installing six==")
        assert await hear(model, "run_python", code="1", requirements=["six>=1.16"]) == []
        source = "# /// script\n# dependencies = ['iniconfig']\n# ///\n" + SCALE.format("x * 2")
        heard = await hear(model, "define_action", source=source)
        assert heard[1] == "Resolving iniconfig"
        assert heard[-2:] == KEPT[-2:]


async def test_definition_cancelled_before_it_is_kept_leaves_nothing(connect: Connect, library: Path) -> None:
    slow = SCALE.format("__import__('time').sleep(25) if x == {} else x * 2")
    async with connect() as model:
        await cancel_at("testing it", model, "define_action", source=slow.format(1))
        assert "No action named 'scale'" in await model.error("manage_action", name="scale", op="history")
        await model.text("define_action", source=SCALE.format("x * 2"))
        await model.text("scale", x=3)
        await model.text("define_action", source=TOP)
        another = slow.replace("scale(1)", "scale(7)").replace("    2\n", "    14\n")
        for stage, x in (("Running the tests", 1), ("Repeating", 3), ("which uses it", 2)):
            await cancel_at(stage, model, "define_action", source=another.format(x), replaces="scale")
        assert (await model.text("manage_action", name="scale", op="history")).startswith("scale v1 · active")
        assert (library / "scale.py").read_text() == SCALE.format("x * 2")
        await model.text("define_action", source=SCALE.format("2 * x"), replaces="scale")
        assert "scale v2 · active" in await model.text("manage_action", name="scale", op="history")


async def test_definition_cancelled_once_it_is_kept_stays(connect: Connect) -> None:
    async with connect() as model:
        # The result is held until a client that was seen to list again has done so: time to cancel it.
        await model.tools()
        await model.text("define_action", source='def shift(x: int) -> int:\n    "Shift."\n    return x + 1\n')
        await model.tools()
        with anyio.fail_after(60), anyio.CancelScope() as scope:

            async def cancel(_progress: float, _total: float | None, message: str | None) -> None:
                if message == KEPT[-1]:
                    scope.cancel()

            await model.client.call_tool("define_action", {"source": SCALE.format("x + x")}, progress_callback=cancel)
        assert "scale v1 · active · 1/1" in await model.text("manage_action", name="scale", op="history")
        assert await model.text("execute_action", name="scale", arguments={"x": 3}) == "6"


def jails() -> list[psutil.Process]:
    """Every process named bwrap that a server of this test runs."""
    return [child for child in psutil.Process().children(recursive=True) if child.name() == "bwrap"]


async def until(is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not is_so():
            await anyio.sleep(0.02)


async def test_cancelled_test_ends_its_worker_and_changes_nothing(connect: Connect, library: Path) -> None:
    pause = 'def pause(x: int) -> int:\n    """Seconds.\n\n    >>> pause(1) > 0\n    True\n    """\n    return {} * x\n'
    waits = TOP.replace("scale(scale(x))", "__import__('time').sleep(scale(x)) or 4").replace("scale", "pause")
    async with connect(warm_workers=0) as model:
        await model.text("define_action", source=pause.format("0.001"))
        await model.text("define_action", source=waits)
        (library / "pause.py").write_text(pause.format(25))
        with anyio.fail_after(60):
            while "pause v2 · active" not in await model.text("manage_action", name="pause", op="history"):
                await anyio.sleep(0.05)
        await until(lambda: not jails())
        started = anyio.Event()
        with anyio.CancelScope() as scope:

            async def begin(*_: object) -> None:
                started.set()

            async def test() -> None:
                await model.client.call_tool("manage_action", {"name": "top", "op": "test"}, progress_callback=begin)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(test)
                await started.wait()
                await until(lambda: bool(jails()))
                scope.cancel()
        await until(lambda: not jails())
        assert "top v1 · active · 1/1" in await model.text("manage_action", name="top", op="history")


META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "progressToken": 1,
}


@pytest.mark.parametrize("tool", ["run_python", "execute_action"])
async def test_closing_the_stream_of_a_stateless_call_ends_its_code(
    serve_http: StartServer, require: Callable[[str], None], tool: str
) -> None:
    require("jail")
    stuck = (
        'def stuck(x: int) -> int:\n    """Stay."""\n    print("began", flush=True)\n    while x: pass\n    return x\n'
    )
    arguments = {
        "run_python": {"code": "kept = 2\nprint('began', flush=True)\nwhile True: pass"},
        "execute_action": {"name": "stuck", "arguments": {"x": 1}},
    }
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": tool,
    }
    params = {"name": tool, "arguments": arguments[tool], "_meta": META}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    async with serve_http(timeout_seconds=300) as server, server.connect("2026-07-28") as model:
        await model.text("define_action", source=stuck)
        await model.text("run_python", code="kept = 1")
        async with server.http() as http, http.stream("POST", "/mcp", json=message, headers=headers) as answer:
            assert answer.status_code == 200
            async for line in answer.aiter_lines():
                if "began" in line:
                    break
        with anyio.fail_after(60):
            assert "1" in await model.text("run_python", code="kept")
