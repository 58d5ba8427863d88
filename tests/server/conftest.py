"""A real library, and a real server over it. Nothing here runs code: the pool starts no worker before one is needed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mcp.server.lowlevel import Server

from dynasaur_mcp.errors import SandboxUnavailable
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.reading import read_action
from dynasaur_mcp.sandbox.base import Sandbox
from dynasaur_mcp.server.announce import Announcer
from dynasaur_mcp.types import Entry, Limits, Schemas, Status, Tests

ADD = '''\
def add(first: int, second: int = 1) -> int:
    """Add two whole numbers.

    Examples:
        >>> add(2, 3)
        5
    """
    return first + second
'''
INPUT = {
    "type": "object",
    "properties": {"first": {"type": "integer"}, "second": {"type": "integer", "default": 1}},
    "required": ["first"],
}
OUTPUT = {"type": "object", "properties": {"result": {"type": "integer"}}, "required": ["result"]}

MakeEntry = Callable[..., Entry]
Keep = Callable[..., Entry]
Serve = Callable[..., AbstractAsyncContextManager[tuple[Server[Any], Announcer]]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    store = FileStore(tmp_path / "library")
    yield store
    store.close()


@pytest.fixture
def make_entry() -> MakeEntry:
    def make(name: str = "add", source: str = "", **changes: Any) -> Entry:
        values: dict[str, Any] = {
            "version": 1,
            "status": Status.ACTIVE,
            "pinned": False,
            "author": "ada",
            "defined_at": datetime(2026, 7, 28, tzinfo=UTC),
            "tests": Tests(passed=1),
            "schemas": Schemas(INPUT, OUTPUT, wraps_result=True),
        }
        return Entry(action=read_action(source or ADD.replace("add(", f"{name}("), name), **(values | changes))

    return make


@pytest.fixture
def keep(store: FileStore) -> Keep:
    """Put an action into the library as if a worker had checked it."""

    def keep(name: str = "add", source: str = "", **changes: Any) -> Entry:
        values: dict[str, Any] = {
            "author": "ada",
            "tests": Tests(passed=1),
            "schemas": Schemas(INPUT, OUTPUT, wraps_result=True),
            "status": Status.ACTIVE,
            "expected_version": 0,
        }
        return store.put(read_action(source or ADD.replace("add(", f"{name}("), name), **(values | changes))

    return keep


async def choose_none() -> Sandbox:
    raise SandboxUnavailable("No sandbox here: install Docker or bubblewrap.\nsecret detail of the host")


@pytest.fixture
def serve(store: FileStore) -> Serve:
    """A server over the library of this test, where no sandbox can be started."""

    @asynccontextmanager
    async def serve(*, wait_seconds: float = 45, **options: Any) -> AsyncIterator[tuple[Server[Any], Announcer]]:
        from dynasaur_mcp.library.index import Index
        from dynasaur_mcp.runs import open_runs
        from dynasaur_mcp.sandbox.pool import open_pool
        from dynasaur_mcp.server.build import build_server

        index = Index(store, None, None)
        async with (
            open_pool(choose_none, Limits(), warm_workers=0) as pool,
            open_runs(wait_seconds=wait_seconds, kept_from_characters=8000) as runs,
        ):
            yield build_server(store=store, index=index, pool=pool, runs=runs, **options)
        index.close()

    return serve
