from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dynasaur_mcp.errors import ActionError, ActionExists, ActionNotFound, LibraryError
from dynasaur_mcp.library.audit import Deed
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.reading import read_action
from dynasaur_mcp.library.uses import follow_uses, join_requirements
from dynasaur_mcp.types import Ending, Status, Tests
from tests.library.conftest import SCHEMAS, OpenStore, put, write_source


def test_what_was_put_is_there_for_every_reader(store: FileStore, folder: Path, open_store: OpenStore) -> None:
    other = open_store()
    assert other.entries() == []
    entry = put(store, write_source("add"))
    assert (entry.version, entry.status, entry.author, entry.schemas) == (1, Status.ACTIVE, "ann", SCHEMAS)
    assert (folder / "add.py").read_text() == write_source("add")
    assert other.get("add") == entry
    assert [each.name for each in other.entries()] == ["add"]


def test_an_unknown_name_brings_up_the_nearest(store: FileStore) -> None:
    put(store, write_source("describe_column"))
    with pytest.raises(ActionNotFound, match="Did you mean 'describe_column'"):
        store.get("describe_colum")


def test_only_the_expected_version_is_replaced(store: FileStore) -> None:
    put(store, write_source("add"))
    with pytest.raises(ActionExists, match="at version 1"):
        put(store, write_source("add", "Other."))
    second = put(store, write_source("add", "Second."), 1)
    assert second.version == 2
    with pytest.raises(ActionExists, match="it is at version 2, not 1"):
        put(store, write_source("add", "Third."), 1)
    with pytest.raises(ActionNotFound):
        put(store, write_source("sub"), 1)
    assert store.get("add").action.docstring.startswith("Second.")


def test_every_change_makes_the_revision_grow(store: FileStore) -> None:
    seen = [store.revision]

    def grown() -> bool:
        seen.append(store.revision)
        return seen[-1] > seen[-2]

    entry = put(store, write_source("add"))
    assert grown()
    store.set_pinned("add", True)
    assert grown()
    store.set_status("add", Status.DISABLED)
    assert grown()
    store.record_check("add", 1, tests=Tests(2), schemas=SCHEMAS, status=Status.ACTIVE)
    assert grown()
    store.delete("add")
    assert grown()
    store.record_call("add", entry.version, principal="ann", ending=Ending.RETURNED, seconds=0.1)
    assert not grown()


def test_status_is_given_to_the_version_that_was_meant(store: FileStore, folder: Path) -> None:
    put(store, write_source("add"), status=Status.DRAFT)
    put(store, write_source("add", "Second."), 1, status=Status.DRAFT)
    with pytest.raises(ActionExists, match="at version 2, not 1"):
        store.set_status("add", Status.ACTIVE, expected_version=1)
    assert store.set_status("add", Status.ACTIVE, expected_version=2).status is Status.ACTIVE
    (folder / "add.py").write_text(write_source("add", "Third."))
    with pytest.raises(ActionExists, match="at version 3, not 2"):
        store.set_status("add", Status.ACTIVE, expected_version=2)
    assert store.get("add").status is Status.DRAFT
    with pytest.raises(ActionNotFound):
        store.set_status("other", Status.ACTIVE, expected_version=1)


def test_calls_are_counted_over_versions(store: FileStore, open_store: OpenStore) -> None:
    put(store, write_source("add"))
    store.record_call("add", 1, principal="ann", ending=Ending.RETURNED, seconds=0.1)
    put(store, write_source("add", "Second."), 1)
    store.record_call("add", 2, principal="bob", ending=Ending.RAISED, seconds=0.2)
    assert (store.get("add").calls, store.get("add").successes) == (2, 1)
    assert (open_store().get("add").calls, open_store().get("add").successes) == (2, 1)


