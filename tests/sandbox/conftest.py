"""Every sandbox, opened the way the server opens it."""

from __future__ import annotations

import dataclasses
import os
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


RUNTIME = os.environ.get("DYNASAUR_TESTS_RUNTIME", "")
"""The OCI runtime of the containers, where it is not the engine's default: `runsc` runs all of this on gVisor."""


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
            docker_runtime=RUNTIME,
            timeout_seconds=limits.wall_seconds,
            memory_bytes=limits.memory_bytes,
            workspace_bytes=limits.workspace_bytes,
            output_bytes=limits.output_bytes,
            network=f"allow:{','.join(limits.network)}" if limits.network else "none",
        )

        async def choose() -> Sandbox:
            return await choose_sandbox(settings, Presence(settings.cache / "servers"))

        async with open_pool(choose, limits, warm_workers=0, **own) as pool:
            yield pool

    return open_it
