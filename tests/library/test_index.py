"""The index as a file and beside its store: kept, made anew, damaged, closed."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from dynasaur_mcp.errors import LibraryError
from dynasaur_mcp.library.embedding import Embedder
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.index import Index
from tests.library.conftest import TEXTS, OpenIndex, OpenStore, names, put, search, write_source


def test_an_index_file_is_used_again_and_made_anew_when_damaged(
    open_index: OpenIndex, filled: FileStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "index.sqlite3"
    index = open_index(path)
    assert names(search("excel", index, filled)) == ["read_table"]
    index.close()
    assert names(search("excel", open_index(path), filled)) == ["read_table"]
    for file in tmp_path.glob("index.sqlite3*"):
        file.write_bytes(b"damaged " * 1000)
    again = open_index(path)
    assert names(search("excel", again, filled)) == ["read_table"]


def test_a_search_takes_in_a_few_changes_and_the_rest_follows_behind_it(
    open_index: OpenIndex, filled: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynasaur_mcp.library.catalogue._SYNC_BATCH", 2)
    index = open_index()
    search("excel", index, filled)
    index.settle(60)
    assert index.size == len(TEXTS)


def make_newer(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        make_folder,
        make_newer,
        lambda path: path.write_bytes(b""),
        lambda path: os.truncate(path, 9000),
        lambda path: path.write_bytes(os.urandom(20_000)),
    ],
    ids=["deleted", "folder", "newer", "empty", "cut", "garbage"],
)
@pytest.mark.parametrize("in_use", [False, True])
def test_no_damage_to_the_index_keeps_from_finding(
    damage: Callable[[Path], None], in_use: bool, open_index: OpenIndex, filled: FileStore, tmp_path: Path
) -> None:
    path = tmp_path / "index.sqlite3"
    index = open_index(path)
    assert names(search("excel", index, filled)) == ["read_table"]
    if not in_use:
        index.close()
    damage(path)
    if not in_use:
        index = open_index(path)
    put(filled, write_source("get_weather", "Look up the weather forecast of a town."))
    assert names(search("excel", index, filled)) == ["read_table"]
    assert names(search("weather", index, filled)) == ["get_weather"]


def test_an_index_of_another_ledger_is_made_anew(
    open_index: OpenIndex, filled: FileStore, tmp_path: Path, open_store: OpenStore, folder: Path
) -> None:
    path = tmp_path / "index.sqlite3"
    index = open_index(path)
    assert names(search("send a letter", index, filled)) == ["send_mail"]
    index.close()
    filled.close()
    for file in folder.glob(".ledger*"):
        file.unlink()
    (folder / "send_mail.py").unlink()
    store = open_store()
    with contextlib.closing(Index(store, path, None)) as index:
        assert names(search("send a letter", index, store)) == []
        assert names(search("excel", index, store)) == ["read_table"]


def test_an_index_that_cannot_be_written_is_kept_in_memory(open_index: OpenIndex, filled: FileStore) -> None:
    index = open_index(Path("/proc/nowhere/index.sqlite3"))
    assert names(search("excel", index, filled)) == ["read_table"]


def test_a_closed_index_touches_its_file_no_more(open_store: OpenStore, embedder: Embedder, tmp_path: Path) -> None:
    store, path = open_store(), tmp_path / "index.sqlite3"
    index = Index(store, path, embedder)
    for number in range(100):
        put(store, write_source(f"add{number}"))
    index.update()
    index.close()
    path.unlink()
    index.settle(60)
    assert not path.exists()
    with pytest.raises(LibraryError, match="closed"):
        index.find("add", 1)
