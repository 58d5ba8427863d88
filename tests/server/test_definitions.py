"""Definitions through a real client and a real jail: what is kept, and what is said of it."""

from __future__ import annotations

import anyio
import pytest

from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.types import META_TOOLS

from .conftest import ERAS, MEAN, SLOW, OpenClient, text_of, write_twin

pytestmark = pytest.mark.anyio


async def test_definition_that_breaks_rules_keeps_nothing(open_client: OpenClient) -> None:
    async with open_client() as client:
        result = await client.call_tool("define_action", {"source": MEAN.replace("2.0", "7.0")})
        assert result.is_error
        assert "7.0" in text_of(result)
        assert len((await client.list_tools()).tools) == len(META_TOOLS)


async def test_definition_not_exposed_says_how_to_call_it(open_client: OpenClient) -> None:
    async with open_client(expose="none") as client:
        text = text_of(await client.call_tool("define_action", {"source": MEAN}))
        assert "now a tool" not in text
        assert "execute_action(name='mean', arguments={\"numbers\": …})" in text


async def test_advice_is_told_with_the_definition_and_shown_with_the_action(open_client: OpenClient) -> None:
    source = 'def read_sales(year: int) -> str:\n    """Read them."""\n    return open("sales.csv").read()\n'
    advice = [
        "line 3: 'sales.csv' could be a parameter.",
        "line 1: no >>> example calls it: one shows how to, and is a test.",
        "never used: 'year' (line 1).",
    ]
    async with open_client() as client:
        told = text_of(await client.call_tool("define_action", {"source": source}))
        listed = "\n".join(f"- {each}" for each in advice)
        assert f"Advice (replaces='read_sales' takes a better version):\n{listed}" in told
        shown = text_of(await client.call_tool("manage_action", {"name": "read_sales", "op": "show"}))
        assert "\n".join(f"advice: {each}" for each in advice) in shown
        good = MEAN.replace("mean", "average")
        assert "Advice" not in text_of(await client.call_tool("define_action", {"source": good}))
        assert "advice" not in text_of(await client.call_tool("manage_action", {"name": "average", "op": "show"}))


async def test_definition_awaits_approval_where_that_is_asked_for(open_client: OpenClient) -> None:
    async with open_client(require_approval=True) as client:
        assert "until a person approves it" in text_of(await client.call_tool("define_action", {"source": MEAN}))
        assert len((await client.list_tools()).tools) == len(META_TOOLS)


async def test_same_function_under_another_name_is_refused_and_a_like_one_shown(
    open_client: OpenClient,
) -> None:
    async with open_client() as client:
        await client.call_tool("define_action", write_twin("add"))
        refused = await client.call_tool("define_action", write_twin("sum_of_ints"))
        assert refused.is_error
        assert "'add' is the same code, names and comments aside. Use that" in text_of(refused)
        double = write_twin("sum_of_doubles", body="2 * (first + second)", result="10")
        similar = text_of(await client.call_tool("define_action", double))
        assert "Similar actions" in similar
        assert "-> int: Add two whole numbers. (described alike, but differs at add(first=2, second=3): 5" in similar
        other = write_twin("describe", "Describe the weather of a city.", body="first * second", result="6")
        assert "Similar actions" not in text_of(await client.call_tool("define_action", other))


async def test_draft_defined_again_with_the_same_source_is_tested_again_and_no_new_version(
    open_client: OpenClient, store: FileStore
) -> None:
    async with open_client(require_approval=True) as client:
        await client.call_tool("define_action", write_twin("add"))
        again = text_of(await client.call_tool("define_action", write_twin("add")))
        assert again.startswith("Unchanged 'add': v1, 1/1 tests, a draft until a person approves it")
        assert len(store.history("add")) == 1


async def test_action_that_cannot_be_imported_is_said_to_be_disabled_or_unknown(
    open_client: OpenClient,
) -> None:
    async with open_client() as client:
        await client.call_tool("define_action", write_twin("add"))
        top = {
            "source": "from actions import add\n" + write_twin("top", body="add(first, second)")["source"],
            "anyway": True,
        }
        assert not (await client.call_tool("define_action", top)).is_error
        await client.call_tool("manage_action", {"name": "add", "op": "disable"})
        why = "'add' is disabled. manage_action(name='add', op='enable') makes it callable again."
        call = await client.call_tool("top", {"first": 1, "second": 2})
        assert call.is_error
        assert why in text_of(call)
        assert why in text_of(await client.call_tool("run_python", {"code": "from actions import add"}))
        assert "Did you mean 'top'" in text_of(await client.call_tool("run_python", {"code": "import actions.topp"}))


async def test_actions_that_would_import_each_other_are_told_of_the_circle(open_client: OpenClient) -> None:
    async with open_client() as client:
        await client.call_tool("define_action", write_twin("add"))
        top = {
            "source": "from actions import add\n" + write_twin("top", body="add(first, second)")["source"],
            "anyway": True,
        }
        await client.call_tool("define_action", top)
        circle = {"source": "from actions import top\n" + write_twin("add")["source"], "replaces": "add"}
        refused = await client.call_tool("define_action", circle)
        assert refused.is_error
        assert "'top' in turn uses 'add'" in text_of(refused)
        called = await client.call_tool("top", {"first": 1, "second": 2})
        assert called.structured_content == {"result": 3}


async def test_new_version_that_returns_another_type_says_how_to_call_it(open_client: OpenClient) -> None:
    async with open_client() as client:
        await client.call_tool("define_action", write_twin("add"))
        text = write_twin("add", returns="str", body="str(first + second)", result="'5'")
        replaced = text_of(await client.call_tool("define_action", {**text, "replaces": "add", "anyway": True}))
        assert "It returns another type now: until the tool list is read again, call it by execute_action." in replaced
        same = write_twin("add", returns="str", body="f'{first + second}'", result="'5'")
        replaced = text_of(await client.call_tool("define_action", {**same, "replaces": "add"}))
        assert "another type" not in replaced


@ERAS
async def test_cancelled_definition_keeps_nothing(open_client: OpenClient, store: FileStore, era: str) -> None:
    source = SLOW.replace("slow(0)", "slow(19)")
    async with open_client(era) as client:
        with anyio.move_on_after(1):
            await client.call_tool("define_action", {"source": source})
        with anyio.fail_after(15):
            assert text_of(await client.call_tool("run_python", {"code": "1"})).startswith("Value:\n1")
        assert store.entries() == []
