"""The search index's SQLite file: what is searched for words, and the vectors that go with it. All can be made again.

Several servers share the file, so it says itself how far it has followed which ledger: what one server took in, the
others need not. An action's next text is a new document, with a higher id; only the words that it was asked for by are
added to the one that it has.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from dynasaur_mcp.errors import LibraryError
from dynasaur_mcp.library.database import use_wal
from dynasaur_mcp.library.words import quote_words

INDEX_FILE = ".index.sqlite3"

LEADING = 2000
"""About so many documents are scored by their words: those with the rarest of them; all where there are no more."""

_SCHEMA_VERSION = 5
_SCHEMA = """
-- size: how many documents there are; SQLite would count them one by one.
CREATE TABLE state (ledger TEXT NOT NULL, revision INTEGER NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL);
INSERT INTO state VALUES ('', 0, '', 0);
CREATE TABLE documents (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, sha256 TEXT NOT NULL, key BLOB NOT NULL);
CREATE VIRTUAL TABLE words USING fts5(
    name, tags, parameters, docstring, examples, queries, tokenize = "porter unicode61 remove_diacritics 2");
-- Of texts, by their hash: a text that comes back has its vector still.
CREATE TABLE vectors (
    key BLOB NOT NULL, model TEXT NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (key, model)) WITHOUT ROWID;
