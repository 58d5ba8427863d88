"""What a search by words finds, in which order, and why; also while the library changes."""

from __future__ import annotations

import contextlib
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.types import Ending, Status
from tests.library.conftest import OpenIndex, OpenStore, names, put, search, write_source


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


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("含税价格", ("含税", "税价", "价格")),
        ("怎么计算价格？", ("计算", "价格")),
        ("税", ("税",)),
        ("消費税を計算", ("消費", "費税", "税を", "を計", "計算")),
        ("세금", ("세금",)),
        ("preis mit PNG表格", ("png", "表格")),
        ("GRÖSSE der Straße", ("grösse", "strasse")),
        (unicodedata.normalize("NFD", "Größe 세금 計算"), ("grösse", "세금", "計算")),
        ("İZMİR", ("i̇zmi̇r",)),
        ("izmir", ("izmir",)),
        ("احسب الضريبة", ("احسب", "الضريبة")),
        ("налог", ("налог",)),
    ],
)
def test_words_are_found_in_any_script(
    query: str, why: tuple[str, ...], open_index: OpenIndex, filled: FileStore
) -> None:
    text = "计算含税价格。PNG表格 消費税を計算する。 세금을 계산한다. Straße, Größe. احسب الضريبة. налог. İzmir"
    put(filled, write_source("work_out", text))
    found = search(query, open_index(), filled)
    assert names(found) == ["work_out"]
    assert set(found.matches[0].why) == set(why)


@pytest.mark.parametrize("query", ["", "   ", "zzyzx", "?!", "💥", "what would they", "国王"])
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


def test_what_is_replaced_meanwhile_is_found_by_every_search(
    open_index: OpenIndex, filled: FileStore, open_store: OpenStore, tmp_path: Path
) -> None:
    path = tmp_path / "index.sqlite3"
    index, store = open_index(path), open_store()

    def replace() -> None:
        with contextlib.closing(Index(store, path, None)) as other:
            for version in range(1, 80):
                put(store, write_source("read_table", f"Read a table, way {version}."), version)
                other.update()

    replacing = threading.Thread(target=replace)
    replacing.start()
    found = [names(index.find("read table", 5)) for _ in iter(replacing.is_alive, False)]
    replacing.join()
    assert set(map(tuple, found)) == {("read_table",)}


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
