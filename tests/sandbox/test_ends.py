"""Sessions lost, closed, idle, listed: each test on each sandbox."""

from __future__ import annotations

import anyio
import psutil
import pytest

from dynasaur_mcp.errors import SessionNotFound
from dynasaur_mcp.sandbox.engine import connect
from dynasaur_mcp.types import Ending

from .conftest import ADD, OpenPool, call, run, shown

pytestmark = pytest.mark.anyio


async def test_worker_killed_in_one_fork_is_lost_to_all_and_each_is_told(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool:
        async with pool.session("me", "x") as session:
            await run(session, "n = 1")
        await pool.fork("me", "x", "y")
        async with pool.session("me", "y") as session:
            await session.kill()
        for name in ("x", "y"):
            async with pool.session("me", name) as session:
                outcome = await run(session, "'n' in globals()")
                assert outcome.shown == "False"
                (note,) = outcome.notes
                why = "the one before lost its worker, its variables and files are gone."
                assert note == f"This is a new session {name!r}: {why}"
                assert (await run(session, "1")).notes == ()


async def test_worker_ended_from_outside_is_replaced_at_the_next_call_which_says_so(
    open_sandbox: OpenPool, sandbox_name: str
) -> None:
    async with open_sandbox() as pool:
        async with pool.session("me") as session:
            await run(session, "n = 1")
            await anyio.to_thread.run_sync(end_from_outside, sandbox_name, session.worker_id)
            while not session.is_lost:
                await anyio.lowlevel.checkpoint()
        async with pool.session("me") as session:
            outcome = await call(session, "add", ADD, first=1)
            assert outcome.value == 2
            assert "lost its worker, its variables and files are gone" in outcome.notes[0]
            assert await shown(session, "'n' in globals()") == "False"


async def test_worker_ended_during_a_step_is_said_to_be_lost_and_replaced(
    open_sandbox: OpenPool, sandbox_name: str
) -> None:
    async with open_sandbox() as pool:
        async with pool.session("me") as session, anyio.create_task_group() as tasks:
            printed = anyio.Event()
            outcomes = []

            async def endless() -> None:
                code = "print('go')\nwhile True: pass"
                outcomes.append(await session.run(code, {}, (), on_output=lambda *_: printed.set()))

            tasks.start_soon(endless)
            await printed.wait()
            await anyio.to_thread.run_sync(end_from_outside, sandbox_name, session.worker_id)
        assert outcomes[0].ending is Ending.LOST
        assert outcomes[0].error.startswith("The step was lost with its worker")
        async with pool.session("me") as session:
            assert (await run(session, "1 + 1")).shown == "2"


def end_from_outside(sandbox: str, worker: str) -> None:
    if sandbox == "jail":
        # Below bubblewrap is the worker's own process, pid 1 inside.
        for process in psutil.Process(int(worker)).children():
            process.kill()
        return
    client = connect()
    client.kill(worker)
    client.close()


async def test_closed_session_is_told_of_to_who_opens_the_name_again(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool:
        async with pool.session("me", "x") as session:
            await run(session, "n = 1")
        await pool.close_session("me", "x")
        with pytest.raises(SessionNotFound):
            await pool.close_session("me", "x")
        async with pool.session("me", "x") as session:
            assert "the one before was closed" in (await run(session, "1")).notes[0]


async def test_caller_who_waits_for_a_session_that_is_closed_gets_a_new_one(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, anyio.create_task_group() as tasks:
        seen: list[str] = []

        async def look() -> None:
            async with pool.session("me", "x") as session:
                seen.append(await shown(session, "'n' in globals()"))

        async with pool.session("me", "x") as session:
            await run(session, "n = 1")
            tasks.start_soon(pool.close_session, "me", "x")
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(look)
            await anyio.wait_all_tasks_blocked()
        while not seen:
            await anyio.lowlevel.checkpoint()
        assert seen == ["False"]
        assert pool.session_names("me") == ["x"]


async def test_idle_session_is_closed_and_told_of(open_sandbox: OpenPool) -> None:
    async with open_sandbox(session_idle_seconds=0.1) as pool:
        async with pool.session("me", "x") as session:
            await run(session, "n = 1")
        while pool.session_names("me"):
            await anyio.lowlevel.checkpoint()
        async with pool.session("me", "x") as session:
            assert "had been idle" in (await run(session, "1")).notes[0]


async def test_open_sessions_are_listed_with_who_holds_them_and_what_they_use(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool:
        async with pool.session("me", "x") as session:
            await run(session, "block = bytearray(40 << 20)")
        await pool.fork("me", "x", "y")
        async with pool.session("you", "a"):
            held = {(one.principal, one.name): one for one in await pool.held()}
        assert set(held) == {("me", "x"), ("me", "y"), ("you", "a")}
        x, y, a = held["me", "x"], held["me", "y"], held["you", "a"]
        assert x.worker == y.worker != a.worker
        assert x.memory_bytes
        assert x.memory_bytes > 40 << 20
        assert (x.is_busy, a.is_busy, a.memory_bytes) == (False, True, None)
