"""A library's folder that is away for a while, or made anew, while it is served: used again once it is there."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dynasaur_mcp.errors import ActionDeleted, LibraryError
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.index import Index
from tests.library.conftest import OpenStore, call, names, put, write_source


@pytest.fixture
def used(store: FileStore) -> FileStore:
    put(store, write_source("add"))
    put(store, write_source("add", "Second."), 1)
    call(store, version=2)
    return store


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


def move(folder: Path) -> None:
    folder.rename(folder.with_name("away"))


def test_a_folder_that_comes_back_is_used_again(used: FileStore, folder: Path) -> None:
    move(folder)
    for do in (used.refresh, used.entries, lambda: used.get("add"), lambda: put(used, write_source("new"))):
        with pytest.raises(LibraryError, match="not there now"):
            do()
    call(used, version=2)
    folder.with_name("away").rename(folder)
    assert used.refresh() is None
    assert (used.get("add").version, used.get("add").calls, len(used.history("add"))) == (2, 1, 2)
    assert put(used, write_source("new")).version == 1


@pytest.mark.parametrize("away", [remove, move])
@pytest.mark.parametrize("is_noticed", [True, False])
def test_a_folder_made_anew_has_the_history_of_the_one_before(
    used: FileStore, folder: Path, open_store: OpenStore, away: Callable[[Path], None], is_noticed: bool
) -> None:
    away(folder)
    if is_noticed:
        with pytest.raises(LibraryError):
            used.refresh()
    folder.mkdir()
    used.refresh()
    with pytest.raises(ActionDeleted):
        used.get("add")
    assert used.rollback("add", 1, author="ann").version == 3
    assert put(used, write_source("new")).version == 1
    assert (folder / "__init__.py").exists()
    other = open_store()
    assert [entry.version for entry in other.history("add")] == [3, 2, 1]
    assert [entry.name for entry in other.entries()] == ["add", "new"]


def test_history_that_cannot_be_written_now_is_kept_until_it_can(
    used: FileStore, folder: Path, open_store: OpenStore
) -> None:
    remove(folder)
    # Stands in for a full disk: no file can be written where a folder is.
    obstacle = folder / ".ledger.sqlite3.restored"
    obstacle.mkdir(parents=True)
    assert len(used.history("add")) == 2
    obstacle.rmdir()
    assert len(used.history("add")) == 2
    assert len(open_store().history("add")) == 2


def test_what_is_mounted_again_is_found_again(used: FileStore, folder: Path) -> None:
    with contextlib.closing(Index(used, None, None)) as index:
        index.update()
        move(folder)
        folder.mkdir()
        used.refresh()
        assert names(index.find("add", 5)) == []
        remove(folder)
        folder.with_name("away").rename(folder)
        news = used.refresh()
        assert news is not None
        assert news.names == ("add",)
        assert names(index.find("add", 5)) == ["add"]
        assert (used.get("add").version, used.refresh()) == (2, None)


def test_a_copy_with_another_history_takes_the_place_of_the_folder(used: FileStore, folder: Path) -> None:
    used.close()
    shutil.copytree(folder, folder.with_name("copy"))
    with (
        contextlib.closing(FileStore(folder.with_name("copy"))) as copy,
        contextlib.closing(Index(used, None, None)) as index,
    ):
        put(used, write_source("left"))
        put(copy, write_source("right"))
        index.update()
        assert used.revision == copy.revision
        copy.close()
        remove(folder)
        folder.with_name("copy").rename(folder)
        news = used.refresh()
        assert news is not None
        assert news.names == ("add", "right")
        assert names(index.find("left right", 5)) == ["right"]


def test_two_servers_agree_on_what_took_the_place_of_the_folder(
    used: FileStore, folder: Path, open_store: OpenStore
) -> None:
    other = open_store()
    other.refresh()
    shutil.copytree(folder, folder.with_name("copy"))
    remove(folder)
    folder.with_name("copy").rename(folder)
    late = open_store()
    late.refresh()
    used.refresh()
    other.refresh()
    assert used.identity == other.identity == late.identity
    assert put(other, write_source("new")) == used.get("new")


def test_a_watch_of_a_folder_ends_once_another_has_taken_its_place(used: FileStore, folder: Path) -> None:
    stop, began = threading.Event(), threading.Event()

    def watch() -> None:
        for _ in used.watch(stop):
            began.set()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        assert began.wait(120)
        move(folder)
        folder.mkdir()
        thread.join(120)
        assert not thread.is_alive()
    finally:
        stop.set()
        thread.join()
