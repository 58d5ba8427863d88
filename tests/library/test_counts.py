"""What is counted and kept of calls, and ledgers of earlier releases."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dynasaur_mcp.library.audit import Deed
from dynasaur_mcp.library.database import LEDGER_FILE
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.types import RECENT_CALLS, Ending, Status
from tests.library.conftest import OpenStore, call, put, write_source

FIRST_SCHEMA = """
CREATE TABLE state (revision INTEGER NOT NULL);
INSERT INTO state VALUES (7);
CREATE TABLE actions (
    name TEXT PRIMARY KEY, version INTEGER NOT NULL, pinned INTEGER NOT NULL DEFAULT 0,
    calls INTEGER NOT NULL DEFAULT 0, successes INTEGER NOT NULL DEFAULT 0, revision INTEGER NOT NULL DEFAULT 0);
CREATE TABLE sources (sha256 TEXT PRIMARY KEY, source TEXT NOT NULL);
CREATE TABLE versions (
    name TEXT NOT NULL, version INTEGER NOT NULL, sha256 TEXT NOT NULL, details TEXT NOT NULL, author TEXT NOT NULL,
    defined_at TEXT NOT NULL, status TEXT NOT NULL, tests TEXT NOT NULL, schemas TEXT, PRIMARY KEY (name, version));
CREATE TABLE intents (
    name TEXT NOT NULL, sha256 TEXT NOT NULL, author TEXT NOT NULL, status TEXT NOT NULL, tests TEXT NOT NULL,
    schemas TEXT, PRIMARY KEY (name, sha256));
CREATE TABLE files (file TEXT PRIMARY KEY, mtime_ns INTEGER NOT NULL, size INTEGER NOT NULL, problems TEXT);
CREATE TABLE calls (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, principal TEXT NOT NULL,
    ending TEXT NOT NULL, seconds REAL NOT NULL);
PRAGMA user_version = 1;
"""


def test_a_ledger_of_the_first_release_is_taken_over_with_all_it_holds(
    store: FileStore, folder: Path, open_store: OpenStore
) -> None:
    put(store, write_source("add"))
    put(store, write_source("add", "Second."), 1)
    store.set_pinned("add", True)
    store.close()
    now, first = folder / LEDGER_FILE, folder / "first"
    with contextlib.closing(sqlite3.connect(first)) as old:
        old.executescript(f"ATTACH '{now}' AS now; {FIRST_SCHEMA}")
        for table in ("sources", "versions", "files"):
            old.execute(f"INSERT INTO {table} SELECT * FROM now.{table}")
        old.execute("INSERT INTO actions VALUES ('add', 2, 1, 3, 2, 7)")
        for day in (1, 3, 2):
            at = f"2026-01-0{day}T12:00:00.000001+00:00"
            old.execute("INSERT INTO calls VALUES (NULL, ?, 'add', 1, 'ann', 'returned', 0.5)", (at,))
        old.commit()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{now}{suffix}").unlink(missing_ok=True)
    first.rename(now)
    taken = open_store()
    entry = taken.get("add")
    assert (taken.revision, entry.version, entry.pinned, entry.calls, entry.successes) == (7, 2, True, 3, 2)
    assert entry.used_at == datetime(2026, 1, 3, 12, 0, 0, 1, tzinfo=UTC)
    assert [each.version for each in taken.history("add")] == [2, 1]
    records = [(record.deed, record.version, record.principal) for record in taken.records(limit=10)]
    assert records == [("define", 2, "ann"), ("define", 1, "ann"), *[("call", 1, "ann")] * 3]
    call(taken, version=2, session="s", arguments={"x": 1})
    assert (taken.get("add").calls, taken.recorded_arguments("add", "ann")) == (4, [{"x": 1}])


def test_runs_are_on_record_up_to_the_last_so_many_and_changes_all(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynasaur_mcp.library.ledger.KEPT_RUNS", 3)
    put(store, write_source("add"))
    call(store)
    for number in range(5):
        run = {"principal": "ann", "session": f"s{number}", "request": "1", "ending": "returned", "code": "1"}
        store.record_run(ended_at=datetime.now(UTC), seconds=0.1, **run)
    records = store.records(limit=100)
    assert [record.session for record in records if record.deed is Deed.RUN] == ["s4", "s3", "s2"]
    assert [record.deed for record in records[3:]] == [Deed.CALL, Deed.DEFINE]


def test_recent_calls_are_those_of_the_current_version(store: FileStore, open_store: OpenStore) -> None:
    put(store, write_source("add"))
    for _ in range(RECENT_CALLS):
        call(store)
    for _ in range(RECENT_CALLS // 2):
        call(store, ending=Ending.RAISED)
    entry = store.get("add")
    assert (entry.recent, entry.is_failing) == ("1111100000", False)
    call(store, ending=Ending.TIMEOUT)
    assert store.get("add").is_failing
    assert open_store().get("add") == store.get("add")
    put(store, write_source("add", "Second."), 1)
    call(store, version=1, ending=Ending.RAISED)
    assert (store.get("add").recent, store.history("add")[1].recent) == ("", "")
    call(store, version=2, ending=Ending.RAISED)
    assert (store.get("add").recent, store.get("add").is_failing) == ("0", False)


def test_use_is_noted_of_all_that_was_used(store: FileStore) -> None:
    for name in ("low", "mid", "top", "idle"):
        put(store, write_source(name))
    call(store, "top", uses=["mid"])
    assert {entry.name for entry in store.entries() if entry.used_at} == {"mid", "top"}
    store.record_imports({"low": 1}, session="s", uses=["mid"])
    used = {entry.name: entry.used_at for entry in store.entries() if entry.used_at}
    assert used.keys() == {"low", "mid", "top"}
    assert used["mid"] == used["low"] != used["top"]
    assert store.get("low").calls == 0


@pytest.mark.parametrize("status", [Status.DRAFT, Status.DISABLED])
def test_counting_changes_no_action(store: FileStore, status: Status) -> None:
    put(store, write_source("add"), status=status)
    before = store.revision
    call(store)
    store.record_imports({"add": 1}, session="s")
    assert (store.revision, store.get("add").status) == (before, status)