def test_history_outlives_the_action_and_brings_it_back(store: FileStore, folder: Path) -> None:
    put(store, write_source("add"))
    put(store, write_source("add", "Second."), 1, status=Status.DRAFT, tests=Tests())
    store.delete("add")
    assert not (folder / "add.py").exists()
    with pytest.raises(ActionNotFound):
        store.get("add")
    assert [entry.version for entry in store.history("add")] == [2, 1]
    entry = store.rollback("add", 1, author="bob")
    assert (entry.version, entry.author, entry.status, entry.tests) == (3, "bob", Status.ACTIVE, Tests(1))
    assert (folder / "add.py").read_text() == write_source("add")
    assert put(store, write_source("add", "Fourth."), 3).version == 4


def test_going_back_needs_a_version_that_is_there_and_not_current(store: FileStore) -> None:
    put(store, write_source("add"))
    with pytest.raises(ActionError, match="no version 7"):
        store.rollback("add", 7, author="bob")
    with pytest.raises(ActionError, match="is at version 1 already"):
        store.rollback("add", 1, author="bob")
    with pytest.raises(ActionNotFound):
        store.rollback("sub", 1, author="bob")


def test_a_disabled_action_stays_disabled_when_it_goes_back(store: FileStore) -> None:
    put(store, write_source("add"))
    put(store, write_source("add", "Second."), 1)
    store.set_status("add", Status.DISABLED)
    assert store.rollback("add", 1, author="bob").status is Status.DISABLED


def test_exposed_are_pinned_then_newest_then_most_called(store: FileStore) -> None:
    for number in range(9):
        put(store, write_source(f"a{number}"))
    put(store, write_source("draft"), status=Status.DRAFT)
    store.set_pinned("a3", True)
    store.set_pinned("a0", True)
    for name in ("a1", "a2", "a2"):
        store.record_call(name, 1, principal="ann", ending=Ending.RETURNED, seconds=0.1)
    names = [entry.name for entry in store.exposed(100)]
    assert names == ["a0", "a3", "a8", "a7", "a6", "a5", "a4", "a2", "a1"]
    assert [entry.name for entry in store.exposed(1)] == names[:3], "all pinned ones, and one more"


def test_sources_and_requirements_follow_what_is_used(store: FileStore) -> None:
    block = "# /// script\n# dependencies = ['{}']\n# ///\n"
    put(store, block.format("pandas") + write_source("low"))
    put(store, block.format("numpy") + write_source("mid", uses="low, gone"))
    put(store, write_source("top", uses="mid"))
    put(store, write_source("off"))
    store.set_status("off", Status.DISABLED)
    assert set(follow_uses(store.get, ["top", "off", "unknown"]).sources) == {"top", "mid", "low"}
    assert join_requirements(follow_uses(store.get, ["top", "low"]).needs) == ("numpy", "pandas")


def test_need_of_hosts_is_kept_by_version_and_keeps_from_being_called(store: FileStore) -> None:
    block = "# /// script\n# [tool.dynasaur]\n# network = ['api.example.org']\n# ///\n"
    put(store, block + write_source("low"))
    put(store, write_source("top", uses="low"))
    assert store.history("low")[0].action.network == ("api.example.org",)
    assert follow_uses(store.get, ["top"]).denied == {}
    assert follow_uses(store.get, ["top"], ["*.example.org"]).denied == {}
    denied = follow_uses(store.get, ["top"], [])
    assert denied.denied == {"low": ("api.example.org",)}
    assert set(denied.sources) == {"top"}
    assert "'low' needs api.example.org: not allowed by this server." in denied.missing["low"]


def test_actions_that_use_each_other_are_followed_once(store: FileStore) -> None:
    put(store, write_source("ping", uses="pong"))
    put(store, write_source("pong", uses="ping"))
    assert set(follow_uses(store.get, ["ping"]).sources) == {"ping", "pong"}


