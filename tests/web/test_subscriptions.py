"""Subscribers hear of the output of their own runs and of their sessions' files, in every era, and of no one else's."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.shared.subscriptions import ResourceUpdated
from mcp_types import ResourceUpdatedNotification

from tests.flows.conftest import SERVER, Model, environment

from .conftest import ERAS, TOKEN, StartServer, WebServer

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
async def subscribed(server: WebServer, era: str, token: str, heard: list[str], *uris: str) -> AsyncIterator[Model]:
    """A client that notes the URIs that it is told of."""

    async def hear(message: Any) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            heard.append(message.params.uri)

    is_stateless = era == "2026-07-28"
    async with server.connect(era, token, hear=None if is_stateless else hear) as model:
        if not is_stateless:
            for uri in uris:
                await model.client.subscribe_resource(uri)
            yield model
            for uri in uris:  # the SDK's client over SSE breaks where news come as it goes
                await model.client.unsubscribe_resource(uri)
            return
        async with (
            model.client.listen(resource_subscriptions=list(uris)) as subscription,
            anyio.create_task_group() as tasks,
        ):

            async def note() -> None:
                async for event in subscription:
                    assert isinstance(event, ResourceUpdated)
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
            subscribed(server, era, ADA, hers, uri),
            subscribed(server, era, BOB, his, uri),
        ):
            await until(lambda: bool(hers))
            printed = len(hers)
            await maker.text("check_run", run=found[0], wait_seconds=20)
            await until(lambda: len(hers) > printed)
        assert set(hers) == {uri}
        assert len(hers) < 50
        assert his == []


FILE = "dynasaur://sessions/default/files/"
WRITES = '''
def write_note(text: str) -> int:
    """Write a note.

    >>> write_note("a")
    1
    """
    import pathlib
    return pathlib.Path("/workspace/a b.txt").write_text(text)
'''


@pytest.mark.parametrize("era", ERAS)
async def test_files_that_are_written_or_gone_are_told_to_their_principal_only(
    serve_http: StartServer, library: Path, tmp_path: Path, era: str, require: Callable[[str], None]
) -> None:
    require("jail")
    (tmp_path / "tokens").write_text(f"ada {ADA}\nbob {BOB}\n")
    (tmp_path / "a b.txt").write_text("from outside")
    note, other, folder = f"{FILE}a%20b.txt", f"{FILE}other", f"{FILE}folder"
    marked = [f"{FILE}mark{number}" for number in range(20)]
    marks = iter(marked)
    hers: list[str] = []
    his: list[str] = []
    async with (
        serve_http(token="", token_file=str(tmp_path / "tokens")) as server,
        server.connect("2026-07-28", ADA) as maker,
        server.connect("2026-07-28", BOB) as stranger,
    ):
        await maker.tools()
        for model in (maker, stranger):
            names = ["a b.txt", "other", *(uri.removeprefix(FILE) for uri in marked)]
            await model.text("run_python", code=f"import os\nfor name in {names}: open(name, 'w').close()")
        await maker.text("run_python", code="os.mkdir('folder')")
        await maker.text("define_action", source=WRITES)
        async with (
            subscribed(server, era, ADA, hers, note, other, folder, *marked),
            subscribed(server, era, BOB, his, note, other),
        ):

            async def told_after(tool: str, /, **arguments: Any) -> set[str]:
                """What it tells: all of that has come when news after the news after it have."""
                before = len(hers)
                await maker.call(tool, **arguments)
                for _ in range(2):
                    mark = next(marks)
                    await maker.text("run_python", code=f"open({mark.removeprefix(FILE)!r}, 'w').close()")
                    await until(lambda mark=mark: mark in hers)
                return {uri for uri in hers[before:] if "mark" not in uri}

            assert await told_after("run_python", code="open('a b.txt', 'w').write('x')") == {note}
            assert await told_after("write_note", text="y") == {note}
            assert await told_after("run_python", code="open('a b.txt', 'w').write('z')\n1 / 0") == {note}
            assert await told_after("run_python", code="os.remove('a b.txt')") == {note}
            assert await told_after("run_python", code="open('other', 'a').write('x')") == {other}
            assert await told_after("run_python", code="open('a b.txt', 'w').write('z')") == {note}
            assert await told_after("run_python", code="open('folder/x', 'w').close()") == {folder}
            put = [*SERVER, "files", "put", str(tmp_path / "a b.txt"), "--principal", "ada"]
            before = len(hers)
            while (await anyio.run_process(put, env=environment(library, "jail"), check=False)).returncode:
                pass
            await until(lambda: note in hers[before:])
            before = len(hers)
            await maker.call("manage_action", name="default", op="close_session")
            await until(lambda: {note, other, folder} <= set(hers[before:]))
            assert his == []
            await stranger.text("run_python", code="open('other', 'w').write('mine')")
            await until(lambda: bool(his))
        assert set(his) == {other}


async def test_file_that_a_stopped_step_may_have_written_is_told(
    serve_http: StartServer, require: Callable[[str], None]
) -> None:
    require("jail")
    heard: list[str] = []
    async with serve_http() as server, server.connect() as maker:
        await maker.text("run_python", code="open('a', 'w').close()")
        async with subscribed(server, "legacy", TOKEN, heard, f"{FILE}a"):
            code = "open('a', 'w').write('x')\nwhile True: pass"
            await maker.error("run_python", code=code, timeout_seconds=0.5)
            await until(lambda: heard == [f"{FILE}a"])
