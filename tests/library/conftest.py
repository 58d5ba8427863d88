"""Stores and actions to try things on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dynasaur_mcp.library.reading import read_action
from dynasaur_mcp.library.store import FileStore
from dynasaur_mcp.types import Entry, Schemas, Status, Tests

OpenStore = Callable[[], FileStore]

SCHEMAS = Schemas(
    {"type": "object", "properties": {"x": {"type": "integer"}}},
    {"type": "object", "properties": {"result": {"type": "integer"}}},
    True,
)


def write_source(name: str, text: str = "Add one.", *, uses: str = "", body: str = "x + 1") -> str:
    imports = f"from actions import {uses}\n\n\n" if uses else ""
    return (
        f'{imports}def {name}(x: int) -> int:\n    """{text}\n\n    >>> {name}(1)\n    2\n    """\n    return {body}\n'
    )


def put(store: FileStore, source: str, expected_version: int = 0, **given: object) -> Entry:
    keeping: dict[str, object] = {"author": "ann", "tests": Tests(1), "schemas": SCHEMAS, "status": Status.ACTIVE}
    keeping.update(given)
    return store.put(read_action(source), expected_version=expected_version, **keeping)  # type: ignore[arg-type]


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