def test_a_file_written_by_hand_becomes_a_version(store: FileStore, folder: Path, open_store: OpenStore) -> None:
    other = open_store()
    assert other.refresh() is None
    (folder / "add.py").write_text(write_source("add"))
    change = store.refresh()
    assert change is not None
    assert change.names == ("add",)
    entry = store.get("add")
    assert (entry.version, entry.author, entry.status, entry.schemas) == (1, "file", Status.DRAFT, None)
    assert store.unchecked() == ["add"]
    assert store.refresh() is None
    seen = other.refresh()
    assert seen is not None
    assert seen.names == ("add",)


def test_what_one_server_changes_is_news_to_the_other_only(store: FileStore, open_store: OpenStore) -> None:
    other = open_store()
    assert (store.refresh(), other.refresh()) == (None, None)
    put(store, write_source("add"))
    assert store.refresh() is None
    change = other.refresh()
    assert change is not None
    assert (change.names, change.revision) == (("add",), store.revision)


def test_an_edited_file_becomes_the_next_version(store: FileStore, folder: Path) -> None:
    put(store, write_source("add"))
    (folder / "add.py").write_text(write_source("add", body="1 + x"))
    store.refresh()
    assert (store.get("add").version, store.get("add").author) == (2, "file")


def test_an_edit_of_the_same_size_at_once_is_seen(store: FileStore, folder: Path) -> None:
    put(store, write_source("add"))
    before = (folder / "add.py").stat()
    (folder / "add.py").write_text(write_source("add", body="x + 2"))
    os.utime(folder / "add.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    store.refresh()
    assert store.get("add").version == 2


def test_a_text_that_was_tested_before_need_not_be_tested_again(store: FileStore, folder: Path) -> None:
    put(store, write_source("add"))
    put(store, write_source("add", "Second."), 1, tests=Tests(0, ("it failed",)), status=Status.DRAFT)
    (folder / "add.py").write_text(write_source("add"))
    store.refresh()
    entry = store.get("add")
    assert (entry.version, entry.tests, entry.schemas, entry.status) == (3, Tests(1), SCHEMAS, Status.ACTIVE)


def test_a_touched_file_is_no_new_version(store: FileStore, folder: Path) -> None:
    put(store, write_source("add"))
    os.utime(folder / "add.py", ns=(1, 1))
    assert store.refresh() is None
    assert store.get("add").version == 1


def test_a_removed_file_is_a_deleted_action_and_comes_back_as_it_was(store: FileStore, folder: Path) -> None:
    put(store, write_source("add"))
    store.set_pinned("add", True)
    (folder / "add.py").rename(folder / "add.bak")
    change = store.refresh()
    assert change is not None
    assert change.names == ("add",)
    assert store.entries() == []
    assert len(store.history("add")) == 1
    (folder / "add.bak").rename(folder / "add.py")
    store.refresh()
    assert (store.get("add").version, store.get("add").pinned) == (1, True)


def test_a_hand_written_file_is_never_overwritten_unseen(store: FileStore, folder: Path) -> None:
    store.refresh()
    (folder / "add.py").write_text(write_source("add", "By hand."))
    with pytest.raises(ActionExists):
        put(store, write_source("add"))
    (folder / "sub.py").write_text("def sub(: half-written")
    with pytest.raises(ActionExists, match="mend or remove that file"):
        put(store, write_source("sub"))
    assert (folder / "sub.py").read_text() == "def sub(: half-written"


def test_broken_files_are_named_and_the_rest_is_served(store: FileStore, folder: Path) -> None:
    put(store, write_source("add"))
    files = {
        "no_python.py": b"def f(:",
        "other_name.py": write_source("add").encode(),
        "not_utf8.py": b"x = '\xff'",
        "Bad-Name.py": write_source("add").encode(),
        "huge.py": b"#" * 5_000_000,
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    for name in ("conftest.py", "test_add.py", "_helper.py", ".hidden.py", "notes.txt"):
        (folder / name).write_text("(")
    (folder / "folder.py").mkdir()
    (folder / "dangling.py").symlink_to(folder / "nowhere")
    store.refresh()
    assert {broken.file for broken in store.broken()} == set(files)
    assert all(broken.problems for broken in store.broken())
    assert [entry.name for entry in store.entries()] == ["add"]


def test_an_action_whose_file_breaks_is_gone_until_it_is_mended(store: FileStore, folder: Path) -> None:
    put(store, write_source("add"))
    (folder / "add.py").write_text("def add(:")
    assert store.refresh() is not None
    assert store.entries() == []
    (folder / "add.py").write_text(write_source("add"))
    assert store.refresh() is not None
    assert (store.get("add").version, store.broken()) == (1, [])


def test_a_damaged_ledger_is_set_aside_and_made_anew(store: FileStore, folder: Path, open_store: OpenStore) -> None:
    put(store, write_source("add"))
    store.close()
    for path in folder.glob(".ledger*"):
        path.write_bytes(b"no database at all " * 1000)
    entry = open_store().get("add")
    assert (entry.version, entry.author) == (1, "file")
    assert [path.name for path in folder.glob("*damaged-1")] == [".ledger.sqlite3.damaged-1"]


def test_a_ledger_damaged_in_the_middle_is_made_anew_on_the_second_try(store: FileStore, folder: Path) -> None:
    for number in range(20):
        put(store, write_source(f"a{number}", "word " * 500))
    store.close()
    path = folder / ".ledger.sqlite3"
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xff" * len(content[8192:])
    path.write_bytes(content)
    again = FileStore(folder)
    with contextlib.closing(again):
        with contextlib.suppress(LibraryError):
            again.entries()
        assert len(again.entries()) == 20


def test_a_ledger_of_a_newer_release_is_left_alone(store: FileStore, folder: Path, open_store: OpenStore) -> None:
    put(store, write_source("add"))
    store.close()
    with contextlib.closing(sqlite3.connect(folder / ".ledger.sqlite3")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(LibraryError, match="newer dynasaur-mcp"):
        open_store().entries()


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LibraryError, match="cannot be used"):
        FileStore(tmp_path / "file")


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


READING = """
import sys
from pathlib import Path
from dynasaur_mcp.errors import LibraryError
from dynasaur_mcp.library.reading import read_action
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.types import Ending, Status, Tests
from tests.library.conftest import write_source

folder = Path(sys.argv[1])
store = FileStore(folder)
print([(entry.name, entry.author, entry.pinned) for entry in store.entries()])
print([broken.file for broken in store.broken()])
store.record_call("add", 1, principal="ann", ending=Ending.RETURNED, seconds=0.1)
print(store.get("add").calls)
checked = store.record_check("hand", 1, tests=Tests(1), schemas=None, status=Status.ACTIVE)
print(checked.status)
action = read_action(write_source("new"))
for change in (
    lambda: store.put(action, author="a", tests=Tests(), schemas=None, status=Status.DRAFT, expected_version=0),
    lambda: store.delete("add"),
    lambda: store.set_pinned("add", False),
    lambda: store.set_status("add", Status.DISABLED),
):
    try:
        change()
    except LibraryError as error:
        print(error)
"""


@pytest.mark.parametrize("with_ledger", [True, False])
def test_a_folder_that_cannot_be_written_is_served_as_it_is(folder: Path, with_ledger: bool) -> None:
    with contextlib.closing(FileStore(folder)) as store:
        if with_ledger:
            put(store, write_source("add"))
            store.set_pinned("add", True)
    (folder / "add.py").write_text(write_source("add"))
    (folder / "hand.py").write_text(write_source("hand"))
    (folder / "broken.py").write_text("def broken(:")
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    # Root may write anywhere as long as it has that capability.
    unprivileged = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []
    command = [*unprivileged, sys.executable, "-c", READING, str(folder)]
    try:
        root = Path(__file__).parents[2]
        process = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    finally:
        folder.chmod(0o755)
    assert process.stderr == ""
    first, *rest = process.stdout.splitlines()
    known = ("add", "ann", True) if with_ledger else ("add", "file", False)
    assert first == str([known, ("hand", "file", False)])
    assert rest[:3] == ["['broken.py']", "1", "active"]
    assert len(rest) == 7
    assert all(line.startswith("The library folder cannot be written") for line in rest[3:])


def test_plain_python_finds_the_actions_of_the_folder(folder: Path, store: FileStore) -> None:
    put(store, write_source("low"))
    put(store, write_source("top", uses="low", body="low(x)"))
    (folder / "down.py").write_text(write_source("down").replace("\n", "\nfrom actions.low import low\n", 0))
    folder.rename(folder.with_name("actions"))
    code = (
        "from actions.top import top; assert top(1) == 2, top; from actions import low; assert low(1) == 2, low\n"
        "import actions; assert actions.top is top; import actions.down; assert actions.down(1) == 2\n"
        "assert dir(actions) == ['down', 'low', 'top'], dir(actions)\n"
        "assert not hasattr(actions, 'nothing')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(folder.parent)}
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=folder.parent, env=environment, check=True)


@pytest.mark.parametrize("mode", ["prepend", "importlib"])
def test_plain_pytest_runs_the_doctests_of_the_folder(folder: Path, store: FileStore, mode: str) -> None:
    put(store, write_source("low"))
    put(store, write_source("top", uses="low", body="low(x)"))
    actions = folder.with_name("actions")
    folder.rename(actions)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--doctest-modules",
        f"--import-mode={mode}",
        "-p",
        "no:cacheprovider",
    ]
    environment = {**os.environ, "PYTHONPATH": str(actions.parent)}
    process = subprocess.run(
        [*command, "actions"], cwd=actions.parent, env=environment, capture_output=True, text=True, check=False
    )
    assert "2 passed" in process.stdout, process.stdout


def test_the_folders_own_init_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("# mine\n")
    FileStore(tmp_path).close()
    assert (tmp_path / "__init__.py").read_text() == "# mine\n"


def test_opening_an_unchanged_library_parses_nothing(folder: Path, store: FileStore) -> None:
    for number in range(20):
        put(store, write_source(f"a{number}"))
    for path in folder.glob("a*.py"):
        os.utime(path, ns=(1, 1))
    store.refresh()
    code = (
        "import sys; from pathlib import Path; from dynasaur_mcp.library.filestore import FileStore\n"
        f"store = FileStore(Path({str(folder)!r})); assert len(store.entries()) == 20; store.close()\n"
        "assert not {'griffe', 'numpy', 'packaging', 'dynasaur_mcp.library.reading'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)


def test_kills_at_random_moments_neither_tear_nor_lose_a_version() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "kill.py"
    command = [sys.executable, str(script), "--times", "25", "--servers", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert "killed    25 times" in done.stdout


def test_marks_are_of_what_can_be_a_tool_and_tell_each_change(store: FileStore) -> None:
    for name in ("add", "bad", "draft", "unchecked", "zoo"):
        put(store, write_source(name))
    store.set_status("draft", Status.DRAFT)
    store.record_check("unchecked", 1, tests=Tests(1), schemas=None, status=Status.ACTIVE)
    before = store.marks("", 10)
    assert [name for _, name in before] == ["add", "bad", "zoo"]
    assert before == [(store.get(name).revision, name) for _, name in before]
    assert store.marks("add", 1) == before[1:2]
    store.record_call("add", 1, principal="ann", ending=Ending.RETURNED, seconds=0.1)
    assert store.marks("", 10) == before
    store.set_pinned("bad", True)
    assert store.marks("", 10) == [before[0], (store.revision, "bad"), before[2]]


def test_entries_of_some_names_are_those_that_are_there(store: FileStore) -> None:
    for name in ("add", "sub", "zoo"):
        put(store, write_source(name))
    found = {entry.name: entry for entry in store.entries_of(["zoo", "add", "nothing"])}
    assert found == {name: store.get(name) for name in ("add", "zoo")}
    assert store.entries_of([]) == []
