"""A real library, a real server over it, and clients. A worker is started only for `open_client`, in a real jail."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.client._memory import InMemoryTransport
from mcp.server.lowlevel import Server
from mcp_types import CallToolResult, TextContent

from dynasaur_mcp.errors import SandboxUnavailable
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.library.reading import read_action
from dynasaur_mcp.runs import open_runs
from dynasaur_mcp.sandbox.base import Sandbox
from dynasaur_mcp.sandbox.jail import Jail
from dynasaur_mcp.sandbox.packages import PackageStore
from dynasaur_mcp.sandbox.pool import open_pool
from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.sandbox.wheels import Target
from dynasaur_mcp.server.announce import Announcer
from dynasaur_mcp.server.build import build_server
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
MEAN = '''\
def mean(numbers: list[float]) -> float:
    """Average some numbers.

    Examples:
        >>> mean([1, 2, 3])
        averaging 3
        2.0
    """
    print("averaging", len(numbers))
    return sum(numbers) / len(numbers)
'''
SLOW = '''\
def slow(seconds: float) -> str:
    """Wait.

    >>> slow(0)
    begun
    'done'
    """
    import time
    print("begun", flush=True)
    time.sleep(seconds)
    return "done"
'''
TWIN = '''\
def {name}(first: int, second: int) -> {returns}:
    """{text}

    >>> {name}(2, 3)
    {result}
    """
    return {body}
'''
INPUT = {
    "type": "object",
    "properties": {"first": {"type": "integer"}, "second": {"type": "integer", "default": 1}},
    "required": ["first"],
}
OUTPUT = {"type": "object", "properties": {"result": {"type": "integer"}}, "required": ["result"]}

LIMITS = Limits(wall_seconds=20)
ERAS = pytest.mark.parametrize("era", ["legacy", "2026-07-28"])

MakeEntry = Callable[..., Entry]
Keep = Callable[..., Entry]
Choose = Callable[[], Awaitable[Sandbox]]
Serve = Callable[..., AbstractAsyncContextManager[tuple[Server[Any], Announcer]]]
OpenClient = Callable[..., AbstractAsyncContextManager[Client]]


def text_of(result: CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


def write_twin(
    name: str,
    text: str = "Add two whole numbers.",
    returns: str = "int",
    body: str = "first + second",
    result: str = "5",
) -> dict[str, str]:
    return {"source": TWIN.format(name=name, text=text, returns=returns, body=body, result=result)}


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
    """A server over the library of this test, where no sandbox can be started unless `choose` gives one."""

    @asynccontextmanager
    async def serve(
        *, choose: Choose = choose_none, wait_seconds: float = 45, **options: Any
    ) -> AsyncIterator[tuple[Server[Any], Announcer]]:
        characters = options.get("output_characters", 8000)
        with closing(Index(store, None, None)) as index:
            async with (
                open_pool(choose, LIMITS, warm_workers=0) as pool,
                open_runs(wait_seconds=wait_seconds, kept_from_characters=characters) as runs,
            ):
                yield build_server(store=store, index=index, pool=pool, runs=runs, **options)

    return serve


@pytest.fixture
def open_client(serve: Serve, tmp_path: Path, require: Callable[[str], None]) -> OpenClient:
    """A client of that server, with the jail for code."""
    require("jail")
    packages = PackageStore(tmp_path / "cache", Target(f"{sys.version_info.major}.{sys.version_info.minor}"))

    @asynccontextmanager
    async def open_client(era: str = "legacy", **options: Any) -> AsyncIterator[Client]:
        with closing(Presence(tmp_path / "servers")) as presence:

            async def choose() -> Sandbox:
                return Jail(LIMITS, packages, presence)

            async with (
                serve(choose=choose, **options) as (server, _),
                Client(InMemoryTransport(server), mode=era) as client,
            ):
                yield client

    return open_client
