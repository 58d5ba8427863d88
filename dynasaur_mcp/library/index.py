"""What makes actions findable: words by SQLite's FTS5, and vectors once an embedder is ready.

All of it can be thrown away: it is made again from the store, and brought in step with it before each search. The words
of a query weigh as much as its meaning: neither alone finds as much on both kinds of requests, short paraphrased ones
and long ones with many parts.

Words, vectors and the file they share are one thing here: all are brought in step under one lock, and a damaged file
is noticed wherever it is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from dynasaur_mcp.errors import ActionNotFound, DynasaurError, LibraryError
from dynasaur_mcp.library.database import use_wal
from dynasaur_mcp.library.embedding import Embedder, Vectors
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.library.words import quote_words, read_query, split_name
from dynasaur_mcp.types import Action, Entry, Match, Status

WORDS_ONLY = "words"
WORDS_AND_MEANING = "words and meaning"

MIN_COSINE = 0.3
"""Below this, and without a common word, an action has nothing to do with the query (all-MiniLM-L6-v2)."""

MIN_SHARE = 0.3
"""Matches that score less than this share of the best one are noise."""

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE documents (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, sha256 TEXT NOT NULL);
CREATE VIRTUAL TABLE words USING fts5(
    name, tags, parameters, docstring, examples, tokenize = "porter unicode61 remove_diacritics 2");
CREATE TABLE vectors (key TEXT PRIMARY KEY, vector BLOB NOT NULL);
"""

_WEIGHTS = (3.0, 2.0, 0.5, 1.5, 0.5)
"""Of a word in the name, tags, parameters, docstring, examples."""

_BATCH = 16
_log = logging.getLogger(__name__)


