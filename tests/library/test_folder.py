"""The library's folder as people have it: files written, changed and removed by hand, used by plain Python."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dynasaur_mcp.errors import ActionError, ActionExists, LibraryError
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.types import Status, Tests
from tests.library.conftest import SCHEMAS, OpenStore, put, write_source


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


def test_the_next_version_may_be_read_by_whom_the_one_before_might(store: FileStore, folder: Path) -> None:
    put(store, write_source("add"))
    (folder / "add.py").chmod(0o640)
    put(store, write_source("add", "Second."), 1)
    assert (folder / "add.py").stat().st_mode & 0o777 == 0o640


def test_an_edit_is_seen_that_neither_size_nor_a_time_in_whole_seconds_shows(store: FileStore, folder: Path) -> None:
    path = folder / "add.py"
    for _ in range(50):
        second = int(time.time())
        path.write_text(write_source("add", "Before."))
        os.utime(path, (second, second))
        store.refresh()
        if time.time() - second < 1.5:
            break
    path.write_text(write_source("add", "Behind."))
    os.utime(path, (second, second))
    store.refresh()
    assert "Behind." in store.get("add").action.docstring


ODD_FILES: dict[str, Callable[[Path], None]] = {
    "a link to itself": lambda path: path.symlink_to(path),
    "a link that cannot be followed": lambda path: path.symlink_to("x" * 1000),
    "a name that is no UTF-8": lambda path: path.with_name("caf\udce9.py").write_text(write_source("cafe")) and None,
    "of the year 2400": lambda path: path.write_text("") or os.utime(path, (13.6e9, 13.6e9)),
}


@pytest.mark.parametrize("make", ODD_FILES.values(), ids=ODD_FILES)
def test_one_odd_file_costs_the_others_nothing(store: FileStore, folder: Path, make: Callable[[Path], None]) -> None:
    put(store, write_source("add"))
    make(folder / "odd.py")
    (folder / "hand.py").write_text(write_source("hand"))
    store.refresh()
    assert [entry.name for entry in store.entries()] == ["add", "hand"]
    assert put(store, write_source("add", "Second."), 1).version == 2
    with pytest.raises(ActionError):
        store.get("odd")


def test_an_action_whose_file_breaks_is_gone_until_it_is_mended(store: FileStore, folder: Path) -> None:
    put(store, write_source("add"))
    (folder / "add.py").write_text("def add(:")
    assert store.refresh() is not None
    assert store.entries() == []
    (folder / "add.py").write_text(write_source("add"))
    assert store.refresh() is not None
    assert (store.get("add").version, store.broken()) == (1, [])


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LibraryError, match="cannot be used"):
        FileStore(tmp_path / "file")


READING = """
import sys
from collections.abc import Callable
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


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a disk of its own")
def test_a_full_disk_is_said_and_costs_nothing_that_is_kept(folder: Path) -> None:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=True)
    try:
        with contextlib.closing(FileStore(folder)) as store:
            put(store, write_source("add"))
            with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as filler:
                while True:
                    filler.write(bytes(4096))
            for name in ("early", "late"):
                with pytest.raises(LibraryError, match=r"No space left on device|disk is full"):
                    put(store, write_source(name, "Add one. " * 1000))
            with pytest.raises(LibraryError, match="disk is full"):
                store.set_pinned("add", True)
            (folder / "filler").unlink()
            assert [entry.name for entry in store.entries()] == ["add"]
            put(store, write_source("late", "Add one. " * 1000))
        with contextlib.closing(FileStore(folder)) as store:
            assert [entry.name for entry in store.entries()] == ["add", "late"]
    finally:
        subprocess.run(["umount", str(folder)], check=True)
