"""What becomes of a library whose ledger is damaged, deleted or exchanged: rebuilt or refused in one sentence."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dynasaur_mcp.errors import LibraryError
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.types import Ending, Status
from tests.library.conftest import OpenStore, put, write_source

Damage = Callable[[Path], None]


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def blot(path: Path) -> None:
    """Overwrite some pages in the middle."""
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(os.urandom(4 * 4096))


DAMAGES: dict[str, Damage] = {
    "deleted": Path.unlink,
    "empty": lambda path: path.write_bytes(b"") and None,
    "cut": cut,
    "blotted": blot,
    "garbage": lambda path: path.write_bytes(os.urandom(50_000)) and None,
    "text": lambda path: path.write_bytes(b"no database at all " * 1000) and None,
}


def fill(store: FileStore) -> None:
    for number in range(30):
        put(store, write_source(f"a{number}", "word " * 200))
    put(store, write_source("a7", "another word"), 1)
    store.set_pinned("a7", True)
    store.record_call("a7", 2, principal="ann", ending=Ending.RETURNED, seconds=0.1)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("in_use", [False, True])
def test_no_damage_to_the_ledger_costs_an_action(
    damage: str, in_use: bool, store: FileStore, folder: Path, open_store: OpenStore
) -> None:
    fill(store)
    if not in_use:
        store.close()
    else:
        # What is written is in the file, not in its log, and so what is damaged is what counts.
        with contextlib.closing(sqlite3.connect(folder / ".ledger.sqlite3")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = {path.name: path.read_text() for path in folder.glob("a*.py")}
    DAMAGES[damage](folder / ".ledger.sqlite3")
    again = store if in_use else open_store()
    failures = []
    for _ in range(3):
        try:
            again.refresh()
            entries = again.entries()
            again.set_status("a3", Status.DISABLED)
            if not (folder / "new.py").exists():
                put(again, write_source("new"))
            new = again.get("new")
        except LibraryError as error:
            failures.append(str(error))
        else:
            break
    assert set(failures) <= {"The library's ledger was damaged and is made anew. Try again."}
    assert len(failures) <= 1
    assert [entry.name for entry in entries][:30] == sorted(f"a{number}" for number in range(30))
    assert new.version == 1
    assert {path.name: path.read_text() for path in folder.glob("a*.py")} == before
    with contextlib.closing(FileStore(folder)) as other:
        assert [entry.status for entry in other.entries() if entry.name == "a3"] == [Status.DISABLED]


def test_what_can_be_read_of_a_damaged_ledger_is_taken_over(
    store: FileStore, folder: Path, open_store: OpenStore
) -> None:
    fill(store)
    store.close()
    blot(folder / ".ledger.sqlite3")
    again = open_store()
    with contextlib.suppress(LibraryError):
        again.entries()
    authors = [entry.author for entry in again.entries()]
    assert authors.count("ann") > 5
    assert len(again.records(principal="ann", limit=100)) > 5
    assert (folder / ".ledger.sqlite3.damaged-1").exists()


def test_a_ledger_deleted_in_use_is_written_again_whole(store: FileStore, folder: Path, open_store: OpenStore) -> None:
    fill(store)
    other = open_store()
    before = other.entries(), other.history("a7")
    for path in folder.glob(".ledger*"):
        path.unlink()
    put(store, write_source("b"))
    assert (other.entries()[:30], other.history("a7")) == before
    assert len(other.records(limit=100)) == 34
    assert other.get("b").author == "ann"
    with contextlib.closing(FileStore(folder)) as third:
        assert (third.entries()[:30], third.history("a7")) == before


def test_a_ledger_exchanged_in_use_is_the_one_from_then_on(
    store: FileStore, folder: Path, tmp_path: Path, open_store: OpenStore
) -> None:
    put(store, write_source("a"))
    with contextlib.closing(sqlite3.connect(folder / ".ledger.sqlite3")) as connection:
        connection.execute("VACUUM INTO ?", (str(tmp_path / "backup"),))
    store.set_pinned("a", True)
    for path in folder.glob(".ledger*"):
        path.unlink()
    shutil.copyfile(tmp_path / "backup", folder / ".ledger.sqlite3")
    assert not store.get("a").pinned
    store.set_pinned("a", True)
    assert open_store().get("a").pinned


def test_a_folder_in_the_place_of_the_ledger_is_refused_and_left_alone(
    store: FileStore, folder: Path, open_store: OpenStore
) -> None:
    put(store, write_source("a"))
    store.close()
    (folder / ".ledger.sqlite3").unlink()
    (folder / ".ledger.sqlite3").mkdir()
    again = open_store()
    for do in (again.entries, lambda: again.get("a"), lambda: put(again, write_source("b"))):
        with pytest.raises(LibraryError, match=r"^The library's ledger '.ledger.sqlite3' is no file: move it away\."):
            do()
    (folder / ".ledger.sqlite3").rmdir()
    assert [entry.name for entry in again.entries()] == ["a"]


def test_a_ledger_that_is_a_link_to_nothing_is_not_made_anew(
    store: FileStore, folder: Path, open_store: OpenStore
) -> None:
    put(store, write_source("a"))
    put(store, write_source("a", "another word"), 1)
    store.close()
    ledger, target = folder / ".ledger.sqlite3", folder.parent / "elsewhere"
    ledger.rename(folder / "away")
    ledger.symlink_to(target)
    again = open_store()
    for do in (again.entries, lambda: again.get("a"), lambda: put(again, write_source("b"))):
        with pytest.raises(LibraryError, match="is a link to a file that is not there: bring that back"):
            do()
    assert not target.exists()
    (folder / "away").rename(target)
    assert [entry.version for entry in again.history("a")] == [2, 1]


READING = """
import sys
from pathlib import Path
from dynasaur_mcp.errors import LibraryError
from dynasaur_mcp.library.filestore import FileStore
try:
    FileStore(Path(sys.argv[1])).get("a")
