"""Search by meaning, with a real model and without one."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dynasaur_mcp.library.embedding import Embedder
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.types import Status
from tests.library.conftest import OpenIndex, names, put, search, write_source


def test_without_a_model_words_are_all_and_the_log_says_so(
    open_index: OpenIndex,
    filled: FileStore,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    require: Callable[[str], None],
) -> None:
    require("model")
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


def test_what_was_replaced_or_removed_takes_no_place_of_what_is_there(
    open_index: OpenIndex, filled: FileStore, embedder: Embedder
) -> None:
    index = open_index(None, embedder)
    for version in range(10):
        put(filled, write_source("translate_text", f"Say it in {version} foreign tongues."), version)
        put(filled, write_source(f"translate_{version}", "Say it in foreign tongues."))
        index.update()
        assert index.settle(60)
        filled.delete(f"translate_{version}", author="ann")
    found = search("other languages", index, filled)
    assert (names(found), found.total) == (["translate_text"], 1)
