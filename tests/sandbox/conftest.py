"""Every sandbox, opened the way the server opens it."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dynasaur_mcp.app import choose_sandbox
from dynasaur_mcp.sandbox.base import Sandbox
from dynasaur_mcp.sandbox.pool import Pool, open_pool
from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.settings import Settings
from dynasaur_mcp.types import Limits

OpenPool = Callable[..., AbstractAsyncContextManager[Pool]]

LIMITS = Limits(wall_seconds=10, grace_seconds=0.5, memory_bytes=256 << 20, workspace_bytes=32 << 20)


DOORS = """
import ctypes, errno, os, platform
libc = ctypes.CDLL(None, use_errno=True)
NEWUSER, SIGCHLD, SESSION_KEYRING = 0x10000000, 17, -3
x86 = platform.machine() == 'x86_64'
calls = {
    'clone': (56 if x86 else 220, NEWUSER | SIGCHLD, 0, 0, 0, 0),
    'clone3': (435, 0, 0),
    'unshare': (272 if x86 else 97, NEWUSER),
    'keyctl': (250 if x86 else 219, 0, SESSION_KEYRING, 1),
    'userfaultfd': (323 if x86 else 282, 1),
    'io_uring_setup': (425, 0, 0),
    'ptrace': (101 if x86 else 117, 0, 0, 0, 0),
    'process_vm_readv': (310 if x86 else 270, os.getpid(), 0, 0, 0, 0, 0),
    'personality': (135 if x86 else 92, 0xffffffff),
}
def answer(name):
    ctypes.set_errno(0)
    result = libc.syscall(*map(ctypes.c_long, calls[name]))
    if name == 'clone' and result == 0: os._exit(0)
    return errno.errorcode[ctypes.get_errno()] if result == -1 else 'allowed'
print(*(f'{name}={answer(name)}' for name in calls))
"""
"""Prints what the kernel answers: to an ordinary process something else than EPERM, or than clone3's ENOSYS."""


@pytest.fixture(params=["jail", "docker"])
def sandbox_name(request: pytest.FixtureRequest, require: Callable[[str], None]) -> str:
    require(request.param)
    return str(request.param)


@pytest.fixture
def open_sandbox(sandbox_name: str, tmp_path: Path) -> OpenPool:
    """A pool over the sandbox; keyword arguments change limits, or are the pool's own."""

    @asynccontextmanager
    async def open_it(**changes: Any) -> AsyncIterator[Pool]:
        own = {key: changes.pop(key) for key in ("sessions", "session_idle_seconds") if key in changes}
        limits = dataclasses.replace(LIMITS, **changes)
        settings = Settings(
            sandbox=sandbox_name,  # type: ignore[arg-type]
            cache=tmp_path / "cache",
            timeout_seconds=limits.wall_seconds,
            memory_bytes=limits.memory_bytes,
            workspace_bytes=limits.workspace_bytes,
            output_bytes=limits.output_bytes,
        )

        async def choose() -> Sandbox:
            return await choose_sandbox(settings, Presence(settings.cache / "servers"))

        async with open_pool(choose, limits, warm_workers=0, **own) as pool:
            yield pool

    return open_it
