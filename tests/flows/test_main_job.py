"""The main job, end to end: define, find, compose and run, in both sandboxes and both protocol eras."""

from __future__ import annotations

import anyio
import pytest

from .conftest import OpenClient, text_of

pytestmark = pytest.mark.anyio

MEAN = '''\
def mean_of(values: list[float]) -> float:
    """Average some numbers.

    Args:
        values: At least one number.

    Examples:
        >>> mean_of([1, 2])
        1.5
    """
    return sum(values) / len(values)
'''
SPREAD = '''\
from actions import mean_of

def spread_of(values: list[float]) -> dict[str, float]:
    """Mean and range of some numbers.

    Examples:
        >>> spread_of([1, 3])
        {'mean': 2.0, 'range': 2}
    """
    return {"mean": mean_of(values), "range": max(values) - min(values)}
'''


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_client_defines_finds_composes_and_runs_actions(open_client: OpenClient, sandbox: str, mode: str) -> None:
    async with open_client(sandbox, mode) as model:
        assert "Write it" in await model.text("search_actions", query="average of numbers")
        await model.text("run_python", code="values = [1.0, 2.0, 6.0]")
        assert "9.0" in await model.text("run_python", code="sum(values)")

        kept = await model.text("define_action", source=MEAN, tags=["statistics"])
        assert "v1, 1/1 tests, now a tool" in kept
        listed = {tool.name: tool for tool in (await model.client.list_tools(cache_mode="bypass")).tools}
        tool = listed["mean_of"]
        assert tool.input_schema["properties"]["values"]["description"] == "At least one number."
        assert tool.output_schema is not None
        assert tool.title
        assert tool.annotations is not None
        assert tool.meta
        result = await model.call("mean_of", values=[1, 2, 6])
        assert result.structured_content == {"result": 3.0}
        assert "3.0" in text_of(result)

        assert "now a tool" in await model.text("define_action", source=SPREAD)
        assert (await model.call("spread_of", values=[1, 3])).structured_content == {"mean": 2.0, "range": 2}
        composed = "from actions import spread_of\nspread_of(values)"
        assert "{'mean': 3.0, 'range': 5.0}" in await model.text("run_python", code=composed)

        overrun = await model.error("run_python", code="values = None\nwhile True: pass", timeout_seconds=0.5)
        assert "did not end within 0.5 s" in overrun
        assert "[1.0, 2.0, 6.0]" in await model.text("run_python", code="values")

    async with open_client(sandbox, mode) as model:
        found = await model.text("search_actions", query="average of numbers")
        assert "mean_of(values: list[float]) -> float" in found
        assert "(searched 2 actions by words" in found
        assert "2.0" in await model.text("execute_action", name="mean_of", arguments={"values": [1, 3]})


async def test_new_version_replaces_the_old_one_and_can_be_undone(open_client: OpenClient, sandbox: str) -> None:
    broken = MEAN.replace("/ len(values)", "// len(values)").replace("1.5", "1")
    async with open_client(sandbox) as model:
        await model.text("define_action", source=MEAN)
        assert "replaces='mean_of'" in await model.error("define_action", source=broken)
        assert "Expected:\n    1.5" in await model.error("define_action", source=broken, replaces="mean_of")
        assert "v2" in await model.text("define_action", source=broken, replaces="mean_of", anyway=True)
        assert "1" in await model.text("mean_of", values=[1, 2])
        history = await model.text("manage_action", name="mean_of", op="history")
        assert "v1" in history
        assert "v2" in history
        assert "-    return sum(values) / len(values)" in await model.text("manage_action", name="mean_of", op="diff")
        await model.text("manage_action", name="mean_of", op="rollback", version=1)
        assert (await model.call("mean_of", values=[1, 2])).structured_content == {"result": 1.5}
        await model.text("manage_action", name="mean_of", op="disable")
        assert "disabled" in await model.error("execute_action", name="mean_of", arguments={"values": [1]})
        assert "mean_of" not in await model.tools()
        await model.text("manage_action", name="mean_of", op="enable")
        await model.text("manage_action", name="mean_of", op="delete")
        assert "No action named 'mean_of'" in await model.error("mean_of", values=[1])


async def test_function_of_a_session_is_kept_with_what_it_uses(open_client: OpenClient) -> None:
    steps = [
        "import math as m\nSCALE = 10\ndef _round(x):\n    return m.floor(x * SCALE) / SCALE",
        'def cut(value: float) -> float:\n    """Cut.\n\n    >>> cut(1.27)\n    1.2\n    """\n    return _round(value)',
    ]
    async with open_client() as model:
        for code in steps:
            await model.text("run_python", code=code)
        kept = await model.text("define_action", from_session="default", name="cut")
        assert "v1, 1/1 tests, now a tool" in kept
        assert "5.6" in await model.text("cut", value=5.678)
        source = await model.text("manage_action", name="cut", op="show")
        assert "import math as m" in source
        assert "SCALE = 10" in source


