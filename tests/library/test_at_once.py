"""Several servers on one library at once, and those that are killed in the middle of a definition."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dynasaur_mcp.errors import ActionExists
from dynasaur_mcp.library.audit import Deed
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.reading import read_action
from dynasaur_mcp.types import Status, Tests
from tests.library.conftest import SCHEMAS, OpenStore, put, write_source


def test_of_two_threads_putting_at_once_one_wins(folder: Path, open_store: OpenStore) -> None:
    stores = [open_store(), open_store()]
    both = threading.Barrier(2)
    results: list[str] = []

    def define(number: int) -> None:
        action = read_action(write_source("add", f"By {number}."))
        both.wait()
        try:
            tests = Tests(1)
            stores[number % 2].put(
                action, author=str(number), tests=tests, schemas=None, status=Status.DRAFT, expected_version=0
            )
            results.append(str(number))
        except ActionExists:
            results.append("exists")

    threads = [threading.Thread(target=define, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winner = next(result for result in results if result != "exists")
    assert sorted(results) == sorted([winner, "exists"])
    assert stores[0].get("add").author == winner
    assert (folder / "add.py").read_text() == write_source("add", f"By {winner}.")


PUTTING = """
import sys
from pathlib import Path
from dynasaur_mcp.errors import ActionExists
from dynasaur_mcp.library.reading import read_action
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.types import Status, Tests
from tests.library.conftest import write_source

store = FileStore(Path(sys.argv[1]))
who = sys.argv[2]
store.refresh()
print("ready", flush=True)
sys.stdin.readline()
won = 0
for number in range(int(sys.argv[3])):
    action = read_action(write_source(f"a{number}", f"By {who}. " + "word " * 2000))
    try:
        store.put(action, author=who, tests=Tests(1), schemas=None, status=Status.ACTIVE, expected_version=0)
        won += 1
        print(number, flush=True)
    except ActionExists:
        pass
print("won", won, flush=True)
"""


def start_putting(folder: Path, who: str, count: int, ready: bool = True) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", PUTTING, str(folder), who, str(count)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=root, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None
    if ready:
        assert process.stdout.readline() == "ready\n"
    return process


def test_of_two_processes_putting_at_once_each_name_has_one_winner(folder: Path, open_store: OpenStore) -> None:
    processes = [start_putting(folder, who, 30) for who in ("ann", "bob")]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate()[0] for process in processes]
    wins = [int(output.rsplit(" ", 1)[1]) for output in outputs]
    assert sum(wins) == 30
    entries = open_store().entries()
    assert len(entries) == 30
    assert all(f"By {entry.author}." in entry.action.source and entry.version == 1 for entry in entries)


def test_many_servers_may_open_a_new_library_at_once(folder: Path) -> None:
    processes = [start_putting(folder, str(number), 0, ready=False) for number in range(5)]
    outputs = [process.communicate("go\n") for process in processes]
    assert [output for output, _ in outputs] == ["ready\nwon 0\n"] * 5


@pytest.mark.parametrize("acknowledged", [0, 1, 3, 7, 12])
def test_a_killed_server_leaves_each_definition_whole_or_absent(
    folder: Path, open_store: OpenStore, acknowledged: int
) -> None:
    process = start_putting(folder, "ann", 1000)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    seen = [int(process.stdout.readline()) for _ in range(acknowledged)]
    process.send_signal(signal.SIGKILL)
    seen += [int(line) for line in process.communicate()[0].splitlines() if line.isdigit()]
    store = open_store()
    entries = {entry.name: entry for entry in store.entries()}
    assert {f"a{number}" for number in seen} <= set(entries)
    assert len(entries) - len(seen) in (0, 1)
    assert store.broken() == []
    defined = [(record.name, record.principal) for record in store.records(deeds=[Deed.DEFINE], limit=2000)]
    assert sorted(defined) == [(name, "ann") for name in sorted(entries)]
    for entry in entries.values():
        assert (entry.author, entry.status, entry.tests, entry.version) == ("ann", Status.ACTIVE, Tests(1), 1)
        assert (folder / f"{entry.name}.py").read_text() == entry.action.source


def test_a_definition_cut_off_after_its_file_keeps_its_author_and_tests(
    store: FileStore, folder: Path, open_store: OpenStore
) -> None:
    put(store, write_source("add"))
    store.close()
    with contextlib.closing(sqlite3.connect(folder / ".ledger.sqlite3")) as ledger, ledger:
        # What the disk holds when the server dies between replacing the file and committing.
        columns = "name, sha256, author, status, tests, schemas"
        ledger.execute(f"INSERT INTO intents ({columns}) SELECT {columns} FROM versions")
        ledger.execute("DELETE FROM versions")
        ledger.execute("DELETE FROM actions")
        ledger.execute("DELETE FROM files")
    entry = open_store().get("add")
    assert (entry.author, entry.status, entry.tests, entry.schemas) == ("ann", Status.ACTIVE, Tests(1), SCHEMAS)


def test_kills_at_random_moments_neither_tear_nor_lose_a_version() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "kill.py"
    command = [sys.executable, str(script), "--times", "25", "--servers", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert "killed    25 times" in done.stdout
