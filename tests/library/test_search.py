from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynasaur_mcp.errors import LibraryError
from dynasaur_mcp.library.embedding import Embedder
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.search import search_actions
from dynasaur_mcp.types import Ending, Found, Status
from tests.library.conftest import OpenStore, put, write_source

OpenIndex = Callable[..., Index]

TEXTS = {
    "read_table": "Read a table from a CSV or Excel file.",
    "send_mail": "Send an electronic letter to somebody.",
    "find_dates": "Find all dates in a text, in any usual notation.",
    "resize_picture": "Make a picture smaller or larger.\n\n    Args:\n        x: width in pixels\n",
}


@pytest.fixture
def filled(store: FileStore) -> FileStore:
    for name, text in TEXTS.items():
        put(store, write_source(name, text))
    return store


@pytest.fixture
def open_index(filled: FileStore) -> Iterator[OpenIndex]:
    with contextlib.ExitStack() as stack:

        def open_index(path: Path | None = None, embedder: Embedder | None = None) -> Index:
            return stack.enter_context(contextlib.closing(Index(filled, path, embedder)))

        yield open_index


def names(found: Found) -> list[str]:
    return [match.entry.name for match in found.matches]


def search(query: str, index: Index, store: FileStore, limit: int = 5) -> Found:
    return search_actions(query, index=index, store=store, limit=limit)


@pytest.mark.parametrize(
    ("query", "first", "why"),
    [
        ("load an excel file", "read_table", ("excel", "file")),
        ("FINDING a date", "find_dates", ("finding", "date")),
        ("how many pixels?", "resize_picture", ("pixels",)),
        ("readTable", "read_table", ("read_table",)),
        ("send_mail", "send_mail", ("send_mail",)),
    ],
)
def test_words_find_actions_by_name_docstring_and_parameters(
    query: str, first: str, why: tuple[str, ...], open_index: OpenIndex, filled: FileStore
) -> None:
    found = search(query, open_index(), filled)
    assert names(found)[0] == first
    assert set(why) <= {*found.matches[0].why, "read_table"}
    assert found.used == "words"
    assert 0 < found.matches[0].score <= 1


