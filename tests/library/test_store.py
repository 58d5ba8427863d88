"""What the store promises, and keeps in a folder with a ledger beside it."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from dynasaur_mcp.errors import ActionError, ActionExists, ActionNotFound, LibraryError
from dynasaur_mcp.library.filestore import FileStore
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


def test_what_one_server_changes_is_news_to_the_other_only(store: FileStore, open_store: OpenStore) -> None:
    other = open_store()
    assert (store.refresh(), other.refresh()) == (None, None)
    put(store, write_source("add"))
    assert store.refresh() is None
    change = other.refresh()
    assert change is not None
    assert (change.names, change.revision) == (("add",), store.revision)


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
