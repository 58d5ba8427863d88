"""Attacks on the sandbox. Each is run on every sandbox, must be contained, and must leave nothing.

`attacked` sees to the second half for every one of them: the session answers as before, or its loss was said; another
principal's session never noticed; no process is left in the worker, none and no container outside when the pool is
closed; the server has no descriptor and the machine no file that it had not before.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from dynasaur_mcp.sandbox.container import HOME_LABEL
from dynasaur_mcp.sandbox.engine import connect
from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.sandbox.session import Session
from dynasaur_mcp.types import Ending, Outcome
from tests.sandbox.conftest import ADD, ALIVE, OpenPool, call, run, shown

SECRET = "a-secret-of-the-server-51423"

TOOLS = """
import ctypes, errno, json, mmap, os, platform, resource, signal, socket, struct, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def refused(do, *arguments):
    try:
        do(*arguments)
    except (OSError, ValueError) as error:
        return True
    return False
def others():
    return [int(name) for name in os.listdir('/proc') if name.isdigit() and int(name) != os.getpid()]
def raw(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(*map(ctypes.c_long, (number, *arguments)))
    return 'allowed' if result != -1 else errno.errorcode[ctypes.get_errno()]
before = 'kept'
"""


@dataclass(frozen=True)
class Target:
    """What an attack is let loose on."""

    session: Session
    bystander: Session

    async def step(self, code: str, seconds: float = 2) -> Outcome:
        return await self.session.run(code, {}, (), timeout_seconds=seconds)

    async def value(self, code: str, seconds: float = 20) -> str:
        outcome = await self.step(code, seconds)
        assert outcome.ending is Ending.RETURNED, outcome
        return outcome.shown


Attacked = Callable[..., AbstractAsyncContextManager[Target]]


@pytest.fixture
def attacked(open_sandbox: OpenPool, sandbox_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attacked:
    monkeypatch.setenv("API_KEY", SECRET)

    # A temporary folder of the server's own: others use the machine's too.
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))

    @asynccontextmanager
    async def attacked(actions: int = 1, **limits: Any) -> AsyncIterator[Target]:
        files, descriptors, children = list_files(tmp_path), list_descriptors(), list_children()
        async with open_sandbox(**limits) as pool:
            async with pool.session("me") as session, pool.session("you") as bystander:
                await run(bystander, "mine = 1\nopen('mine', 'w').write('1')")
                await run(session, TOOLS)
                # Each action that is called has a zygote, and that a fork for its next call.
                assert (await call(session, "add", ADD, first=1)).value == 2
                inside = int(await shown(session, ALIVE)) + 2 * (actions - 1)
                yield Target(session, bystander)
                if not session.is_lost:
                    outcome = await run(session, "before")
                    if outcome.ending is Ending.RAISED:  # its loss was said when it happened
                        await run(session, TOOLS)
                    else:
                        assert outcome.shown == "'kept'", outcome
                if not session.is_lost:
                    assert (await call(session, "add", ADD, first=1)).value == 2
                    assert int(await shown(session, ALIVE)) <= inside
                assert await shown(bystander, "mine, open('mine').read()") == "(1, '1')"
            async with pool.session("me") as session:
                assert (await call(session, "add", ADD, first=1)).value == 2
        assert list_children() == children
        assert list_files(tmp_path) == files
        assert list_descriptors() <= descriptors
        if sandbox_name == "docker":
            assert list_containers(tmp_path) == []

    return attacked


def list_files(tmp_path: Path) -> set[str]:
    """What the server may write to, but packages and signs of life."""
    return {str(path) for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "cache")}


def list_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def list_children() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}


def list_containers(tmp_path: Path) -> list[str]:
    client = connect()
    try:
        home = Presence(tmp_path / "cache" / "servers").home
        return [one["Id"] for one in client.containers(all=True, filters={"label": f"{HOME_LABEL}={home}"})]
    finally:
        client.close()