class Index:
    """Finds the actions of a store. Any thread may search; nothing waits for the embedder to load."""

    def __init__(self, store: Store, path: Path | None, embedder: Embedder | None) -> None:
        """
        Args:
            path: Its database file, made on first use; None, or one that cannot be written: in memory.
        """
        self._store = store
        self._path = path
        self._embedder = embedder
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._revision = -1
        self._vectors: Vectors | None = None
        self._embedding = threading.Lock()
        self._thread: threading.Thread | None = None
        self._names: frozenset[str] = frozenset()
        self._closed = False
        if embedder is not None:
            embedder.when_ready(self._start_embedding)

    @property
    def uses(self) -> str:
        """What a search goes by now."""
        return WORDS_ONLY if self._vectors is None else WORDS_AND_MEANING

    def update(self) -> None:
        """Take in what has changed. All actions are compared: that costs a millisecond and misses nothing."""
        self._sync()

    def settle(self, seconds: float) -> bool:
        """Wait until meaning is up to date, or cannot be; whether searches go by it now."""
        if self._embedder is not None:
            self._embedder.wait(seconds)
        if self._thread is not None:
            self._thread.join(seconds)
        return self.uses == WORDS_AND_MEANING

    def search(self, query: str, limit: int) -> list[Match]:
        """The best matches, best first; none when nothing fits."""
        return self.find(query, limit)[0]

    def find(self, query: str, limit: int) -> tuple[list[Match], int]:
        """The best matches, and how many there are in all."""
        try:
            return self._find(query, limit)
        except _DamagedError:
            return self._find(query, limit)

    def _find(self, query: str, limit: int) -> tuple[list[Match], int]:
        tokens = read_query(query)
        self._sync()
        words = self._match_words(tokens)
        meanings = self._match_meaning(query)
        ranked = _fuse(words, meanings)
        # A score also says how well the best one fits: 1 only if it has every word of the query, or the same meaning.
        best = max(words, key=words.__getitem__, default=None)
        shared = len(self._explain(tokens, best)) / len(tokens) if best else 0.0
        scale = max(shared, *meanings.values(), 0.0)
        matches: list[Match] = []
        for name, score in ranked[:limit]:
            with contextlib.suppress(ActionNotFound):
                why = self._explain(tokens, name) if name in words else ()
                meant = ("meaning",) if meanings.get(name, 0.0) >= MIN_COSINE else ()
                matches.append(Match(self._store.get(name), min(scale * score, 1.0), (*why, *meant)))
        return matches, len(ranked)

    def close(self) -> None:
        """Close it before its store. Waits for the batch that is being embedded."""
        self._closed = True
        with self._embedding, self._lock:
            self._disconnect()

    def _disconnect(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None
        self._revision = -1

    def _match_words(self, tokens: Sequence[str]) -> dict[str, float]:
        """Names -> BM25 relative to the best."""
        if not tokens:
            return {}
        weights = ", ".join(map(str, _WEIGHTS))
        query = f"""SELECT d.name, -bm25(words, {weights}) AS score FROM words JOIN documents d ON d.id = words.rowid
            WHERE words MATCH ? ORDER BY score DESC, d.name"""
        with self._using() as connection:
            rows = connection.execute(query, (quote_words(tokens),)).fetchall()
        # FTS5 gives a word that is in most documents a score of next to nothing, never less than nothing.
        best = max((score for _, score in rows), default=0.0) or 1.0
        return {name: max(score / best, 0.0) for name, score in rows}

    def _match_meaning(self, query: str) -> dict[str, float]:
        """Names -> cosine; empty as long as there is no model."""
        vectors = self._vectors
        if vectors is None or self._embedder is None or not query.strip():
            return {}
        cosines = vectors.compare(self._embedder.embed([query[:2000]])[0])
        return {name: cosine for name, cosine in cosines.items() if name in self._names}

    def _explain(self, tokens: Sequence[str], name: str) -> tuple[str, ...]:
        query = "SELECT 1 FROM words JOIN documents d ON d.id = words.rowid WHERE words MATCH ? AND d.name = ?"
        with self._using() as connection:
            return tuple(
                token for token in tokens if connection.execute(query, (quote_words([token]), name)).fetchone()
            )

    def _sync(self) -> None:
        """Bring the words in step with the store, and let the vectors follow."""
        revision = self._store.revision
        if revision == self._revision:
            return
        wanted = {entry.name: entry for entry in self._store.entries() if entry.status is not Status.DISABLED}
        with self._using() as connection:
            connection.execute("BEGIN IMMEDIATE")
            rows = connection.execute("SELECT name, sha256, id FROM documents").fetchall()
            stale = {id_ for name, sha256, id_ in rows if name not in wanted or wanted[name].action.sha256 != sha256}
            known = {name for name, _, id_ in rows if id_ not in stale}
            connection.executemany("DELETE FROM documents WHERE id = ?", [(id_,) for id_ in stale])
            connection.executemany("DELETE FROM words WHERE rowid = ?", [(id_,) for id_ in stale])
            new = [entry for name, entry in wanted.items() if name not in known]
            for entry in new:
                self._add(connection, entry)
            connection.execute("COMMIT")
            self._revision = revision
            self._names = frozenset(wanted)
        if self._embedder is not None and self._embedder.ready and (stale or new):
            self._start_embedding()

    def _add(self, connection: sqlite3.Connection, entry: Entry) -> None:
        query = "INSERT INTO documents (name, sha256) VALUES (?, ?) RETURNING id"
        (id_,) = connection.execute(query, (entry.name, entry.action.sha256)).fetchone()
        action = entry.action
        parameters = " ".join(f"{split_name(each.name)} {each.description}" for each in action.parameters)
        texts = (
            split_name(action.name),
            " ".join(action.tags),
            parameters,
            action.docstring,
            " ".join(action.examples),
        )
        columns = "rowid, name, tags, parameters, docstring, examples"
        connection.execute(f"INSERT INTO words ({columns}) VALUES (?, ?, ?, ?, ?, ?)", (id_, *texts))

    def _start_embedding(self) -> None:
        self._thread = threading.Thread(target=self._embed_documents, name="embedding", daemon=True)
        self._thread.start()

    def _embed_documents(self) -> None:
        """Give every document its vector, those of unchanged texts from the last time. Runs in a thread of its own."""
        embedder = self._embedder
        if embedder is None:
            return
        with self._embedding:
            try:
                if not self._closed:
                    self._vectors = self._make_vectors(embedder)
            except DynasaurError as error:
                if self._closed:
                    return
                _log.warning("search goes by words alone for now: %s", error)

    def _make_vectors(self, embedder: Embedder) -> Vectors | None:
        entries = [entry for entry in self._store.entries() if entry.status is not Status.DISABLED]
        texts = {entry.name: _write_text(entry.action) for entry in entries}
        keys = {name: _hash_text(embedder.model, text) for name, text in texts.items()}
        kept = self._load_vectors()
        stale = kept.keys() - set(keys.values())
        missing = [name for name, key in keys.items() if key not in kept]
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            kept |= zip((keys[name] for name in batch), embedder.embed([texts[name] for name in batch]), strict=True)
            if self._closed:
                return None
        self._keep_vectors({keys[name]: kept[keys[name]] for name in missing}, stale)
        return Vectors({name: kept[key] for name, key in keys.items()})

    def _load_vectors(self) -> dict[str, bytes]:
        with self._using() as connection:
            return dict(connection.execute("SELECT key, vector FROM vectors").fetchall())

    def _keep_vectors(self, vectors: Mapping[str, bytes], stale: Iterable[str]) -> None:
        with self._using() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("DELETE FROM vectors WHERE key = ?", [(key,) for key in stale])
            connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", vectors.items())
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
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
                if self._path is not None:
                    _remove(self._path)
                raise _DamagedError("The search index was damaged and is made anew. Try again.") from error
            finally:
                if self._connection is not None and connection.in_transaction:
                    connection.execute("ROLLBACK")


class _DamagedError(LibraryError):
    """Its file is no good and has been removed."""


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
        if found != _SCHEMA_VERSION:
            for table in ("documents", "words", "vectors"):
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


def _fuse(words: Mapping[str, float], meanings: Mapping[str, float]) -> list[tuple[str, float]]:
    """Names with scores, best first, without those that do not fit."""
    if not meanings:
        scores = dict(words)
    else:
        near = {name for name, cosine in meanings.items() if cosine >= MIN_COSINE}
        scores = {
            name: 0.5 * words.get(name, 0.0) + 0.5 * max(meanings.get(name, 0.0), 0.0) for name in words.keys() | near
        }
    least = MIN_SHARE * max(scores.values(), default=0.0)
    return sorted(((n, s) for n, s in scores.items() if s >= least), key=lambda pair: (-pair[1], pair[0]))


def _write_text(action: Action) -> str:
    """What is embedded."""
    return f"{split_name(action.name)}. {action.docstring}"


def _hash_text(model: str, text: str) -> str:
    return hashlib.sha256(f"{model}\0{text}".encode()).hexdigest()
