"""Whose a session is, how many there can be, and how their workers start: each test on each sandbox."""

import os

import anyio
import pytest

from dynasaur_mcp.errors import SessionNotFound, SessionsFull

from .conftest import OpenPool, run, shown

pytestmark = pytest.mark.anyio


async def test_sessions_belong_to_their_principal_and_are_capped(open_sandbox: OpenPool) -> None:
    async with open_sandbox(sessions=2) as pool:
        async with pool.session("me", "a") as session:
            await run(session, "x = 1\nopen('mine', 'w').close()")
        async with pool.session("you", "a") as session:
            assert await shown(session, "'x' in globals(), __import__('os').listdir()") == "(False, [])"
        with pytest.raises(SessionsFull):
            async with pool.session("me", "b"):
                pass
        with pytest.raises(SessionNotFound, match="Open sessions: 'a'"):
            async with pool.session("me", "nope", create=False):
                pass
        assert pool.session_names("me") == ["a"]


async def test_caller_who_gives_up_waiting_takes_no_seat(open_sandbox: OpenPool) -> None:
    async with open_sandbox(sessions=1) as pool:
        async with anyio.create_task_group() as tasks, pool.session("me") as session:
            giving_up = anyio.CancelScope()

            async def wait() -> None:
                with giving_up:
                    async with pool.session("me"):
                        pass

            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await session.kill()
            giving_up.cancel()
        assert pool.session_names("me") == []
        async with pool.session("you") as session:
            assert await shown(session, "1") == "1"


async def test_workers_started_together_leave_the_server_all_its_processors(open_sandbox: OpenPool) -> None:
    before = os.sched_getaffinity(0)
    async with open_sandbox() as pool:

        async def use(name: str) -> None:
            async with pool.session("me", name):
                pass

        async with anyio.create_task_group() as tasks:
            for name in ("a", "b", "c"):
                tasks.start_soon(use, name)
    assert os.sched_getaffinity(0) == before