async def test_function_of_a_session_whose_values_its_code_does_not_give_is_refused(open_client: OpenClient) -> None:
    define = """
import heapq
from decimal import Decimal
from types import MappingProxyType
WEIGHTS = [3.0, 1.0, 2.0]
MARKS = {"a", "b", "c"}
VIEW = MappingProxyType({"marks": MARKS}), {1: MARKS}.values()
RATES = {"x": (1, MARKS), 2: Decimal("1.5")}
seen = {}
counts = {}
numbers = iter([1, 2, 3, 4])
class Count:
    def add(self, value):
        counts[value] = True
def note(value):
    Count().add(value)
    return seen.setdefault(value, next(numbers))
def weigh(value: float) -> float:
    '''Weigh a value.

    >>> weigh(0.0)
    0.0
    '''
    note(value + len(MARKS) + len(RATES) + len(VIEW))
    return value * WEIGHTS[0]
"""
    async with open_client() as model:
        await model.text("run_python", code=define)
        await model.text("run_python", code="heapq.heapify(WEIGHTS)\nweigh(2.0)")
        refused = await model.error("define_action", from_session="default", name="weigh")
        assert "'WEIGHTS' is list(1.0, 3.0, 2.0) in the session, but list(3.0, 1.0, 2.0) where only this" in refused
        assert len(refused.splitlines()) == 2
        await model.text("run_python", code="WEIGHTS = [1.0]")
        assert "2.0" in await model.text("run_python", code="weigh(2.0)")
        assert "v1, 1/1 tests, now a tool" in await model.text("define_action", from_session="default", name="weigh")
        assert "2.0" in await model.text("weigh", value=2.0)


async def test_function_of_a_session_is_kept_anyway(open_client: OpenClient) -> None:
    define = "import random\nSALT = random.random()\ndef salt(n: int) -> float:\n"
    define += "    '''Add salt.\n\n    >>> salt(1) > 0\n    True\n    '''\n    return n + SALT"
    async with open_client() as model:
        await model.text("run_python", code=define)
        assert "'SALT' is " in await model.error("define_action", from_session="default", name="salt")
        assert "Kept" in await model.text("define_action", from_session="default", name="salt", anyway=True)


async def test_long_run_gives_back_an_id_and_is_waited_for_and_cancelled(open_client: OpenClient) -> None:
    async with open_client(wait_seconds=0.3) as model:
        started = await model.text("run_python", code="import time\nprint('on it')\ntime.sleep(1)\n42")
        run = started.split("run '")[1].split("'")[0]
        assert "42" in await model.text("check_run", run=run, wait_seconds=10)
        assert "on it" in str((await model.client.read_resource(f"dynasaur://runs/{run}/output")).contents[0])
        started = await model.text("run_python", code="while True: pass", background=True, timeout_seconds=60)
        run = started.split("run '")[1].split("'")[0]
        assert "Still running" in await model.text("check_run", run=run, wait_seconds=0.2)
        waiting = await model.text("run_python", code="1 + 1")
        assert f"It waits for run '{run}' there to end" in waiting
        said = await model.error("check_run", run=run, cancel=True)
        assert "cancelled" in said
        assert "0.00 s" not in said
        assert "2" in await model.text("check_run", run=waiting.split("run '")[1].split("'")[0], wait_seconds=30)
        assert "No run 'nope'" in await model.error("check_run", run="nope")


async def test_cancelled_request_stops_its_code(open_client: OpenClient, sandbox: str) -> None:
    async with open_client(sandbox) as model:
        await model.text("run_python", code="x = 1")
        with anyio.move_on_after(1):
            await model.call("run_python", code="x = 2\nwhile True: pass")
        with anyio.fail_after(10):
            assert "1" in await model.text("run_python", code="x")


async def test_image_and_error_reach_the_client(open_client: OpenClient) -> None:
    picture = "class P:\n    def _repr_png_(self): return b'\\x89PNG fake'\nP()"
    async with open_client() as model:
        result = await model.call("run_python", code=picture)
        assert [part.type for part in result.content] == ["text", "image"]
        assert result.structured_content is None
        assert "ZeroDivisionError" in await model.error("run_python", code="1 / 0")


async def test_file_written_by_hand_is_picked_up_checked_and_announced(
    open_client: OpenClient, library: object
) -> None:
    from pathlib import Path

    folder = Path(str(library))
    async with open_client() as model:
        await model.tools()
        (folder / "mean_of.py").write_text(MEAN)
        (folder / "broken.py").write_text("def broken(:\n")
        with anyio.fail_after(20):
            while "mean_of" not in await model.tools():
                await anyio.sleep(0.1)
        assert (await model.call("mean_of", values=[2])).structured_content == {"result": 2.0}
