"""Counts of use that are kept as calls are made: the same as if every call were counted when they are asked for."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import pytest

from dynasaur_mcp.errors import LibraryError
from dynasaur_mcp.library.database import LEDGER_FILE, SCHEMA_VERSION
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.types import Ending, Usage
from tests.library.conftest import OpenStore, call, put, write_source

NAMES = ("add", "mid", "top")
TO_SCHEMA_6 = """
DROP TABLE paces;
ALTER TABLE actions DROP COLUMN imports;
ALTER TABLE actions DROP COLUMN reuse;
PRAGMA user_version = 6;
"""
CALLING = """
import sys
from pathlib import Path
from dynasaur_mcp.library.filestore import FileStore
from tests.library.test_usages import use

store = FileStore(Path(sys.argv[1]))
store.refresh()
print("ready", flush=True)
sys.stdin.readline()
use(store, 60)
"""


def use(store: FileStore, count: int) -> None:
    """Calls and imports in sessions before, after and unknown, of versions that there are and that there are not."""
    sessions = [f"{(datetime.now(UTC) + timedelta(days=days)).isoformat()}/0badcafe" for days in (-1, 1)]
    for number in range(count):
        name, version, session = NAMES[number % 3], 1 + number % 4, ["", *sessions][number // 7 % 3]
        ending = Ending.RAISED if number % 5 == 0 else Ending.RETURNED
        seconds = (number * 7919 % 1009) ** 2 / 1e5
        store.record_call(name, version, principal="ann", ending=ending, seconds=seconds, session=session)
        if number % 4 == 0:
            store.record_imports({name: version, NAMES[(number + 1) % 3]: 1}, session=session)


def count_all(folder: Path) -> dict[str, Usage]:
    """What the calls and imports themselves say."""
    with contextlib.closing(sqlite3.connect(folder / LEDGER_FILE)) as ledger:
        calls = ledger.execute("SELECT name, version, session, seconds FROM calls WHERE ending = 'returned'").fetchall()
        imports = ledger.execute("SELECT name, version, session FROM imports").fetchall()
        defined = {
            (name, version): at
            for name, version, at in ledger.execute("SELECT name, version, defined_at FROM versions")
        }
    reuse = Counter(
        name
        for name, version, session in [*imports, *(each[:3] for each in calls)]
        if (name, version) in defined and session > defined[name, version]
    )
    imported = Counter(name for name, *_ in imports)
    paces = {name: [float(f"{each[3]:.1e}") for each in calls if each[0] == name] for name in NAMES}
    return {
        name: Usage("ann", imported[name], reuse[name], median(paces[name]) if paces[name] else None) for name in NAMES
    }


@pytest.fixture
def used(store: FileStore) -> FileStore:
    for name in NAMES:
        put(store, write_source(name))
        put(store, write_source(name, "Second."), 1)
    use(store, 120)
    return store


def test_what_is_counted_is_what_the_calls_say(used: FileStore, folder: Path) -> None:
    usages = used.usages()
    assert usages == count_all(folder)
    assert all(usage.reuse and usage.imports for usage in usages.values())


def test_a_ledger_of_the_release_before_has_the_same_counts(
    used: FileStore, folder: Path, open_store: OpenStore
) -> None:
    before, entries = used.usages(), used.entries()
    used.close()
    with contextlib.closing(sqlite3.connect(folder / LEDGER_FILE)) as ledger:
        ledger.executescript(TO_SCHEMA_6)
    taken = open_store()
    assert taken.usages() == before
    assert taken.entries() == entries
    use(taken, 30)
    assert taken.usages() == count_all(folder) != before


def test_two_servers_at_once_count_all(used: FileStore, folder: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", CALLING, str(folder)]
    servers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) for _ in range(2)
    ]
    for server in servers:
        assert server.stdout
        assert server.stdout.readline() == "ready\n"
    for server in servers:
        assert server.stdin
        server.stdin.write("\n")
        server.stdin.flush()
    use(used, 60)
    for server in servers:
        server.communicate()
        assert server.returncode == 0
    assert used.usages() == count_all(folder)
    assert sum(entry.calls for entry in used.entries()) == 120 + 3 * 60


def test_a_damaged_ledger_is_counted_again(used: FileStore, folder: Path, open_store: OpenStore) -> None:
    before = used.usages()
    used.close()
    with contextlib.closing(sqlite3.connect(folder / LEDGER_FILE)) as ledger:
        ledger.execute("DROP TABLE paces")
    again = open_store()
    again.refresh()
    assert again.usages() == before


def test_what_a_newer_release_took_over_while_it_was_in_use_is_left_alone(used: FileStore, folder: Path) -> None:
    with contextlib.closing(sqlite3.connect(folder / LEDGER_FILE)) as newer:
        newer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        newer.commit()
        before = list(newer.iterdump())
        for do in (
            lambda: put(used, write_source("new")),
            lambda: used.set_pinned("add", True),
            used.refresh,
            used.usages,
        ):
            with pytest.raises(LibraryError, match=r"^The library was written by a newer dynasaur-mcp\. Upgrade this"):
                do()
        call(used)
        used.record_imports({"add": 1}, session="s")
        assert list(newer.iterdump()) == before
    assert not (folder / "new.py").exists()
    assert list(folder.glob("*damaged*")) == []
