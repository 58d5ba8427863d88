"""Settings that only a whole server can show the effect of."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from dynasaur_mcp.types import META_TOOLS

from .conftest import OpenClient
from .test_bad_input import GOOD

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _jail(require: Callable[[str], None]) -> None:
    require("jail")


async def test_budget_of_no_tokens_leaves_the_meta_tools_and_what_is_pinned(open_client: OpenClient) -> None:
    async with open_client(expose_tokens=0) as model:
        assert "its budget or policy leaves it out" in await model.text("define_action", source=GOOD)
        assert await model.tools() == list(META_TOOLS)
        await model.text("manage_action", name="triple", op="pin")
        assert await model.tools() == [*META_TOOLS, "triple"]


async def test_idle_session_is_closed_and_begins_anew(open_client: OpenClient) -> None:
    async with open_client(session_idle_seconds=0.2) as model:
        await model.text("run_python", code="kept = 1", session="mine")
        with anyio.fail_after(30):
            while "No session named 'mine'" not in (
                error := await model.error("define_action", from_session="mine", name="f")
            ):
                assert "'f' is not defined in it" in error
                await anyio.lowlevel.checkpoint()
        assert "NameError" in await model.error("run_python", code="kept", session="mine")


async def test_sessions_beyond_the_most_are_refused_and_the_open_ones_named(open_client: OpenClient) -> None:
    async with open_client(sessions=1) as model:
        await model.text("run_python", code="kept = 1", session="only")
        assert "All 1 sessions are in use: you hold 'only'." in await model.error(
            "run_python", code="1", session="other"
        )
        assert "1" in await model.text("run_python", code="kept", session="only")


@pytest.fixture
def _docker(require: Callable[[str], None]) -> None:
    require("docker")


@pytest.mark.usefixtures("_docker")
async def test_docker_runtime_that_is_not_there_ends_in_one_line_without_its_detail(open_client: OpenClient) -> None:
    async with open_client("docker", docker_runtime="no-such-runtime", warm_workers=0) as model:
        message = await model.error("run_python", code="1")
        assert message.startswith("The Docker engine does not know the runtime that --docker-runtime names: ")
        assert "\n" not in message