@pytest.mark.parametrize("query", ["", "   ", "zzyzx", "?!", "💥", "what would they"])
def test_nothing_fits_is_an_answer(query: str, open_index: OpenIndex, filled: FileStore) -> None:
    found = search(query, open_index(), filled)
    assert (found.matches, found.total) == ((), 0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(
    query=st.text() | st.sampled_from(['"', 'table"', "table*", "AND", "table OR", "NEAR(a b)", "name:x", "^a", "-a"])
)
def test_no_query_is_syntax(query: str, open_index: OpenIndex, filled: FileStore) -> None:
    found = search(query, open_index(), filled, limit=2)
    assert len(found.matches) <= min(2, found.total)


def test_an_empty_library_finds_nothing(store: FileStore) -> None:
    with contextlib.closing(Index(store, None, None)) as index:
        assert search("anything", index, store).total == 0


def test_search_follows_the_store_without_being_told(open_index: OpenIndex, filled: FileStore) -> None:
    index = open_index()
    assert names(search("weather forecast", index, filled)) == []
    put(filled, write_source("get_weather", "Look up the weather forecast of a town."))
    assert names(search("weather forecast", index, filled)) == ["get_weather"]
    put(filled, write_source("get_weather", "Look up the temperature."), 1)
    assert names(search("forecast", index, filled)) == []
    filled.set_status("get_weather", Status.DISABLED)
    assert names(search("temperature", index, filled)) == []
    assert names(search("get_weather", index, filled)) == []
    filled.set_status("get_weather", Status.DRAFT)
    assert names(search("temperature", index, filled)) == ["get_weather"]
    filled.delete("get_weather")
    assert names(search("temperature", index, filled)) == []


def test_matches_carry_the_entry_as_it_is_now(open_index: OpenIndex, filled: FileStore) -> None:
    index = open_index()
    search("table", index, filled)
    filled.record_call("read_table", 1, principal="ann", ending=Ending.RETURNED, seconds=0.1)
    assert search("table", index, filled).matches[0].entry.calls == 1


def test_the_limit_cuts_what_is_shown_not_what_is_counted(open_index: OpenIndex, filled: FileStore) -> None:
    for number in range(10):
        put(filled, write_source(f"chart{number}", "Draw a chart."))
    found = search("draw chart", open_index(), filled, limit=3)
    assert (len(found.matches), found.total) == (3, 10)
    assert len(search("draw chart", open_index(), filled, limit=0).matches) == 1


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
    monkeypatch.setattr("dynasaur_mcp.library.follower._SYNC_BATCH", 2)
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


def test_threads_search_while_the_library_grows(open_index: OpenIndex, filled: FileStore) -> None:
    index = open_index()
    failures: list[BaseException] = []

    def look() -> None:
        try:
            for _ in range(50):
                assert "read_table" in names(search("read a table", index, filled))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(20):
        put(filled, write_source(f"more{number}", "Something else."))
    for thread in threads:
        thread.join()
    assert failures == []


def test_what_is_used_meanwhile_is_found_by_every_search(open_index: OpenIndex, filled: FileStore) -> None:
    index = open_index()
    found = [index.find("send an electronic letter", 5) for _ in renew_meanwhile(index, "send_mail", 300)]
    assert all(each.fits and names(each) == ["send_mail"] for each in found)


def renew_meanwhile(index: Index, name: str, times: int) -> Iterator[None]:
    """Something to do as long as a thread renews it over and over."""
    renewing = threading.Thread(target=lambda: [index.renew(name) for _ in range(times)])
    renewing.start()
    while renewing.is_alive():
        yield
    renewing.join()


@pytest.mark.parametrize(
    ("query", "first"),
    [("zebra of ledgers", "draw_both"), ("sort ledgers", "order_both")],
    ids=["what a rare word found", "what only common words find"],
)
def test_a_word_that_many_have_counts_in_a_large_library_too(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, query: str, first: str
) -> None:
    monkeypatch.setattr("dynasaur_mcp.library.documents.LEADING", 2)
    texts = {
        "draw_one": "Draw a zebra.",
        "draw_both": "Draw a zebra, with all the ledgers beside it.",
        **{f"order_{number}": "Sort letters." for number in ("first", "second")},
        **{f"burn_{number}": "Burn some ledgers." for number in ("first", "second")},
        "order_both": "Sort all the letters that are in ledgers.",
        **{f"send_{number}": "Send a letter." for number in ("first", "second", "third", "fourth")},
    }
    for name, text in texts.items():
        put(store, write_source(name, text))
    with contextlib.closing(Index(store, None, None)) as index:
        assert names(search(query, index, store))[0] == first


def test_without_a_model_words_are_all_and_the_log_says_so(
    open_index: OpenIndex, filled: FileStore, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    embedder = Embedder(str(tmp_path / "no-model"))
    index = open_index(None, embedder)
    assert search("excel", index, filled).used == "words"
    with caplog.at_level(logging.WARNING):
        embedder.start()
        assert not index.settle(60)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("search goes by words alone")
    assert said.endswith("there is no such folder")
    assert search("excel", index, filled).used == "words"


@pytest.mark.parametrize(
    ("model", "absent"),
    [
        ("/nowhere", {"torch", "sentence_transformers"}),
        ("all-MiniLM-L6-v2", {"pandas", "sklearn.metrics", "scipy.optimize", "scipy.sparse"}),
    ],
)
def test_search_imports_no_more_than_it_needs(model: str, absent: set[str], require: Callable[[str], None]) -> None:
    require("model")
    code = f"""
import sys
from dynasaur_mcp.library.embedding import Embedder
embedder = Embedder({model!r})
embedder.start()
assert embedder.wait(300) == (not {model!r}.startswith("/"))
assert not embedder.ready or len(embedder.embed(["a text"])[0]) == 384 * 4
print(*sorted({absent!r} & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "\n"


@pytest.fixture(scope="session")
def embedder(require: Callable[[str], None]) -> Embedder:
    require("model")
    embedder = Embedder("sentence-transformers/all-MiniLM-L6-v2")
    embedder.start()
    assert embedder.wait(300)
    return embedder


def test_meaning_finds_what_shares_no_word(open_index: OpenIndex, filled: FileStore, embedder: Embedder) -> None:
    query = "import a spreadsheet"
    assert "read_table" not in names(search(query, open_index(), filled))
    index = open_index(None, embedder)
    assert index.settle(60)
    found = search(query, index, filled)
    assert (found.used, names(found)[0], found.matches[0].why) == ("words and meaning", "read_table", ("meaning",))


def test_nothing_fits_is_an_answer_of_meaning_too(open_index: OpenIndex, filled: FileStore, embedder: Embedder) -> None:
    index = open_index(None, embedder)
    assert index.settle(60)
    found = search("zzyzx qwrtp", index, filled)
    assert (found.used, found.total) == ("words and meaning", 0)


def test_new_actions_are_found_by_meaning_after_an_update(
    open_index: OpenIndex, filled: FileStore, embedder: Embedder, tmp_path: Path
) -> None:
    path = tmp_path / "index.sqlite3"
    index = open_index(path, embedder)
    put(filled, write_source("translate_text", "Say it in French, German or Spanish."))
    index.update()
    assert index.settle(60)
    assert names(search("other languages", index, filled)) == ["translate_text"]
    filled.set_status("translate_text", Status.DISABLED)
    assert names(search("other languages", index, filled)) == []
    index.close()
    again = open_index(path, embedder)
    assert again.settle(60)
    assert names(search("import a spreadsheet", again, filled))[0] == "read_table"


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