except LibraryError as error:
    print(error)
"""


IN_TURNS = """
import contextlib
import sys
from pathlib import Path
from dynasaur_mcp.errors import LibraryError
from dynasaur_mcp.library.filestore import FileStore
from tests.library.conftest import put, write_source

def say(do):
    try:
        print(do())
    except LibraryError as error:
        print(error)

folder, changed, mode, in_use = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3], 8), sys.argv[4] == "True"
before = changed.stat().st_mode
with contextlib.closing(FileStore(folder)) as store:
    if in_use:
        store.entries()
    changed.chmod(mode)
    try:
        say(lambda: [entry.version for entry in store.history("a")])
        say(lambda: put(store, write_source("b")).version)
        say(lambda: store.refresh())
    finally:
        changed.chmod(before)
    say(lambda: put(store, write_source("c")).version)
    say(lambda: [entry.version for entry in store.history("a")])
with contextlib.closing(FileStore(folder)) as other:
    print([entry.name for entry in other.entries()], len(other.history("a")))
"""


def read_unprivileged(folder: Path, code: str = READING, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Root may read and write anything as long as it has that capability."""
    unprivileged = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []
    command = [*unprivileged, sys.executable, "-c", code, str(folder), *map(str, arguments)]
    return subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)


def test_a_foreign_ledger_in_a_folder_that_cannot_be_written_counts_for_nothing(store: FileStore, folder: Path) -> None:
    put(store, write_source("a"))
    store.close()
    ledger = folder / ".ledger.sqlite3"
    ledger.unlink()
    with contextlib.closing(sqlite3.connect(ledger)) as connection:
        connection.execute("CREATE TABLE actions (name TEXT)")
    before = ledger.read_bytes()
    folder.chmod(0o555)
    done = read_unprivileged(folder)
    folder.chmod(0o755)
    assert (done.stdout, ledger.read_bytes()) == ("", before)
    assert "the ledger cannot be read, so pins, counts and versions are unknown" in done.stderr


def test_a_ledger_that_may_not_be_read_is_refused_and_left_alone(store: FileStore, folder: Path) -> None:
    put(store, write_source("a"))
    store.close()
    ledger = folder / ".ledger.sqlite3"
    before = ledger.read_bytes()
    ledger.chmod(0)
    done = read_unprivileged(folder)
    assert "may not be read: mend its permissions" in done.stdout
    assert done.stderr == ""
    ledger.chmod(0o600)
    assert ledger.read_bytes() == before


@pytest.mark.parametrize("changed", [".", ".."])
def test_a_folder_out_of_reach_costs_a_server_that_uses_it_nothing(
    store: FileStore, folder: Path, changed: str
) -> None:
    put(store, write_source("a"))
    put(store, write_source("a", "another word"), 1)
    store.close()
    done = read_unprivileged(folder, IN_TURNS, (folder / changed).resolve(), "000", True)
    read, put_b, looked, *after = done.stdout.splitlines()
    assert read == looked == "The library's ledger cannot be reached: Permission denied."
    assert put_b.startswith("The library folder cannot be written")
    assert after == ["1", "[2, 1]", "['a', 'c'] 2"]


@pytest.mark.parametrize(("file", "mode"), [(".", "555"), (".ledger.sqlite3", "444")])
def test_what_could_not_be_written_is_written_once_it_can(store: FileStore, folder: Path, file: str, mode: str) -> None:
    put(store, write_source("a"))
    put(store, write_source("a", "another word"), 1)
    store.close()
    done = read_unprivileged(folder, IN_TURNS, folder / file, mode, False)
    read, put_b, looked, *after = done.stdout.splitlines()
    assert (read, looked) == ("[2, 1]", "None")
    assert put_b.startswith("The library folder cannot be written, or its ledger")
    assert after == ["1", "[2, 1]", "['a', 'c'] 2"]
