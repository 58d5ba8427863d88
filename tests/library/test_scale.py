"""What is done again and again costs the same in a library of a hundred thousand: SQLite says how it answers."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.types import Ending, Status
from tests.library.conftest import OpenStore, put, write_source

CALL = {"principal": "ann", "ending": Ending.RETURNED, "seconds": 0.1, "arguments": {"x": 1}}

DONE: dict[str, Callable[[FileStore, Index], object]] = {
    "new": lambda store, _: put(store, write_source("three", body="x + 1 + 0")),
    "next version": lambda store, _: put(store, write_source("one", "Add one again."), 1),
    "status": lambda store, _: store.set_status("one", Status.DISABLED),
    "near": lambda store, _: store.near("missing"),
    "alike": lambda store, _: store.alike(store.get("one").action.shape),
    "unchecked": lambda store, _: store.unchecked(),
    "broken": lambda store, _: store.broken(),
    "users": lambda store, _: store.users("one"),
    "list of tools": lambda store, _: store.exposed(50),
    "news": lambda store, _: store.news(),
    "changes": lambda store, _: store.changed_after((0, ""), 50),
    "page": lambda store, _: store.entries(after="a", limit=50),
    "marks": lambda store, _: store.marks(after="a", limit=50),
    "some": lambda store, _: store.entries_of(["one", "two"]),
    "call": lambda store, _: store.record_call("one", 1, **CALL),  # type: ignore[arg-type]
    "arguments": lambda store, _: store.recorded_arguments("one", "ann"),
    "index": lambda store, index: (put(store, write_source("four", body="1 + x")), index.update()),
    "search": lambda _, index: index.find("add two", 5),
    "described alike": lambda _, index: index.find_any(["add two", "two add"], 5),
}

BOUNDED = re.compile(
    r"USING (COVERING )?INDEX (unchecked|newest|pinned|called|broken)\b|VIRTUAL TABLE|\(subquery|(state|some|intents)\b"
)
"""Scans of what is little, in an order that lets them stop, or of what FTS5 has found."""


@pytest.mark.parametrize("do", DONE.values(), ids=DONE.keys())
def test_nothing_that_is_done_often_goes_through_all_actions(
    do: Callable[[FileStore, Index], object], open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, str]] = []
    connect = sqlite3.connect

    def watch(path: Path, **named: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(path, **named)  # type: ignore[call-overload]
        connection.set_trace_callback(lambda statement: asked.append((path, statement)))
        return connection

    monkeypatch.setattr(sqlite3, "connect", watch)
    store = open_store()
    with contextlib.closing(Index(store, tmp_path / "index", None)) as index:
        for name in ("one", "two"):
            put(store, write_source(name, f"Add {name}.", body=f"x + {len(name)}"))
        index.update()
        index.settle(60)
        asked.clear()
        do(store, index)
        statements = [one for one in asked if re.match(r"SELECT|UPDATE|DELETE|WITH", one[1].strip())]
        assert statements
        for path, statement in statements:
            # By a connection of its own: beside the index, which follows, two threads would wait for each other.
            with contextlib.closing(connect(path)) as own:
                plan = [step[3] for step in own.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()]
            assert not [step for step in plan if step.startswith("SCAN") and not BOUNDED.search(step)], statement
