"""Stores, indexes and actions to try things on."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from dynasaur_mcp.app import choose_sandbox
from dynasaur_mcp.define import Definition, define_action
from dynasaur_mcp.library.embedding import Embedder
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.library.reading import read_action
from dynasaur_mcp.sandbox.pool import open_pool
from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.search import search_actions
from dynasaur_mcp.settings import read_settings
from dynasaur_mcp.types import JSON, Ending, Entry, Found, LibraryChanged, Schemas, Status, Tests

OpenStore = Callable[[], FileStore]
OpenIndex = Callable[..., Index]
Define = Callable[..., Awaitable[Definition]]

SCHEMAS = Schemas(
    {"type": "object", "properties": {"x": {"type": "integer"}}},
    {"type": "object", "properties": {"result": {"type": "integer"}}},
    True,
)

TEXTS = {
    "read_table": "Read a table from a CSV or Excel file.",
    "send_mail": "Send an electronic letter to somebody.",
    "find_dates": "Find all dates in a text, in any usual notation.",
    "resize_picture": "Make a picture smaller or larger.\n\n    Args:\n        x: width in pixels\n",
}


def write_source(name: str, text: str = "Add one.", *, uses: str = "", body: str = "x + 1") -> str:
    imports = f"from actions import {uses}\n\n\n" if uses else ""
    return (
        f'{imports}def {name}(x: int) -> int:\n    """{text}\n\n    >>> {name}(1)\n    2\n    """\n    return {body}\n'
    )


def put(store: FileStore, source: str, expected_version: int = 0, **given: object) -> Entry:
    keeping: dict[str, object] = {"author": "ann", "tests": Tests(1), "schemas": SCHEMAS, "status": Status.ACTIVE}
    keeping.update(given)
    return store.put(read_action(source), expected_version=expected_version, **keeping)  # type: ignore[arg-type]


def call(
    store: FileStore, name: str = "add", version: int = 1, ending: Ending = Ending.RETURNED, **given: JSON
) -> None:
    store.record_call(name, version, principal="ann", ending=ending, seconds=0.1, **given)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "library"


@pytest.fixture
def open_store(folder: Path) -> Iterator[OpenStore]:
    """Opens the same folder again and again, as other processes would."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(contextlib.closing(FileStore(folder)))


@pytest.fixture
def store(open_store: OpenStore) -> FileStore:
    return open_store()


@pytest.fixture
def filled(store: FileStore) -> FileStore:
    for name, text in TEXTS.items():
        put(store, write_source(name, text))
    return store


@pytest.fixture
def open_index(filled: FileStore) -> Iterator[OpenIndex]:
    with contextlib.ExitStack() as stack:

        def open_index(path: Path | None = None, embedder: Embedder | None = None) -> Index:
            return stack.enter_context(contextlib.closing(Index(filled, path, embedder)))

        yield open_index


def names(found: Found) -> list[str]:
    return [match.entry.name for match in found.matches]


def search(query: str, index: Index, store: FileStore, limit: int = 5) -> Found:
    return search_actions(query, index=index, store=store, limit=limit)


@pytest.fixture(scope="session")
def embedder(require: Callable[[str], None]) -> Embedder:
    require("model")
    embedder = Embedder("sentence-transformers/all-MiniLM-L6-v2")
    embedder.start()
    assert embedder.wait(300)
    return embedder


@pytest.fixture
async def define(store: FileStore, tmp_path: Path, require: Callable[[str], None]) -> AsyncIterator[Define]:
    require("jail")
    settings = read_settings(sandbox="jail", library=tmp_path, cache=tmp_path / "cache")

    async def changed(change: LibraryChanged) -> None: ...

    presence = Presence(settings.cache / "servers")
    with contextlib.closing(presence), contextlib.closing(Index(store, None, None)) as index:
        async with open_pool(lambda: choose_sandbox(settings, presence), settings.limits(), warm_workers=0) as pool:

            async def define(source: str, **given: object) -> Definition:
                options = {
                    "name": None,
                    "from_session": None,
                    "replaces": None,
                    "anyway": False,
                    "tags": (),
                    "principal": "ann",
                }
                return await define_action(
                    source=source,
                    store=store,
                    index=index,
                    pool=pool,
                    require_approval=False,
                    changed=changed,
                    **options | given,  # type: ignore[arg-type]
                )

            yield define
