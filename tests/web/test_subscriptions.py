"""Subscribers hear of the output of their own runs, in every era, and nobody hears of another's."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp_types import ResourceUpdatedNotification

from .conftest import ERAS, StartServer, WebServer

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:resources/(un)?subscribe is removed")]

ADA, BOB = "token-of-ada-0123456789", "token-of-bob-0123456789"
FLOOD = """
import time
time.sleep(3)
for n in range(20_000):
    print(n, flush=True)
time.sleep(1)
"""


@asynccontextmanager
async def subscribed(server: WebServer, era: str, token: str, uri: str, heard: list[str]) -> AsyncIterator[Any]:
    """A client that notes the URIs that it is told of."""

    async def hear(message: Any) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            heard.append(message.params.uri)

    async with server.connect(era, token, hear=hear) as model:
        if era != "2026-07-28":
            await model.client.subscribe_resource(uri)
            yield model
            return
        async with (
            model.client.listen(resource_subscriptions=[uri]) as subscription,
            anyio.create_task_group() as tasks,
        ):

            async def note() -> None:
                async for event in subscription:
                    heard.append(event.uri)

            tasks.start_soon(note)
            yield model
            tasks.cancel_scope.cancel()


async def until(is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(15):
        while not is_so():
            await anyio.sleep(0.02)


@pytest.mark.parametrize("era", ERAS)
async def test_output_that_grows_and_the_end_of_a_run_are_told_to_its_principal_only(
    serve_http: StartServer, tmp_path: Path, era: str, require: Callable[[str], None]
) -> None:
    require("jail")
    (tmp_path / "tokens").write_text(f"ada {ADA}\nbob {BOB}\n")
    async with (
        serve_http(token="", token_file=str(tmp_path / "tokens")) as server,
        server.connect("2026-07-28", ADA) as maker,
    ):
        running = await maker.text("run_python", code=FLOOD, background=True)
        found = re.search(r"\b[0-9a-f]{8}\b", running)
        assert found, running
        uri = f"dynasaur://runs/{found[0]}/output"
        hers: list[str] = []
        his: list[str] = []
        async with (
            subscribed(server, era, ADA, uri, hers),
            subscribed(server, era, BOB, uri, his),
        ):
            await until(lambda: bool(hers))
            printed = len(hers)
            await maker.text("check_run", run=found[0], wait_seconds=20)
            await until(lambda: len(hers) > printed)
        assert set(hers) == {uri}
        assert len(hers) < 50
        assert his == []