"""
_TABLES = ("state", "documents", "words", "vectors")

_WEIGHTS = (3.0, 2.0, 0.5, 1.5, 0.5, 1.0)
"""Of a word in the name, tags, parameters, docstring, examples, queries."""

_ONCE = 1.2
"""BM25 of a word, as a multiple of its rarity, where a docstring of usual length has it once."""

_log = logging.getLogger(__name__)


class DamagedError(LibraryError):
    """Its file is no good and has been removed; the next use makes it anew."""


class Documents:
    """The file, opened on first use; in memory where there is none to be had. Any thread may use it, one at a time."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        self.life = 0
        """Grows when a damaged file is given up: nothing that was known of it holds for the next."""

    @contextlib.contextmanager
    def using(self) -> Iterator[sqlite3.Connection]:
        """The connection, alone.

        Raises:
            DamagedError
            LibraryError: closed, or it cannot be used now.
        """
        with self._lock:
            if self._closed:
                raise LibraryError("The search index is closed.")
            if self._connection is None:
                self._connection = _open(self._path)
            connection = self._connection
            try:
                yield connection
            except sqlite3.OperationalError as error:
                raise LibraryError(f"The search index cannot be used now: {error}. Try again.") from error
            except sqlite3.DatabaseError as error:
                _log.warning("the search index is damaged and made anew: %s", error)
                self._disconnect()
                self.life += 1
                if self._path is not None:
                    _remove(self._path)
                raise DamagedError("The search index was damaged and is made anew. Try again.") from error
            finally:
                if self._connection is not None and connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, alone, and the file as it is at one moment, whatever others write to it."""
        with self.using() as connection:
            connection.execute("BEGIN")
            yield connection

    @contextlib.contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction."""
        with self.using() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._disconnect()

    def _disconnect(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None


def add_document(connection: sqlite3.Connection, name: str, sha256: str, key: bytes, texts: Sequence[str]) -> None:
    """
    Args:
        key: Hash of the text whose vector is its.
        texts: Name, tags, parameters, docstring, examples and queries, as words.
    """
    query = "INSERT INTO documents (name, sha256, key) VALUES (?, ?, ?) RETURNING id"
    (id_,) = connection.execute(query, (name, sha256, key)).fetchone()
    _add_words(connection, id_, texts)
    connection.execute("UPDATE state SET size = size + 1")


def renew_words(connection: sqlite3.Connection, id_: int, texts: Sequence[str]) -> None:
    """Of the same action: a search that has found it finds it still."""
    connection.execute("DELETE FROM words WHERE rowid = ?", (id_,))
    _add_words(connection, id_, texts)


def _add_words(connection: sqlite3.Connection, id_: int, texts: Sequence[str]) -> None:
    columns = "rowid, name, tags, parameters, docstring, examples, queries"
    connection.execute(f"INSERT INTO words ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", (id_, *texts))


def remove_document(connection: sqlite3.Connection, id_: int) -> None:
    connection.execute("DELETE FROM documents WHERE id = ?", (id_,))
    connection.execute("DELETE FROM words WHERE rowid = ?", (id_,))
    connection.execute("UPDATE state SET size = size - 1")


def match_words(
    connection: sqlite3.Connection, texts: Sequence[Sequence[str]], counts: Mapping[str, int], size: int
) -> list[dict[int, float]]:
    """For each text, ids -> BM25, of the documents that have any of the rarest words of a text.

    Args:
        texts: The words of each.
        counts: For each word, how many documents have it.
        size: How many documents there are.

    Common words are in very many documents: these only add to the score of what rarer ones found, and as if each had
    such a word once. For FTS5's own score of one, all that have it would be counted first.
    """
    there = sorted({word for words in texts for word in words if counts[word]}, key=lambda word: (counts[word], word))
    leading = {word for words in texts for word in _choose_leading(words, counts, size)} or set(there[:1])
    found = quote_words([word for word in there if word in leading])
    once = {word: _ONCE * max(math.log((size - counts[word] + 0.5) / (counts[word] + 0.5)), 0.0) for word in there}
    scores = {word: _score(connection, word) for word in leading}
    for word in there:
        if word not in leading:
            ids = _match(connection, f"({found}) AND {quote_words([word])}", LEADING * len(texts))
            scores[word] = dict.fromkeys(ids, once[word])
            if len(leading) == 1:
                # That may be a common one too, with more documents than were scored.
                scores[there[0]] = dict.fromkeys(ids, once[there[0]]) | scores[there[0]]
    return [_add([scores[word] for word in words if word in scores]) for words in texts]


def _choose_leading(words: Sequence[str], counts: Mapping[str, int], size: int) -> list[str]:
    """The rarest; all in a small library."""
    there = sorted((word for word in words if counts[word]), key=lambda word: counts[word])
    found = itertools.accumulate(counts[word] for word in there)
    return there if size <= LEADING else there[: sum(total <= LEADING for total in found)]


def _add(scores: Sequence[Mapping[int, float]]) -> dict[int, float]:
    sums: dict[int, float] = {}
    for each in scores:
        for id_, score in each.items():
            sums[id_] = sums.get(id_, 0.0) + score
    return sums


def find_names(connection: sqlite3.Connection, ids: Collection[int]) -> dict[int, str]:
    """Of the actions whose documents these are; without those that are none any more."""
    query = "SELECT id, name FROM documents WHERE id IN (SELECT value FROM json_each(?))"
    return dict(connection.execute(query, (json.dumps([*ids]),)).fetchall())


def count_words(connection: sqlite3.Connection, tokens: Sequence[str]) -> dict[str, int]:
    """How many documents have each."""
    query = "SELECT count(*) FROM words WHERE words MATCH ?"
    return {token: int(connection.execute(query, (quote_words([token]),)).fetchone()[0]) for token in tokens}


def explain_words(connection: sqlite3.Connection, tokens: Sequence[str], id_: int) -> tuple[str, ...]:
    """Those that are in a document."""
    query = "SELECT 1 FROM words WHERE words MATCH ? AND rowid = ?"
    return tuple(token for token in tokens if connection.execute(query, (quote_words([token]), id_)).fetchone())


def _score(connection: sqlite3.Connection, word: str) -> dict[int, float]:
    query = f"SELECT rowid, -bm25(words, {', '.join(map(str, _WEIGHTS))}) FROM words WHERE words MATCH ? LIMIT ?"
    return dict(connection.execute(query, (quote_words([word]), LEADING)).fetchall())


def _match(connection: sqlite3.Connection, expression: str, limit: int) -> list[int]:
    query = "SELECT rowid FROM words WHERE words MATCH ? LIMIT ?"
    return [id_ for (id_,) in connection.execute(query, (expression, limit))]


def _open(path: Path | None) -> sqlite3.Connection:
    if path is None:
        return _prepare(":memory:")
    try:
        return _prepare(path)
    except sqlite3.OperationalError as error:
        _log.info("the search index is kept in memory: %s", error)
    except sqlite3.DatabaseError:
        _remove(path)
        with contextlib.suppress(sqlite3.Error):
            return _prepare(path)
    return _prepare(":memory:")


def _prepare(path: Path | str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        use_wal(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN IMMEDIATE")
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found > _SCHEMA_VERSION:
            raise sqlite3.OperationalError("it is of a newer dynasaur-mcp")
        there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if found != _SCHEMA_VERSION or not there.issuperset(_TABLES):
            for table in _TABLES:
                connection.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in _SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            Path(f"{path}{suffix}").unlink()
